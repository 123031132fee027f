"""Where and of what a figure was taken."""
from __future__ import annotations

import datetime
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cores() -> int:
    return len(os.sched_getaffinity(0))


def field(path: str, name: str) -> str:
    try:
        for line in pathlib.Path(path).read_text().splitlines():
            key, _, value = line.partition(":" if ":" in line else "=")
            if key.strip() == name:
                return value.strip().strip('"')
    except OSError:
        pass
    return "unknown"


def said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str:
    """Of the sources; a plus sign says that they were changed since."""
    name = said("git", "rev-parse", "--short", "HEAD") or "unknown"
    return name + "+" if said("git", "status", "--porcelain", "--untracked-files=no") else name


def describe() -> dict[str, object]:
    kilobytes = int(field("/proc/meminfo", "MemTotal").split()[0])
    return {"processor": field("/proc/cpuinfo", "model name"), "cores": cores(),
            "memory_gb": round(kilobytes / 2**20, 1), "system": field("/etc/os-release", "PRETTY_NAME"),
            "kernel": platform.release(), "load_at_start": round(os.getloadavg()[0], 2),
            "gpu": said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or None}


def today() -> str:
    return datetime.date.today().isoformat()
