#!/usr/bin/env python3
"""apple/pfl-research: SimulatedBackend and FederatedAveraging, several processes by torchrun.

Its sampler is told which client comes next, and a client's data set has its rows in the order of their
batches, so the work is the same. pfl does not report losses during training; the model adds them up.
"""
from __future__ import annotations

import os
import sys

from common import Meter, Work, age, arguments, began

ARGS = arguments(__doc__).parse_args()
if ARGS.processes > 1 and "RANK" not in os.environ:
    os.environ["PEER_BEGAN"] = str(began())
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                              str(ARGS.processes), *sys.argv])
os.environ.setdefault("PFL_PYTORCH_DEVICE", ARGS.device)

import torch  # noqa: E402
from pfl.aggregate.simulate import SimulatedBackend  # noqa: E402
from pfl.aggregate.weighting import WeightByDatapoints  # noqa: E402
from pfl.algorithm.base import NNAlgorithmParams  # noqa: E402
from pfl.algorithm.federated_averaging import FederatedAveraging  # noqa: E402
from pfl.callback.base import TrainingProcessCallback  # noqa: E402
from pfl.data.dataset import Dataset  # noqa: E402
from pfl.data.federated_dataset import FederatedDataset  # noqa: E402
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams  # noqa: E402
from pfl.internal.ops.pytorch_ops import distributed  # noqa: E402
from pfl.metrics import Metrics  # noqa: E402
from pfl.model.pytorch import PyTorchModel  # noqa: E402
from torch import nn  # noqa: E402

from models_torch import Data, asked, build, count, mean_loss, test_sums  # noqa: E402

IMPORTED = age()


class Classifier(nn.Module):
    """The work's model with the two methods that pfl asks for."""

    def __init__(self, net: nn.Module, device: str):
        super().__init__()
        self.net, self.sums = net, torch.zeros(2, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def loss(self, x: torch.Tensor, y: torch.Tensor, eval: bool = False) -> torch.Tensor:
        self.train(not eval)
        out = self(x)
        loss = mean_loss(out, y)
        with torch.no_grad():
            self.sums += torch.stack([loss.detach() * asked(y), (out.argmax(-1) == y).sum()])
        return loss

    def metrics(self, x: torch.Tensor, y: torch.Tensor, eval: bool = True) -> dict:
        return {}


def reduced(sums: torch.Tensor) -> list[float]:
    if distributed.world_size > 1:
        (sums,) = distributed.all_reduce([sums])
    return sums.tolist()


class Rounds(TrainingProcessCallback):
    """Reports each round, and evaluates when it is due, each process on its share."""

    def __init__(self, work: Work, data: Data, meter: Meter, net: Classifier):
        self.work, self.data, self.meter, self.net = work, data, meter, net

    def after_central_iteration(self, aggregate_metrics: Metrics, model: PyTorchModel, *,
                                central_iteration: int) -> tuple[bool, Metrics]:
        round_ = central_iteration + 1
        loss, hits = reduced(self.net.sums.clone())
        self.net.sums.zero_()
        self.meter.round(loss, hits, sum(v.rows.size for v in self.work.visits(round_)))
        if self.work.evaluates(round_):
            rank, world = distributed.global_rank, distributed.world_size
            x, y = self.data.x_test.tensor_split(world)[rank], self.data.y_test.tensor_split(world)[rank]
            loss, hits = reduced(test_sums(self.net.net, x, y))
            self.meter.tested(loss / self.work.answers(), hits / self.work.answers())
        return False, Metrics()


def federated(work: Work, data: Data) -> FederatedDataset:
    """Users are visits, so that the next user is the next client in the order of the plan."""
    def make_dataset(number: int) -> Dataset:
        rows = torch.from_numpy(work.visit(number).rows.reshape(-1)).to(data.y.device, torch.int64)
        return Dataset((data.x[rows], data.y[rows]), user_id=str(number))
    numbers = iter(range(work.rounds * work.cohort))
    sizes = {n: work.visit(n).rows.size for n in range(work.rounds * work.cohort)}
    ragged = len(set(sizes.values())) > 1
    return FederatedDataset(make_dataset, lambda: next(numbers, 0), sizes if ragged else None)


def main() -> None:
    torch.set_num_threads(ARGS.threads)
    torch.manual_seed(distributed.global_rank)
    work = Work(ARGS.folder, ARGS.rounds)
    if work.cohort % distributed.world_size:
        sys.exit(f"{work.cohort} clients a round cannot be shared among {distributed.world_size} processes")
    meter = Meter(work, "pfl", "0.6.0", "rows", processes=ARGS.processes, threads=ARGS.threads)
    meter.imported(IMPORTED)
    data, net = Data(work, ARGS.device), Classifier(build(work, ARGS.device), ARGS.device)
    model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0))
    users = federated(work, data)
    backend = SimulatedBackend(users, users, [] if work.uniform else [WeightByDatapoints()])
    params = NNAlgorithmParams(central_num_iterations=work.rounds, evaluation_frequency=10**9,
                               train_cohort_size=work.cohort, val_cohort_size=0)
    # A visit's rows hold all its epochs one after another, so that each epoch has its own order.
    train = NNTrainHyperParams(local_num_epochs=1, local_learning_rate=work.lr, local_batch_size=work.batch)
    meter.ready()
    FederatedAveraging().run(params, backend, model, train, NNEvalHyperParams(local_batch_size=500),
                             [Rounds(work, data, meter, net)], send_metrics_to_platform=False)
    if distributed.global_rank == 0:
        meter.finish(count(net))


if __name__ == "__main__":
    main()
