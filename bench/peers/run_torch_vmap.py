#!/usr/bin/env python3
"""All clients of a round at once by torch.func.vmap, as a skilled PyTorch user would write it.

Clients are sorted by their number of steps, so those that still train are always the first ones and
no step is padded to the longest client. --chunk trains that many clients at once instead of all.
"""
from __future__ import annotations

import torch
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from common import Meter, Visit, Work, age, arguments
from models_torch import CONVOLUTIONS, Data, build, count, test_sums

IMPORTED = age()


def make_step(net: torch.nn.Module):
    """The gradient of each client's mean loss on its own batch, with its sums of losses and hits."""
    def loss_of(weights, x, y, live):
        out = functional_call(net, weights, (x,))
        losses = F.cross_entropy(out, y, reduction="none") * live
        hits = ((out.argmax(1) == y) * live).sum()
        return losses.sum() / live.sum(), (losses.sum(), hits)
    return vmap(grad_and_value(loss_of, has_aux=True), randomness="different")


def train_chunk(step, start: dict, data: Data, work: Work, visits: list[Visit], sums: torch.Tensor) -> dict:
    """Trains clients, sorted by steps, together; returns the weighted sum of their weights."""
    device = sums.device
    weights = {k: w.expand(len(visits), *w.shape).clone() for k, w in start.items()}
    steps = [work.steps([v]) for v in visits]
    index, live = (torch.from_numpy(a).to(device) for a in work.padded(visits, steps[0]))
    for s in range(steps[0]):
        n = sum(k > s for k in steps)
        rows = index[s, :n].to(torch.int64)
        part = {k: w[:n] for k, w in weights.items()}
        gradients, (_, (loss, hits)) = step(part, data.x[rows], data.y[rows], live[s, :n])
        torch._foreach_add_(list(part.values()), list(gradients.values()), alpha=-work.lr)
        sums += torch.stack([loss.sum(), hits.sum()])
    share = torch.tensor([float(v.weight) for v in visits], device=device)
    return {k: torch.tensordot(share, w, 1) for k, w in weights.items()}


def main() -> None:
    parse = arguments(__doc__)
    parse.add_argument("--chunk", type=int, default=0, help="clients at once; 0: all of a round")
    parse.add_argument("--conv", choices=CONVOLUTIONS, default="slices")
    args = parse.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    work = Work(args.folder, args.rounds)
    meter = Meter(work, "torch_vmap", torch.__version__, "rows", threads=args.threads, chunk=args.chunk, conv=args.conv)
    meter.imported(IMPORTED)
    net, data = build(work, args.device, args.conv).train(), Data(work, args.device)
    step, chunk = make_step(net), args.chunk or work.cohort
    meter.ready()
    for round_ in range(1, work.rounds + 1):
        visits = sorted(work.visits(round_), key=lambda v: -v.rows.size)
        sums, total = torch.zeros(2, device=args.device), sum(v.weight for v in visits)
        with torch.no_grad():
            start = {k: p.detach() for k, p in net.named_parameters()}
            parts = [train_chunk(step, start, data, work, visits[i:i + chunk], sums)
                     for i in range(0, len(visits), chunk)]
            for name, weight in net.named_parameters():
                weight.copy_(sum(p[name] for p in parts) / total)
        meter.round(*sums.tolist(), sum(v.rows.size for v in visits))
        if work.evaluates(round_):
            loss, hits = test_sums(net, data.x_test, data.y_test).tolist()
            meter.tested(loss / work.answers(), hits / work.answers())
    meter.finish(count(net))


if __name__ == "__main__":
    main()
