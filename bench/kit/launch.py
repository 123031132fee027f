"""Runs one system once on exported work, and measures what only an onlooker can: memory and time stamps."""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

from kit.cases import Row

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"


class RunError(Exception):
    """A system did not finish its work; the text says why."""


def family(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path("/proc", entry, "stat").read_text()
        except OSError:
            continue
        children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def proportional_kilobytes(process: int) -> int:
    """Memory of a process, with what it shares divided among those who share it."""
    try:
        lines = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Watch(threading.Thread):
    """Looks twice a second how much memory a process and its descendants hold together."""

    def __init__(self, root: int):
        super().__init__(daemon=True)
        self.root, self.peak, self.over = root, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.peak = max(self.peak, sum(map(proportional_kilobytes, family(self.root))))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, what descends from it, and what it has left running in its group, which is its own."""
    for one in (*family(process.pid), -process.pid):
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            pass


def wait_for(process: subprocess.Popen[bytes], limit: float) -> tuple[bool, int]:
    """Was it in time, and the peak of memory in kilobytes. Nothing that it has started is left running."""
    watch, late = Watch(process.pid), threading.Timer(limit, end_group, (process,))
    watch.start()
    late.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return late.is_alive(), max(watch.peak, usage.ru_maxrss)
    finally:
        late.cancel()
        watch.over.set()
        watch.join()
        end_group(process)


def run_watched(command: list[str], limit: float) -> tuple[str, int]:
    """Standard output and the peak of memory in kilobytes. Raises RunError."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        in_time, kilobytes = wait_for(process, limit)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            said = [line for line in err.read().decode(errors="replace").splitlines() if line.strip()]
            why = (said or ["it said nothing"])[-1].strip() if in_time else f"not done after {limit:.0f} s"
            raise RunError(f"exit {process.returncode}: {why[:300]}")
        return out.read().decode(errors="replace"), kilobytes


def wall_times(path: pathlib.Path) -> list[float]:
    """When each record of a TensorBoard file was written. The first record is written when the run is ready,
    and one follows at the end of each round, its evaluation included."""
    raw, at, times = path.read_bytes(), 0, []
    while at + 12 <= len(raw):
        (size,) = struct.unpack_from("<Q", raw, at)
        if raw[at + 12] != 0x09:  # field 1, a double: wall_time
            raise RunError(f"{path}: a record does not begin with its time")
        times.append(struct.unpack_from("<d", raw, at + 13)[0])
        at += 12 + size + 4
    return times


def run_fedlane(program: str, work: pathlib.Path, rounds: int, device: str, limit: float) -> Row:
    """`fedlane run` as a user would call it, with the rounds' times from its run folder."""
    folder = work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    started = time.time()
    _, kilobytes = run_watched([program, "run", str(work / "config.yaml"), f"output={folder}", "--quiet",
                                f"train.rounds={rounds}", f"device={device}"], limit)
    settings = json.loads((work / "work.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    ready, *ends = (t - started for t in wall_times(folder / "events.out.tfevents.fedlane"))
    seconds, timed = ends[-1] - ends[0], sum(row["examples"] for row in rows[1:])
    return {"system": "fedlane", "version": settings["version"], "workload": settings["workload"], "same": "rows",
            "settings": {"device": device}, "setup_seconds": ready, "first_round_seconds": ends[0],
            "rounds": len(rows) - 1, "seconds": seconds, "images_per_second": timed / seconds if timed else None,
            "parameters": settings["parameters"], "examples": sum(row["examples"] for row in rows),
            "train": [[row["train_loss"], row["train_accuracy"]] for row in rows],
            "test": [[row["round"], row["test_loss"], row["test_accuracy"]] for row in rows if "test_loss" in row],
            "peak_memory_mb": kilobytes / 1024}


def run_peer(peer: str, python: str, work: pathlib.Path, rounds: int, device: str, settings: Row,
             limit: float) -> Row:
    command = [python, str(PEERS / f"run_{peer}.py"), str(work), "--rounds", str(rounds), "--device", device]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    out, kilobytes = run_watched(command, limit)
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if not lines:
        raise RunError("it printed no figures")
    return json.loads(lines[-1]) | {"peak_memory_mb": kilobytes / 1024}


def export(program: str, workload: str, rounds: int, work: pathlib.Path, overrides: tuple[str, ...]) -> Row:
    """Writes the work that all systems do; returns its settings."""
    done = subprocess.run([program, "bench", "export", "--workload", workload, "--rounds", str(rounds), "--to",
                           str(work), *overrides], capture_output=True, text=True)
    if done.returncode != 0:
        raise RunError(done.stderr.strip())
    return json.loads((work / "work.json").read_text())
