"""What Flower's workers do: a client trains the visit that its message names."""
from __future__ import annotations

import functools
import os

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from common import Work
from models_torch import Data, build, train_client

app = ClientApp()


@functools.lru_cache(maxsize=1)
def loaded(folder: str, device: str) -> tuple[Work, Data, torch.nn.Module]:
    """Once for each worker process, which serves many clients."""
    torch.set_num_threads(int(os.environ["PEER_THREADS"]))
    torch.manual_seed(os.getpid())
    work = Work(folder)
    return work, Data(work, device), build(work, device).train()


@app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content["config"]
    work, data, net = loaded(config["folder"], config["device"])
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    visit = work.visit(int(config["visit"]))
    loss, hits = train_client(net, data, work, visit.rows).tolist()
    metrics = MetricRecord({"weight": visit.weight, "loss": loss, "hits": hits, "examples": visit.rows.size})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)
