"""What can be compared: each case is a workload with overrides, a figure, and the ratio that we want."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]  # figures under their names, as they stand in a file


@dataclass(frozen=True)
class Case:
    name: str
    workload: str  # as in `fedlane bench export --workload`
    rounds: int  # timed, after one that warms up
    metric: str = "images_per_second"
    rival_metric: str = ""  # of peers; empty: the same
    higher: bool = True  # is more better?
    target: float = 1.0  # the wanted ratio to the best peer
    tuned: bool = False  # are several settings of each peer tried first?
    overrides: tuple[str, ...] = ()
    help: str = ""

    def ratio(self, ours: float, theirs: float) -> float:
        """How many times better we are."""
        return ours / theirs if self.higher else theirs / ours


def speed(name: str, rounds: int, target: float, help: str) -> Case:
    return Case(name, name, rounds, target=target, tuned=True, help=help)


def memory(clients: int) -> Case:
    return Case(f"memory-{clients}", "memory", 1, "peak_memory_mb", higher=False,
                overrides=(f"train.cohort={clients}",), help=f"LeNet, {clients} clients a round")


def population(power: int) -> Case:
    n = 10 ** power
    return Case(f"population-1e{power}", "population", 10, "setup_seconds", higher=False,
                overrides=(f"data.examples={5 * n}", f"data.partition.clients={n}"),
                help=f"logistic regression, 10^{power} clients of 5 examples, 100 a round")


GROUPS: dict[str, list[Case]] = {
    "a1": [speed("a1", 30, 3, "pfl-research's CIFAR-10: CNN, 50 of 1,000 clients x 50 images, batch 10")],
    "a2": [speed("a2", 30, 3, "FEMNIST's shape: CNN, 62 classes, 10 of 1,000 ragged clients, batch 20")],
    "a3": [speed("a3", 4, 1, "TFF's Shakespeare: LSTM, 10 of 715 clients x 22 sequences of 80, batch 4")],
    "a5": [speed("a5", 2, 3, "BlazeFL's LeNet: 100 of 100 clients x 500 images, 5 epochs, batch 50")],
    "a8": [speed("a8", 100, 10, "logistic regression: 10 of 1,000 clients x 60 images, batch 10")],
    "mlp": [speed("mlp", 50, 5, "784-200-200-10: 10 of 100 clients x 600 images, batch 10")],
    "startup": [Case("startup", "a8", 0, "first_round_seconds", "import_seconds", higher=False,
                     help="a8 from process start to the end of the first round; peers: to the end of their imports")],
    "memory": [memory(n) for n in (1, 10, 100, 1000)],
    "population": [population(n) for n in (3, 4, 5, 6)],
}
FULL_ROUNDS = {"a1": 1500, "a2": 1500, "a5": 5, "a8": 100, "mlp": 100}


def settings_of(peer: str, convolutional: bool, cores: int) -> list[Row]:
    """The settings that are tried for a peer, the usual one first."""
    spread = [{"processes": cores, "threads": 1}, {"processes": 1, "threads": cores}]
    if peer == "blazefl":
        return [s | {"mode": mode} for s in spread[:1] + [{"processes": 2 * cores, "threads": 1}]
                for mode in ("processes", "threads")]
    if peer in ("pfl", "flower"):
        return spread + [{"processes": 2 * cores, "threads": 1}]
    if peer in ("torch_vmap", "jax_vmap"):
        kinds = [{"threads": cores, "chunk": chunk} for chunk in (0, 10, 1)]
        convs = ("direct", "slices") if peer == "torch_vmap" else ("slices", "direct")
        return [k | {"conv": c} for k in kinds for c in convs] if convolutional else kinds
    if peer == "plain_onednn":
        return [{"threads": cores}]
    if peer == "fedjax":
        return [{"conv": c} for c in ("direct", "slices")] if convolutional else [{}]
    return spread if peer == "torch_loop" else [{"threads": cores}, {"threads": 1}]
