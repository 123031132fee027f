#!/usr/bin/env python3
"""A fleet on a Ray cluster: ray_cluster.py [options] CONFIG [key.path=value ...]

The coordinator runs beside this program, a `fedlane serve`; each worker is an actor with one `fedlane work`,
which Ray places where a GPU, or CPUs, are free, and starts again when it or its node dies. The weights are
those of `fedlane run`, whatever happens to the workers. Arguments after the options are those of `fedlane
serve`, --resume included; the exit status is its. Ctrl-C makes it write a checkpoint and end with 130.

    pip install ray
    ray_cluster.py --workers 4 --gpus 1 examples/fashion_mnist.yaml
    ray_cluster.py --ray auto --workers 2 --most 16 --cpus 4 fleet.yaml output=runs/fleet

With --most the fleet grows: as many workers as the cluster has room for, up to that number, come and go while
the run goes on. Keys are made for the run and travel to the actors in memory; `fedlane`, and the data under the
paths of the configuration (or under --work data.path=...), must be on every node.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

try:
    import ray
except ImportError:
    raise SystemExit("ray_cluster.py: it needs Ray: pip install ray")

POLL = 0.5  # seconds between looks at coordinator and workers


class Worker:
    """Holds one `fedlane work`. Its death is the actor's, so that Ray starts both again."""

    def __init__(self, command: list[str], keys: dict[str, bytes]):
        self.keys = tempfile.TemporaryDirectory(prefix="fedlane-")  # mode 0700
        for name, content in keys.items():
            path = pathlib.Path(self.keys.name, name)
            path.touch(mode=0o600)
            path.write_bytes(content)
        words = [word.replace("KEYS", self.keys.name) for word in command]
        self.process = subprocess.Popen(words, preexec_fn=end_with_parent)

    def look(self) -> int:
        """The process's number. Its end, but for that of a complete run, is the actor's too."""
        if self.process.poll():
            self.keys.cleanup()
            os._exit(1)
        return self.process.pid


def end_with_parent() -> None:
    """A killed actor must not leave its process behind (Linux)."""
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Team:
    """The workers: `least` from the beginning, more as the cluster has room for them."""

    def __init__(self, args: argparse.Namespace, command: list[str], keys: dict[str, bytes]):
        options = {"num_cpus": args.cpus, "num_gpus": args.gpus, "max_restarts": -1, "max_task_retries": -1}
        self.kind = ray.remote(Worker).options(**options)
        self.args, self.command, self.keys = args, command, keys
        self.actors: list[ray.actor.ActorHandle] = []
        self.looks: dict[ray.ObjectRef, int] = {}
        self.pids: dict[int, int] = {}
        for _ in range(args.workers):
            self.add()

    def add(self) -> None:
        number = len(self.actors)
        name = ["--name", f"ray-{number}"]
        self.actors.append(self.kind.remote(self.command + name, self.keys))
        self.ask(number)

    def ask(self, number: int) -> None:
        self.looks[self.actors[number].look.remote()] = number

    def has_room(self) -> bool:
        free = ray.available_resources()
        return free.get("CPU", 0) >= self.args.cpus and free.get("GPU", 0) >= self.args.gpus

    def look(self) -> None:
        """Asks those that have answered; restarts are Ray's business, and answers then come later."""
        ready, _ = ray.wait(list(self.looks), num_returns=len(self.looks), timeout=0)
        waits = len(self.looks) > len(ready)
        for answer in ready:
            number, pid = self.looks.pop(answer), ray.get(answer)
            if self.pids.setdefault(number, pid) != pid:
                print(f"ray-{number} has been started again", file=sys.stderr)
            self.pids[number] = pid
            self.ask(number)
        if len(self.actors) < self.args.most and not waits and self.has_room():
            self.add()

    def end(self) -> None:
        for actor in self.actors:
            ray.kill(actor, no_restart=True)


def make_keys(fedlane: str, folder: str) -> dict[str, bytes]:
    """Keys of the run, in a folder of this user's; returns the files that a worker needs."""
    for name in ("coordinator", "worker"):
        subprocess.run([fedlane, "keygen", name, "--folder", folder], check=True, stdout=subprocess.DEVNULL)
    return {name: pathlib.Path(folder, name).read_bytes() for name in ("worker.key", "coordinator.pub")}


def two_ports() -> int:
    """A port that is free, as the one above it is: updates come in there."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("", port + 1))
                return port
            except (OSError, OverflowError):
                continue


def run(args: argparse.Namespace, folder: str) -> int:
    keys, port = make_keys(args.fedlane, folder), args.port or two_ports()
    coordinator = subprocess.Popen(
        [args.fedlane, "serve", args.config, *args.words, f"fleet.listen=tcp://*:{port}",
         f"fleet.peers={args.workers}", f"fleet.key={folder}/coordinator.key", f"fleet.allow={folder}/worker.pub"],
        start_new_session=True)  # Ctrl-C comes to this program, which hands it on
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: coordinator.terminate())
    team = None
    try:
        team = Team(args, [args.fedlane, "work", f"tcp://{ray.util.get_node_ip_address()}:{port}", "--key",
                           "KEYS/worker.key", "--server", "KEYS/coordinator.pub", "--quiet",
                           f"threads={max(1, int(args.cpus))}", *args.work], keys)
        while coordinator.poll() is None:
            team.look()
            time.sleep(POLL)
        return coordinator.returncode
    finally:
        if team:
            team.end()
        if coordinator.poll() is None:
            coordinator.terminate()
            coordinator.wait()


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--workers", type=int, default=1, help="without which the first round does not begin")
    parse.add_argument("--most", type=int, default=0, help="up to which the fleet grows; default: --workers")
    parse.add_argument("--cpus", type=float, default=1, help="of a worker; 1")
    parse.add_argument("--gpus", type=float, default=0, help="of a worker; 0")
    parse.add_argument("--ray", metavar="ADDRESS", help="of a cluster, such as auto; default: a new one here")
    parse.add_argument("--port", type=int, default=0, help="where the coordinator listens; default: any")
    parse.add_argument("--fedlane", default="fedlane", help="the program, on every node")
    parse.add_argument("--work", action="append", default=[], metavar="WORD",
                       help="a word more for `fedlane work`, such as data.path=/local/data")
    parse.add_argument("config")
    args, args.words = parse.parse_known_args()
    args.most = max(args.most, args.workers)
    ray.init(address=args.ray, log_to_driver=False, include_dashboard=False if not args.ray else None)
    with tempfile.TemporaryDirectory(prefix="fedlane-") as folder:
        return run(args, folder)


if __name__ == "__main__":
    sys.exit(main())
