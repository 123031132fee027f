#!/usr/bin/env python3
"""Figures of several programs in one JSON file, a key each, with where and of what they were taken.

PROGRAM | record.py FILE NAME     adds what PROGRAM prints, a JSON object
"""
from __future__ import annotations

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from kit import machine  # noqa: E402


def add(path: pathlib.Path, name: str, figures: dict[str, object]) -> None:
    """Puts the figures under the name, over what was there; other names stay."""
    report = json.loads(path.read_text()) if path.is_file() else {}
    report[name] = {"date": machine.today(), "commit": machine.commit(), "machine": machine.describe(), **figures}
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    add(pathlib.Path(sys.argv[1]), sys.argv[2], json.load(sys.stdin))
