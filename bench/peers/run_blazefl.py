#!/usr/bin/env python3
"""BlazeFL: its pool of processes (updates in shared memory) or of threads, and its FedAvg aggregation.

BlazeFL is at its best with threads in a Python without a global lock; --mode threads is then the choice.
"""
from __future__ import annotations

import importlib.metadata
import pathlib
import threading
from dataclasses import dataclass

import torch
import torch.multiprocessing as mp
from blazefl.contrib.fedavg import FedAvgBaseServerHandler
from blazefl.core import (IPCMode, ProcessPoolClientTrainer, SHMHandle, ThreadPoolClientTrainer, deserialize_model,
                          serialize_model)

from common import Meter, Work, age, arguments
from models_torch import Data, build, count, test_sums, train_client

IMPORTED = age()
PARSE = arguments(__doc__)
PARSE.add_argument("--mode", choices=("processes", "threads"), default="processes")
ARGS = PARSE.parse_args()


@dataclass
class Package:
    """What a client sends: its weights, in shared memory when a process has trained them."""
    number: int
    weights: torch.Tensor | SHMHandle
    weight: int
    sums: tuple[float, float] = (0.0, 0.0)


class Loaded:
    """What worker processes inherit when they are forked."""
    work: Work
    data: Data


LOCAL = threading.local()


def train_visit(number: int, payload: torch.Tensor) -> Package:
    if not hasattr(LOCAL, "net"):
        torch.set_num_threads(ARGS.threads)
        torch.manual_seed(number)
        LOCAL.net = build(Loaded.work, ARGS.device).train()
    visit = Loaded.work.visit(number)
    deserialize_model(LOCAL.net, payload)
    loss, hits = train_client(LOCAL.net, Loaded.data, Loaded.work, visit.rows).tolist()
    return Package(number, serialize_model(LOCAL.net), visit.weight, (loss, hits))


class Processes(ProcessPoolClientTrainer[Package, torch.Tensor, int]):
    def __init__(self, like: torch.Tensor):
        self.num_parallels, self.device, self.device_count = ARGS.processes, ARGS.device, torch.cuda.device_count()
        self.share_dir, self.ipc_mode = pathlib.Path("."), IPCMode.SHARED_MEMORY
        self.manager = mp.Manager()
        self.stop_event, self.cache, self.like = self.manager.Event(), [], like

    def get_client_config(self, cid: int) -> int:
        return cid

    def prepare_uplink_package_buffer(self) -> Package:
        return Package(-1, self.like.clone(), 0)

    @staticmethod
    def worker(config: int, payload: torch.Tensor, device: str, stop_event: threading.Event, *,
               shm_buffer: Package | None = None) -> Package:
        package = train_visit(config, payload)
        shm_buffer.weights.copy_(package.weights)
        package.weights = SHMHandle()
        return package

    def uplink_package(self) -> list[Package]:
        packages, self.cache = self.cache, []
        return packages


class Threads(ThreadPoolClientTrainer[Package, torch.Tensor]):
    def __init__(self, like: torch.Tensor):
        self.num_parallels, self.device, self.device_count = ARGS.processes, ARGS.device, torch.cuda.device_count()
        self.stop_event, self.cache = threading.Event(), []

    def worker(self, cid: int, device: str, payload: torch.Tensor, stop_event: threading.Event) -> Package:
        return train_visit(cid, payload)

    def uplink_package(self) -> list[Package]:
        packages, self.cache = self.cache, []
        return packages


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1 if ARGS.mode == "processes" else ARGS.threads)
    Loaded.work = work = Work(ARGS.folder, ARGS.rounds)
    meter = Meter(work, "blazefl", importlib.metadata.version("blazefl"), "rows", processes=ARGS.processes,
                  threads=ARGS.threads, mode=ARGS.mode)
    meter.imported(IMPORTED)
    Loaded.data = data = Data(work, ARGS.device)
    net = build(work, ARGS.device)
    trainer = (Processes if ARGS.mode == "processes" else Threads)(serialize_model(net))
    meter.ready()
    for round_ in range(1, work.rounds + 1):
        visits = work.visits(round_)
        trainer.local_process(serialize_model(net), [v.number for v in visits])
        packages = sorted(trainer.uplink_package(), key=lambda p: p.number)
        mean = FedAvgBaseServerHandler.aggregate([p.weights for p in packages], [p.weight for p in packages])
        deserialize_model(net, mean)
        loss, hits = (sum(p.sums[k] for p in packages) for k in range(2))
        meter.round(loss, hits, sum(v.rows.size for v in visits))
        if work.evaluates(round_):
            loss, hits = test_sums(net, data.x_test, data.y_test).tolist()
            meter.tested(loss / work.answers(), hits / work.answers())
    meter.finish(count(net))


if __name__ == "__main__":
    main()
