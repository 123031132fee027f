"""What all peers share: the work that `fedlane bench export` wrote, timing, and the JSON line.

A peer is a script `run_PEER.py FOLDER [--processes P] [--threads T] [--device D] [--rounds R]`. FOLDER holds
data.safetensors, weights.safetensors, plan.safetensors and work.json. The first round warms up: it is
timed apart. All sums are over examples, so means do not depend on how a peer groups them.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import struct
import time
from dataclasses import dataclass

import numpy as np

TYPES = {"F32": "<f4", "I32": "<i4", "I64": "<i8", "U8": "|u1"}


def began() -> float:
    """When this process was started, or the one that started it and set PEER_BEGAN; since the machine's start."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    return float(os.environ.get("PEER_BEGAN", ticks / os.sysconf("SC_CLK_TCK")))


def age() -> float:
    """Seconds since the system was started, its interpreter's start included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began()


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a file, mapped and not copied."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    raw = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        out[name] = raw[begin:end].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
    return out


@dataclass(frozen=True)
class Visit:
    """One client in one round: rows [epochs, n] are the examples in the order of their batches."""
    number: int  # counted over all rounds
    client: int
    rows: np.ndarray
    weight: int  # in the mean of the updates


class Work:
    """The work that all systems do, with normalised float pixels in memory."""

    def __init__(self, folder: str, rounds: int = 0, pixels: bool = True):
        self.folder = pathlib.Path(folder)
        settings = json.loads((self.folder / "work.json").read_text())
        self.workload: str = settings["workload"]
        self.model: str = settings["model"]
        self.parameters: int = settings["parameters"]
        self.rounds: int = rounds or settings["rounds"]
        self.population: int = settings["population"]
        self.cohort: int = settings["cohort"]
        self.batch: int = settings["batch"]
        self.epochs: int = settings["epochs"]
        self.classes: int = settings["classes"]
        self.eval_every: int = settings["eval_every"]
        self.lr: float = settings["lr"]
        self.uniform: bool = settings["uniform"]
        plan = read_safetensors(self.folder / "plan.safetensors")
        data = read_safetensors(self.folder / "data.safetensors")
        self.weights = {k: np.array(v) for k, v in read_safetensors(self.folder / "weights.safetensors").items()}
        self.image: tuple[int, ...] = data["x"].shape[1:]
        self.offset = np.searchsorted(data["client"], np.arange(self.population + 1))
        self.sequences: bool = data["y"].ndim == 2  # of tokens, with a label a step, -1 where none counts
        if pixels:
            self._read_pixels(data, plan["shift"], plan["scale"])
        self._clients, self._order = np.array(plan["clients"]), np.array(plan["order"])
        sizes = np.diff(self.offset)[self._clients.reshape(-1)] * self.epochs
        self._begin = np.concatenate([[0], np.cumsum(sizes)])

    def _read_pixels(self, data: dict[str, np.ndarray], shift: np.ndarray, scale: np.ndarray) -> None:
        def normal(x: np.ndarray) -> np.ndarray:
            if self.sequences:
                return x.astype(np.int64)
            out = x.astype(np.float32)
            out -= shift.reshape(-1, 1, 1)
            out *= scale.reshape(-1, 1, 1)
            return out
        self.x, self.x_test = normal(data["x"]), normal(data["x_test"])
        self.y, self.y_test = data["y"].astype(np.int64), data["y_test"].astype(np.int64)

    def answers(self, rows: np.ndarray | None = None) -> int:
        """How many labels of these training examples count; without rows, of the test."""
        y = self.y_test if rows is None else self.y[rows]
        return int((y >= 0).sum()) if self.sequences else y.size

    def visit(self, number: int) -> Visit:
        client = int(self._clients.reshape(-1)[number])
        rows = self._order[self._begin[number]:self._begin[number + 1]].reshape(self.epochs, -1)
        return Visit(number, client, rows, 1 if self.uniform else rows.shape[1])

    def visits(self, round_: int) -> list[Visit]:
        """The clients of round 1, 2 ... in the order in which they were drawn."""
        return [self.visit((round_ - 1) * self.cohort + i) for i in range(self.cohort)]

    def batches(self, visit: Visit) -> list[np.ndarray]:
        return [rows[i:i + self.batch] for rows in visit.rows for i in range(0, len(rows), self.batch)]

    def steps(self, visits: list[Visit]) -> int:
        return max(self.epochs * -(-v.rows.shape[1] // self.batch) for v in visits)

    def padded(self, visits: list[Visit], steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [steps, clients, batch], zero where there are none, and which of them are real."""
        index = np.zeros((steps, len(visits), self.batch), np.int32)
        live = np.zeros((steps, len(visits), self.batch), np.float32)
        for c, visit in enumerate(visits):
            for s, rows in enumerate(self.batches(visit)):
                index[s, c, :len(rows)] = rows
                live[s, c, :len(rows)] = 1
        return index, live

    def evaluates(self, round_: int) -> bool:
        return round_ == self.rounds or (self.eval_every > 0 and round_ % self.eval_every == 0)


class Meter:
    """Takes the time and the results of the rounds. Create it once everything is imported."""

    def __init__(self, work: Work, system: str, version: str, same: str, **settings: object):
        """same: what the peer has in common with fedlane's run: "rows", the same rows in the same batches
        of the same clients; "clients", the same clients and examples; "amount", as many."""
        self.work = work
        self.out = {"system": system, "version": version, "workload": work.workload, "same": same,
                    "settings": settings}
        self.ages: list[float] = []
        self.examples: list[int] = []
        self.train: list[list[float]] = []
        self.test: list[list[float]] = []

    def imported(self, seconds: float) -> None:
        self.out["import_seconds"] = seconds

    def ready(self) -> None:
        self.out["setup_seconds"] = age()

    def round(self, loss_sum: float, hits: float, examples: int) -> None:
        """A round has been trained; its evaluation, if it is due, follows."""
        self.examples.append(examples)
        visits = self.work.visits(len(self.examples)) if self.work.sequences else []
        asked = sum(self.work.answers(v.rows) for v in visits) or examples
        self.train.append([loss_sum / asked, hits / asked])
        self.ages.append(age())

    def tested(self, loss: float, accuracy: float) -> None:
        self.test.append([len(self.ages), loss, accuracy])
        self.ages[-1] = age()

    def finish(self, parameters: int) -> None:
        """Prints the JSON line."""
        seconds = self.ages[-1] - self.ages[0]
        counted = sum(self.examples[1:])
        self.out |= {"rounds": len(self.ages) - 1, "parameters": parameters, "examples": sum(self.examples),
                     "first_round_seconds": self.ages[0], "seconds": seconds,
                     "images_per_second": counted / seconds if counted else None,
                     "train": self.train, "test": self.test}
        print(json.dumps(self.out), flush=True)


def arguments(description: str | None) -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(description=description)
    parse.add_argument("folder", help="what `fedlane bench export --to FOLDER` wrote")
    parse.add_argument("--rounds", type=int, default=0, help="the first round included; 0: all that were exported")
    parse.add_argument("--processes", type=int, default=1)
    parse.add_argument("--threads", type=int, default=1, help="of each process")
    parse.add_argument("--device", default="cpu", help="cpu or cuda")
    return parse
