#!/usr/bin/env python3
"""The plain PyTorch loop over clients that a researcher would write, on workload a1.

Prints one JSON line. One process a core is started with --processes; each trains its share of the
clients of a round, one after another, on one thread, and the rates are added up. Pixels are random:
speed does not depend on what they show.
"""
import argparse
import json
import multiprocessing as mp
import time

import torch
from torch import nn


def model():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(12544, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10))


def client(net, start, images, labels, lr):
    """Local training of one client; returns its update."""
    with torch.no_grad():
        for p, p0 in zip(net.parameters(), start):
            p.copy_(p0)
    for i in range(0, len(images), 10):
        loss = nn.functional.cross_entropy(net(images[i:i + 10]), labels[i:i + 10])
        for p in net.parameters():
            p.grad = None
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p.sub_(p.grad, alpha=lr)
    with torch.no_grad():
        return [p - p0 for p, p0 in zip(net.parameters(), start)]


def work(seconds, queue):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = model().train()
    start = [p.detach().clone() for p in net.parameters()]
    images, labels = torch.randn(64, 50, 3, 32, 32), torch.randint(0, 10, (64, 50))
    total = [torch.zeros_like(p) for p in start]
    client(net, start, images[0], labels[0], 0.1)
    done, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        k = done % 64
        for t, d in zip(total, client(net, start, images[k], labels[k], 0.1)):
            t.add_(d)
        done += 1
    queue.put(50 * done / (time.monotonic() - begin))


if __name__ == "__main__":
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--seconds", type=float, default=10)
    parse.add_argument("--processes", type=int, default=mp.cpu_count())
    args = parse.parse_args()
    queue = mp.Queue()
    workers = [mp.Process(target=work, args=(args.seconds, queue)) for _ in range(args.processes)]
    for w in workers:
        w.start()
    rate = sum(queue.get() for _ in workers)
    for w in workers:
        w.join()
    print(json.dumps({"system": "torch_loop", "version": torch.__version__, "workload": "a1",
                      "processes": args.processes, "images_per_second": round(rate, 1)}))
