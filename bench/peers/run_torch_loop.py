#!/usr/bin/env python3
"""The plain PyTorch loop over clients that a researcher would write.

Each process trains its share of a round's clients, one after another; weights and sums lie in memory
that the processes share.
"""
from __future__ import annotations

import torch
import torch.multiprocessing as mp
from torch import nn

from common import Meter, Work, age, arguments
from models_torch import Data, build, count, test_sums, train_client

IMPORTED = age()


class Shared:
    """What processes hand one another: weights, each one's sum of updates and results."""

    def __init__(self, weights: list[torch.Tensor], processes: int):
        self.weights = [w.detach().clone().share_memory_() for w in weights]
        self.sums = [[torch.zeros_like(w).share_memory_() for w in weights] for _ in range(processes)]
        self.results = torch.zeros(processes, 2, dtype=torch.float64).share_memory_()
        self.todo = mp.Value("i", 0)  # a round's number, minus it to evaluate, 0 to end
        self.begin, self.end = mp.Barrier(processes), mp.Barrier(processes)


@torch.no_grad()
def fetch(net: nn.Module, shared: Shared) -> None:
    for own, common in zip(net.parameters(), shared.weights):
        own.copy_(common)


def train_share(net: nn.Module, data: Data, work: Work, shared: Shared, rank: int, round_: int) -> None:
    visits = sorted(work.visits(round_), key=lambda v: -v.rows.size)
    mine, total = visits[rank::len(shared.sums)], sum(v.weight for v in visits)
    weights, sums = list(net.parameters()), shared.sums[rank]
    shared.results[rank] = 0
    with torch.no_grad():
        torch._foreach_zero_(sums)
    for visit in mine:
        fetch(net, shared)
        shared.results[rank] += train_client(net, data, work, visit.rows).cpu()
        with torch.no_grad():
            torch._foreach_add_(sums, [w.cpu() for w in weights], alpha=visit.weight / total)


def test_share(net: nn.Module, data: Data, shared: Shared, rank: int) -> None:
    fetch(net, shared)
    processes = len(shared.sums)
    x, y = data.x_test.tensor_split(processes)[rank], data.y_test.tensor_split(processes)[rank]
    shared.results[rank] = test_sums(net, x, y).cpu()


def serve(net: nn.Module, data: Data, work: Work, shared: Shared, rank: int, threads: int) -> None:
    """A process other than the first: does its share of whatever the first one asks for."""
    torch.set_num_threads(threads)
    torch.manual_seed(rank)
    while True:
        shared.begin.wait()
        todo = shared.todo.value
        if todo == 0:
            return
        train_share(net, data, work, shared, rank, todo) if todo > 0 else test_share(net, data, shared, rank)
        shared.end.wait()


def ask(net: nn.Module, data: Data, work: Work, shared: Shared, todo: int) -> tuple[float, float]:
    """All processes do their shares; returns the sums of losses and of hits."""
    shared.todo.value = todo
    shared.begin.wait()
    train_share(net, data, work, shared, 0, todo) if todo > 0 else test_share(net, data, shared, 0)
    shared.end.wait()
    loss, hits = shared.results.sum(0).tolist()
    return loss, hits


def main() -> None:
    args = arguments(__doc__).parse_args()
    work = Work(args.folder, args.rounds)
    meter = Meter(work, "torch_loop", torch.__version__, "rows", processes=args.processes, threads=args.threads)
    meter.imported(IMPORTED)
    net, data = build(work, args.device).train(), Data(work, args.device)
    shared = Shared([p.cpu() for p in net.parameters()], args.processes)
    others = [mp.get_context("fork").Process(target=serve, args=(net, data, work, shared, rank, args.threads))
              for rank in range(1, args.processes)]
    for process in others:
        process.start()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    meter.ready()
    for round_ in range(1, work.rounds + 1):
        loss, hits = ask(net, data, work, shared, round_)
        with torch.no_grad():
            for i, weight in enumerate(shared.weights):
                weight.copy_(sum(s[i] for s in shared.sums))
        meter.round(loss, hits, sum(v.rows.size for v in work.visits(round_)))
        if work.evaluates(round_):
            loss, hits = ask(net, data, work, shared, -1)
            meter.tested(loss / work.answers(), hits / work.answers())
    shared.todo.value = 0
    shared.begin.wait()
    for process in others:
        process.join()
    meter.finish(count(net))


if __name__ == "__main__":
    main()
