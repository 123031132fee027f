#!/usr/bin/env python3
"""scripts/launch/ray_cluster.py on a Ray of its own, with a worker killed in the middle and one more added.

check_ray.py PROGRAM SOURCE FOLDER [PYTHON]: PROGRAM is fedlane; everything is written to FOLDER; PYTHON has Ray
(default: this one). The weights must be those of `fedlane run`, bit for bit. Exit status 77 without Ray.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

PROGRAM, SOURCE, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
PYTHON = sys.argv[4] if len(sys.argv) > 4 else sys.executable
CONFIG = """
name: ray
seed: 3
device: cpu
data: {format: synthetic, partition: {kind: dirichlet, clients: 100, alpha: 0.5}}
model: {name: mlp}
algorithm: {name: scaffold}
train: {rounds: 60, cohort: 60, batch: 10, lr: 0.05}
"""


def workers_of(port: str) -> list[int]:
    """Processes of `fedlane work` that talk to this port."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if len(words) > 2 and words[0] == PROGRAM and words[1] == "work" and words[2].endswith(":" + port):
            found.append(int(folder.name))
    return sorted(found)


def wait_for(what: str, test, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert process.poll() is None, f"it ended with {process.returncode} before {what}"
        assert time.monotonic() < end, f"{what}: not within {seconds} seconds"
        time.sleep(0.1)


def rounds(output: pathlib.Path) -> int:
    path = output / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def main() -> int:
    if subprocess.run([PYTHON, "-c", "import ray"], capture_output=True).returncode != 0:
        print("skipped: Ray is not installed")
        return 77
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    config, alone, fleet = FOLDER / "fleet.yaml", FOLDER / "alone", FOLDER / "fleet"
    config.write_text(CONFIG)
    subprocess.run([PROGRAM, "run", str(config), f"output={alone}", "--quiet"], check=True)

    port = str(20000 + os.getpid() % 6000 * 2)
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    process = subprocess.Popen([PYTHON, str(SOURCE / "scripts/launch/ray_cluster.py"), "--workers", "1", "--most", "2",
                                "--fedlane", PROGRAM, "--port", port, str(config), f"output={fleet}"], env=environment)
    try:
        wait_for("two workers at work", lambda: len(workers_of(port)) == 2 and rounds(fleet) >= 3, process)
        first, killed_at = workers_of(port), rounds(fleet)
        os.kill(first[0], signal.SIGKILL)
        wait_for("another in its place",
                 lambda: len(workers_of(port)) == 2 and first[0] not in workers_of(port), process)
        back_at = rounds(fleet)
        rc = process.wait(timeout=120)
    finally:
        process.kill()
    print(f"a worker of two killed after {killed_at} rounds, another in its place after {back_at}")
    assert rc == 0, f"exit status {rc}"
    assert (alone / "model.safetensors").read_bytes() == (fleet / "model.safetensors").read_bytes(), "other weights"
    lost = [json.loads(line).get("left_out", {}) for line in (fleet / "metrics.jsonl").read_text().splitlines()]
    assert any("lost" in causes for causes in lost), "nobody was lost"
    assert back_at < rounds(fleet), "it was over before the worker came back"
    end = time.monotonic() + 10
    while workers_of(port) and time.monotonic() < end:
        time.sleep(0.1)
    assert not workers_of(port), "workers are left behind"

    failed = subprocess.run([PYTHON, str(SOURCE / "scripts/launch/ray_cluster.py"), "--fedlane", PROGRAM, str(config),
                             f"output={fleet}", "train.lr=-1"], env=environment, capture_output=True, text=True)
    assert failed.returncode == 2, f"a wrong configuration: exit status {failed.returncode}\n{failed.stderr}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
