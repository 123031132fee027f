"""What the trials of fleets share: processes, their end, and the comparison of final weights.

A trial starts a coordinator and workers as a user would, does something to them, and compares the model that the
coordinator leaves with that of `fedlane run`, byte for byte.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "bench"))
from kit import record  # noqa: E402

SETTING = """\
name: trial
seed: 7
device: cpu
data: {format: synthetic, examples: 4000, test: 100, channels: 1, height: 16, width: 16, classes: 10,
       partition: {kind: dirichlet, clients: 60, alpha: 0.5}}
model: {layers: [flatten, {dense: 1100}, relu, {dense: 0}]}
algorithm: {name: fedavg}
train: {rounds: 30, cohort: 20, epochs: 1, batch: 20, lr: 0.05}
eval: {every: 0}
checkpoint: {every: 1}
"""
ALGORITHMS = ["fedavg", "scaffold", "feddyn", "fedavgm"]
LONGEST = 120  # seconds of a trial


class Failed(Exception):
    """A trial did not end as it should; the sentence says how."""


class Bench:
    """A folder with the setting, the models that `fedlane run` makes of it, and the processes of a trial."""

    def __init__(self, program: str, folder: pathlib.Path) -> None:
        self.program, self.folder = program, folder
        self.config = folder / "trial.yaml"
        self.config.write_text(SETTING)
        self.expected: dict[str, bytes] = {}
        self.live: list[subprocess.Popen[bytes]] = []
        self.kills = 0

    def model_of(self, algorithm: str) -> bytes:
        """The model of the in-process run."""
        if algorithm not in self.expected:
            out = self.folder / f"run-{algorithm}"
            subprocess.run([self.program, "run", self.config, f"algorithm.name={algorithm}", f"output={out}",
                            "--quiet"], check=True)
            self.expected[algorithm] = (out / "model.safetensors").read_bytes()
        return self.expected[algorithm]

    def start(self, *words: str | pathlib.Path, within: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Starts fedlane; `within` goes before it on the command line."""
        with open(self.folder / f"{words[0]}.log", "ab") as log:
            process = subprocess.Popen([*(within or []), self.program, *map(str, words)], stdout=log, stderr=log)
        self.live.append(process)
        return process

    def serve(self, address: str, algorithm: str, *words: str, resume: bool = False,
              within: list[str] | None = None) -> subprocess.Popen[bytes]:
        if not resume:
            shutil.rmtree(self.folder / "fleet", ignore_errors=True)
        return self.start("serve", self.config, f"algorithm.name={algorithm}", f"output={self.folder / 'fleet'}",
                          f"fleet.listen={address}", *words, *(["--resume"] if resume else []), within=within)

    def work(self, address: str, *words: str, within: list[str] | None = None) -> subprocess.Popen[bytes]:
        return self.start("work", address, "threads=1", *words, within=within)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.live.remove(process)
        self.kills += 1

    def end(self, coordinator: subprocess.Popen[bytes], algorithm: str, expected: bytes) -> None:
        """The coordinator has ended: it must have succeeded, with these weights."""
        if coordinator.returncode != 0:
            raise Failed(f"serve ended with {coordinator.returncode}; see {self.folder / 'serve.log'}")
        if (self.folder / "fleet" / "model.safetensors").read_bytes() != expected:
            raise Failed(f"{algorithm}: other weights than those of `fedlane run`")

    def clear(self) -> None:
        """Ends what a trial has left behind."""
        for process in list(self.live):
            if process.poll() is None:
                process.kill()
            process.wait()
        self.live.clear()


def free_address() -> str:
    """A tcp address of which this port and the next are free now."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", 0))
                port = one.getsockname()[1]
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return f"tcp://127.0.0.1:{port}"
    raise Failed("no two ports in a row are free")


def left_out(folder: pathlib.Path) -> dict[str, int]:
    """What the coordinator's metrics count as left out, over all rounds."""
    total: dict[str, int] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        for cause, n in (json.loads(line).get("left_out") or {}).items():
            total[cause] = total.get(cause, 0) + n
    return total


def main(name: str, what: str, default: int, trial) -> int:
    """Runs trials of `trial(bench, random, number)`, which returns a line's end or raises Failed."""
    parser = argparse.ArgumentParser(prog=name, description=what)
    parser.add_argument("n", nargs="?", type=int, default=default, help=f"trials (default: {default})")
    parser.add_argument("--program", default=str(SOURCE / "build/release/fedlane"), help="fedlane, as it was built")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default: 1)")
    parser.add_argument("--json", type=pathlib.Path, help="adds the result to this file")
    args = parser.parse_args()
    if not pathlib.Path(args.program).is_file():
        print(f"{name}: there is no {args.program}; build it, or say --program", file=sys.stderr)
        return 2
    failed, causes, begun = 0, {}, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fedlane-trial-") as folder:
        bench = Bench(str(pathlib.Path(args.program).resolve()), pathlib.Path(folder))
        for i in range(args.n):
            rng, start = random.Random(f"{args.seed} {i}"), time.monotonic()
            try:
                line = trial(bench, rng, i)
                for cause, n in left_out(bench.folder / "fleet").items():
                    causes[cause] = causes.get(cause, 0) + n
            except (Failed, OSError) as error:
                failed, line = failed + 1, f"FAILED: {error}"
                for log in ("serve.log", "work.log"):
                    if (bench.folder / log).is_file():
                        print(f"--- {log}", *(bench.folder / log).read_text().splitlines()[-8:], sep="\n    ")
            finally:
                bench.clear()
            print(f"{name} {i + 1}/{args.n}: {line}, {time.monotonic() - start:.1f} s", flush=True)
    seconds = time.monotonic() - begun
    print(f"{name}: {args.n - failed} of {args.n} trials ended with the same bits as fedlane run, {seconds:.0f} s; "
          f"{bench.kills} killed; left out on the way: {', '.join(f'{n} {c}' for c, n in sorted(causes.items())) or 'nothing'}")
    if args.json:
        record.add(args.json, name, {"trials": args.n, "same_bits": args.n - failed, "kills": bench.kills,
                                     "seconds": round(seconds), "seed": args.seed,
                                     "left_out": dict(sorted(causes.items()))})
    return 1 if failed else 0
