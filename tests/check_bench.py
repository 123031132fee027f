#!/usr/bin/env python3
"""bench/publish makes a page from figures, bench/compare tells the same work from other work, and
bench ops leaves no op out.

check_bench.py SOURCE FOLDER: both run on figures made here.
"""
import copy
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
sys.dont_write_bytecode = True
sys.path.insert(0, str(source / "bench"))

from kit.cases import GROUPS  # noqa: E402
from kit.check import compare_work  # noqa: E402
from kit.table import judge  # noqa: E402

WORK = {"workload": "a8", "model": "logistic", "examples": 400, "parameters": 7850}


def result(system, rate, **changes):
    out = {"system": system, "version": "1.0", "same": "rows", "settings": {"threads": 2}, "parameters": 7850,
           "examples": 400, "rounds": 2, "seconds": 1.0, "images_per_second": rate, "first_round_seconds": 0.5,
           "setup_seconds": 0.25, "import_seconds": 0.1, "peak_memory_mb": 64.0,
           "train": [[1.0, 0.5], [0.5, 0.75], [0.25, 1.0]], "test": [[3, 0.3, 0.9]]}
    return out | changes


def check_same_work():
    ours = result("fedlane", 100)
    assert compare_work(ours, result("peer", 50), dropout=False) == ""
    slightly = [[1.0, 0.5], [0.5, 0.75], [0.252, 1.0]]
    much = [[1.0, 0.5], [0.5, 0.75], [0.28, 1.0]]
    assert compare_work(ours, result("peer", 50, train=slightly), dropout=False) == ""
    assert "round 3" in compare_work(ours, result("peer", 50, train=much), dropout=False)
    assert compare_work(ours, result("peer", 50, train=much), dropout=True) == ""
    assert "400" in compare_work(ours, result("peer", 50, examples=399), dropout=False)
    assert "7850" in compare_work(ours, result("peer", 50, parameters=7840), dropout=False)
    assert "accuracy" in compare_work(ours, result("peer", 50, test=[[3, 0.3, 0.5]]), dropout=True)
    assert compare_work(ours, result("peer", 50, train=[[float("nan"), 0]] * 3), dropout=False) != ""
    wild = [[9.0, 0.5]] * 3
    assert compare_work(ours, result("peer", 50, train=wild, same="clients"), dropout=False) != ""
    assert compare_work(ours, result("peer", 50, train=wild, same="amount"), dropout=False) == ""


def figures():
    (speed,), (startup,) = GROUPS["a8"], GROUPS["startup"]
    runs = {"fedlane": [result("fedlane", r) for r in (900, 1000, 1100)],
            "slow": [result("slow", r) for r in (90, 100, 110)],
            "quick": [result("quick", r) for r in (1900, 2000, 2100)],
            "other": [result("other", 5000, examples=10)]}
    cases = [judge(speed, WORK, runs, {"broken": "exit 1: no such module"}),
             judge(startup, WORK, {k: runs[k] for k in ("fedlane", "slow")}, {})]
    for case in GROUPS["memory"]:
        clients = int(case.name.split("-")[1])
        cases.append(judge(case, WORK, {"fedlane": [result("fedlane", 9, peak_memory_mb=50.0 + clients / 20)],
                                        "slow": [result("slow", 9, peak_memory_mb=500.0 + clients)]}, {}))
    machine = {"processor": "a processor", "cores": 2, "memory_gb": 8, "system": "a system", "kernel": "1",
               "load_at_start": 0.1, "gpu": None}
    return {"date": "2026-01-02", "machine": machine, "commit": "abc", "device": "cpu", "repeats": 3,
            "command": ["bench/compare", "a8", "--set", "train.epochs=3"], "cases": [case | {"timed_rounds": case["rounds"]} for case in cases]}


def check_table(report):
    case = report["cases"][0]
    assert [row["system"] for row in case["systems"]] == ["fedlane", "quick", "slow", "broken", "other"]
    assert [row.get("ratio") for row in case["systems"]] == [None, 0.5, 10.0, None, None]
    assert case["systems"][2]["value"] == {"median": 100, "least": 90, "most": 110}
    assert "other work: 10 examples, not 400" in case["systems"][4]["error"]
    assert report["cases"][1]["systems"][1]["ratio"] == 0.1 / 0.5  # their imports against our first round


def publish(report, to):
    (to / "figures.json").write_text(json.dumps(report))
    subprocess.run([sys.executable, source / "bench" / "publish", to / "figures.json", "--to", to], check=True)
    return (to / "benchmarks.md").read_text()


def check_page(report):
    text = publish(report, folder)
    lost = text.split("## Where we lose")[1].split("##")[0]
    assert "`a8`: quick is ahead of fedlane, by a factor of 2.00." in lost, lost
    assert "`startup`: slow is ahead of fedlane, by a factor of 5.00." in lost, lost
    assert "1,000 clients a round take 2.00 times" in lost, lost
    assert "| slow 1.0 | 100 (90 to 110) | 10.00 | 0.5 | 64 | threads 2 |" in text
    assert "| broken | not measured: exit 1: no such module |" in text
    assert "batch 10. Here with `train.epochs=3`. Measured as in (1)." in text, text
    assert "2026-01-02, commit abc, a processor, 2 cores, 8 GB" in text
    for name in ("a8", "startup", "memory-peak_memory_mb"):
        assert f"(benchmarks/{name}.svg)" in text, name
        root = xml.etree.ElementTree.parse(folder / "benchmarks" / f"{name}.svg").getroot()
        assert root.tag.endswith("svg") and "slow" in "".join(root.itertext()), name


def check_nothing_lost(report):
    """With the peers that win and the growth taken away there is nothing to confess."""
    fair = copy.deepcopy(report)
    fair["cases"] = [fair["cases"][0], fair["cases"][2]]
    fair["cases"][0]["systems"] = [row for row in fair["cases"][0]["systems"] if row["system"] != "quick"]
    assert "- " not in publish(fair, folder).split("## Where we lose")[1].split("##")[0]


def said(name, *words):
    done = subprocess.run([sys.executable, source / "bench" / name, *words], capture_output=True, text=True)
    return done.returncode, done.stderr


def check_mistakes():
    """One sentence and no traceback."""
    assert said("publish", folder / "none.json") == (1, f"publish: {folder}/none.json: [Errno 2] No such file or "
                                                        f"directory: '{folder}/none.json'\n")
    rc, text = said("compare", "a8", "--peers", "torch_loop,nobody")
    assert rc == 2 and "error: there is no peer nobody; there are blazefl," in text, text


def check_ops():
    """Each slot of ops.h that works on a device's lanes has a row; what only steers a device has none."""
    slots = re.findall(r"fl_status \(\*(\w+)\)\(fl_dev \*d,", (source / "kernels" / "ops.h").read_text())
    steering = {"room", "alloc", "upload", "download", "capture", "play", "energy", "resident"}
    assert steering < set(slots) and len(slots) > 50, slots
    items = (source / "bench" / "op_items.c").read_text()
    called = set(re.findall(r"(?:RUN\(\w+,\s*|r->ops->)(\w+)\(", items))
    assert set(slots) - steering == called, (set(slots) - steering) ^ called


def main():
    folder.mkdir(parents=True, exist_ok=True)
    check_same_work()
    check_ops()
    check_mistakes()
    report = figures()
    check_table(report)
    check_page(report)
    check_nothing_lost(report)
    print("the page, its charts and its losses follow from the figures; every op has its row")


if __name__ == "__main__":
    main()
