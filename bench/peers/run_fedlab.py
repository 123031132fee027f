#!/usr/bin/env python3
"""FedLab's standalone simulation: clients in one process, one after another, FedAvg on the server."""
from __future__ import annotations

import logging

import fedlab
import torch
from fedlab.contrib.algorithm.basic_client import SGDSerialClientTrainer
from fedlab.contrib.algorithm.basic_server import SyncServerHandler
from fedlab.core.standalone import StandalonePipeline
from fedlab.utils import Aggregators, SerializationTool

from common import Meter, Work, age, arguments
from models_torch import Data, build, count, test_sums, train_client

IMPORTED = age()


class Trainer(SGDSerialClientTrainer):
    """Trains visits; a package is the weights, their weight in the mean, and the sums of losses and hits."""

    def __init__(self, net: torch.nn.Module, work: Work, data: Data, cuda: bool):
        super().__init__(net, work.population, cuda=cuda, logger=logging.getLogger("fedlab"))
        self.work, self.data = work, data

    def local_process(self, payload: list[torch.Tensor], id_list: list[int]) -> None:
        for number in id_list:
            visit = self.work.visit(number)
            SerializationTool.deserialize_model(self._model, payload[0])
            sums = train_client(self._model, self.data, self.work, visit.rows)
            self.cache.append([self.model_parameters, torch.tensor(float(visit.weight)), sums])


class Handler(SyncServerHandler):
    """Draws the clients of the plan and weighs them."""

    def __init__(self, net: torch.nn.Module, work: Work, meter: Meter, cuda: bool):
        super().__init__(net, work.rounds, 1.0, cuda=cuda, logger=logging.getLogger("fedlab"))
        self.work, self.meter = work, meter

    @property
    def num_clients_per_round(self) -> int:
        return self.work.cohort

    def sample_clients(self) -> list[int]:
        return [v.number for v in self.work.visits(self.round + 1)]

    def global_update(self, buffer: list[list[torch.Tensor]]) -> None:
        mean = Aggregators.fedavg_aggregate([p[0] for p in buffer], [p[1] for p in buffer])
        SerializationTool.deserialize_model(self._model, mean)
        loss, hits = sum(p[2] for p in buffer).tolist()
        self.meter.round(loss, hits, sum(v.rows.size for v in self.work.visits(self.round + 1)))


class Pipeline(StandalonePipeline):
    def evaluate(self) -> None:
        work, data = self.handler.work, self.trainer.data
        if work.evaluates(self.handler.round):
            loss, hits = test_sums(self.handler.model, data.x_test, data.y_test).tolist()
            self.handler.meter.tested(loss / work.answers(), hits / work.answers())


def main() -> None:
    args = arguments(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    work, cuda = Work(args.folder, args.rounds), args.device != "cpu"
    meter = Meter(work, "fedlab", fedlab.__version__, "rows", threads=args.threads)
    meter.imported(IMPORTED)
    net, data = build(work, args.device).train(), Data(work, args.device)
    pipeline = Pipeline(Handler(build(work, args.device), work, meter, cuda), Trainer(net, work, data, cuda))
    meter.ready()
    pipeline.main()
    meter.finish(count(net))


if __name__ == "__main__":
    main()
