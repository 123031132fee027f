"""Workload a1 in plain C on oneDNN: hands over to the program, which `ninja plain_onednn` builds."""
import os
import pathlib
import sys

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "build" / "release" / "plain_onednn"

if __name__ == "__main__":
    os.execv(PROGRAM, [str(PROGRAM), *sys.argv[1:]])
