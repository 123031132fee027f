#!/usr/bin/env python3
"""scripts/gpu-check on a machine without a GPU: a bundle of pretended programs, one of which hangs.

check_gpu_check.py SOURCE FOLDER: a step that hangs or fails costs no other step its result, a call ends in time,
and the next call does what is left and nothing twice.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

SMI = """#!/bin/sh
case $1 in *name*) echo "NVIDIA Pretended 100" ;; *) echo 1 ;; esac
"""
# The suite `ops` hangs while a file `hang` is there, `metrics` fails; all calls are kept in a file.
SUITES = """#!/bin/sh
echo "$*" >>calls
[ "$1" != ops ] || [ ! -f hang ] || sleep 600
echo "skipped: one thing"
[ "$1" != metrics ]
"""
PROGRAM = """#!/bin/sh
echo "$*" >>calls
for word; do last=$word; [ "$before" != --json ] || echo '{"rounds": 1}' >"$word"; before=$word; done
echo "  images/s          12   (slowest)"
[ "$2" != ops ] || echo "verdict: mix has 0.90 of a copy's bandwidth; 0.85 is asked: met"
"""


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def check(limit, expected):
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "LIMIT_S": str(limit)}
    env.pop("ONLY", None)
    run = subprocess.run([folder / "gpu-check"], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == expected, (run.returncode, run.stderr)
    (path,) = (folder / "bench" / "results").glob("*.json")
    assert path.name.startswith("nvidia-pretended-100-")
    return run.stdout, json.loads(path.read_text()), (folder / "calls").read_text().splitlines()


def main():
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    for name in ("gpu-check", "gpu-suites"):
        shutil.copy(source / "scripts" / name, folder)
    (folder / "VERSION").write_text("abc\n")
    (folder / "hang").touch()
    program(folder / "nvidia-smi", SMI)
    program(folder / "bin" / "suites", SUITES)
    program(folder / "bin" / "fedlane", PROGRAM)
    program(folder / "compute-sanitizer", "#!/bin/sh\nexit 9\n")
    # In 12 s the suite that hangs takes all the time there is.
    table, found, calls = check(12, 1)
    assert found["suites"] == {"backend": "passed, 1 skipped", "ops": "not done in time"}, found
    assert "| ops | not done in time |" in table and calls == ["backend", "ops"], (table, calls)
    # The next call does it again, and all that is left.
    (folder / "hang").unlink()
    table, found, calls = check(300, 1)
    names = (source / "scripts" / "gpu-suites").read_text().split()
    assert list(found["suites"]) == sorted(names) and found["commit"] == "abc"
    assert found["suites"]["ops"] == "passed, 1 skipped" and found["suites"]["metrics"] == "failed"
    assert found["benches"]["a1-tf32-whole"] == {"rounds": 1} and found["sanitizer"]["racecheck"] == "found errors"
    assert "| ops-tf32 | mix has 0.90 of a copy's bandwidth; 0.85 is asked: met |" in table, table
    assert "| ops | not done" not in table and "| metrics | failed |" in table, table
    assert calls.count("backend") == 1 and calls.count("ops") == 2, calls
    # A third one has nothing to do but what failed.
    _, _, again = check(300, 1)
    assert again[len(calls):] == ["metrics"], again[len(calls):]
    print("a step that hangs or fails loses no other step's result")


if __name__ == "__main__":
    main()
