#!/usr/bin/env python3
"""bench/compare runs fedlane and the PyTorch loop on a small workload, and both do the same work.

check_compare.py PROGRAM SOURCE FOLDER: logistic regression and LeNet, two epochs, clients of unequal
sizes, and an LSTM over sequences of unequal lengths, so that batches, epochs, weights of the mean, the order of
rows and the labels that count must all agree to the last digits of a float. Exit status 77 when torch is not installed.
"""
import json
import pathlib
import shutil
import subprocess
import sys

try:
    import torch  # noqa: F401
except ImportError:
    print("skipped: torch is not installed")
    sys.exit(77)

IMAGES = ["data.examples=230", "data.test=60", "data.partition.kind=quantity", "data.partition.clients=6",
          "data.partition.alpha=5", "train.batch=7"]
SEQUENCES = ["data.examples=30", "data.test=8", "data.clients=6", "train.batch=2"]
SMALL = {"a8": IMAGES, "a5": IMAGES, "a3": SEQUENCES}
ALL = ["train.cohort=4", "train.epochs=2", "eval.every=2"]


def compare(program, source, folder, workload):
    figures = folder / f"{workload}.json"
    subprocess.run([sys.executable, source / "bench" / "compare", workload, "--fedlane", program, "--rounds", "2",
                    "--repeats", "2", "--untuned", "--peers", "torch_loop,pfl", "--python",
                    f"torch_loop={sys.executable}", "--venv", folder, "--json", figures,
                    *(word for setting in SMALL[workload] + ALL for word in ("--set", setting))], check=True)
    return json.loads(figures.read_text())["cases"][0]


def check(case):
    rows = {row["system"]: row for row in case["systems"]}
    assert list(rows) == ["fedlane", "torch_loop", "pfl"], list(rows)
    assert rows["pfl"]["error"] == "it is not there; `bench/peers/setup pfl` makes it", rows["pfl"]
    assert rows["torch_loop"]["error"] is None, rows["torch_loop"]
    ours, theirs = rows["fedlane"]["runs"][0], rows["torch_loop"]["runs"][0]
    assert len(rows["fedlane"]["runs"]) == len(rows["torch_loop"]["runs"]) == 2
    assert ours["examples"] == theirs["examples"] == case["work"]["examples"] > 0
    assert len(ours["train"]) == 3 and [t[0] for t in ours["test"]] == [2, 3], ours
    for (a, _), (b, _) in zip(ours["train"], theirs["train"]):
        assert abs(a - b) < 1e-4 * a, (ours["train"], theirs["train"])
    for a, b in zip(ours["test"], theirs["test"]):
        assert a[0] == b[0] and abs(a[1] - b[1]) < 1e-4 * a[1], (ours["test"], theirs["test"])
    for run in (ours, theirs):
        assert 0 < run["setup_seconds"] <= run["first_round_seconds"] and run["seconds"] > 0, run
        assert run["peak_memory_mb"] > 1 and run["images_per_second"] > 0, run


def main():
    program, source, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for workload in SMALL:
        check(compare(program, source, folder, workload))
    print(f"fedlane and the PyTorch loop did the same work on {', '.join(SMALL)}, round by round to 1e-4")


if __name__ == "__main__":
    main()
