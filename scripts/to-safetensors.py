#!/usr/bin/env python3
"""Arrays of NumPy or PyTorch as a data set that `data: {name: safetensors}` reads.

In a program of your own, three lines:

    import numpy
    numpy.savez("set.npz", x=images, y=labels, client=owners)   # and x_test=..., y_test=...
    # then: scripts/to-safetensors.py set.npz set.safetensors

    to-safetensors.py IN OUT         IN: a .npz, or a .pt with a dictionary of arrays
    to-safetensors.py --make NAME=FILE... OUT    each array from a file of its own, .npy or .pt

x       [n, features], [n, height, width] or [n, channels, height, width], uint8 or real; or sequences:
        tokens, whole numbers [n, steps], or values [n, steps, features]
y       labels, whole numbers [n] or [n, steps] (-1: not counted), or targets, reals [n] or [n, targets]
client  who owns each training example: whole numbers or text [n]; left out: none is known
x_test, y_test  the central test, alike

Exit status 0 done, 2 when the arrays do not make a data set.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import struct
import sys
from typing import Any

import numpy as np

NAMES = ("x", "y", "client", "x_test", "y_test")
TYPES = {"uint8": "U8", "int32": "I32", "int64": "I64", "float32": "F32"}


class Refused(Exception):
    pass


def as_array(value: Any) -> np.ndarray:
    """An array of NumPy, PyTorch or anything that can be made one."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def load(path: str) -> Any:
    if not os.path.exists(path):
        raise Refused(f"{path} is not there")
    if path.endswith(".pt"):
        import torch
        return torch.load(path, map_location="cpu")
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as why:
        raise Refused(f"{path}: {why}") from why


def plain(name: str, a: np.ndarray) -> np.ndarray:
    """The array in a type that fedlane reads; NaN and infinity are refused."""
    if a.dtype == object:
        raise Refused(f"{name} holds objects; an array of numbers is needed (are its rows of unequal length?)")
    if a.dtype.kind == "b":
        a = a.astype(np.uint8)
    if a.dtype.kind == "f":
        bad = np.argwhere(~np.isfinite(a.reshape(len(a), -1)).all(axis=1)) if a.size else []
        if len(bad):
            raise Refused(f"{name}: row {int(bad[0][0])} holds a value that is not finite")
        a = a.astype(np.float32)
    if a.dtype.kind in "iu" and a.dtype != np.uint8:
        if a.size and (a.min() < -2**63 or a.max() > 2**63 - 1):
            raise Refused(f"{name} holds whole numbers beyond 64 bits")
        a = a.astype(np.int64)
    if str(a.dtype) not in TYPES:
        raise Refused(f"{name} is of type {a.dtype}; numbers are needed")
    return np.ascontiguousarray(a)


def numbered(owners: np.ndarray) -> np.ndarray:
    """Owners that are texts become numbers, in the order of the alphabet."""
    if owners.dtype.kind in "US":
        return np.unique(owners, return_inverse=True)[1].astype(np.int64)
    return owners


def check(arrays: dict[str, np.ndarray]) -> None:
    for name in ("x", "y"):
        if name not in arrays:
            raise Refused(f"{name} is missing; there are {', '.join(arrays) or 'no arrays'}")
    for name, a in arrays.items():
        if name not in NAMES:
            raise Refused(f"{name} is unknown; {', '.join(NAMES)} are known")
        if a.ndim == 0 or len(a) == 0:
            raise Refused(f"{name} is empty")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise Refused("x_test and y_test belong together, and one of them is missing")
    for one, other in (("x", "y"), ("x", "client"), ("x_test", "y_test")):
        if one in arrays and other in arrays and len(arrays[one]) != len(arrays[other]):
            raise Refused(f"{one} has {len(arrays[one])} rows and {other} {len(arrays[other])}")


def write(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes a safetensors file aside, and renames it."""
    header, at = {}, 0
    for name, a in arrays.items():
        header[name] = {"dtype": TYPES[str(a.dtype)], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = pathlib.Path(path + ".part")
    with open(part, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in arrays.values():
            f.write(a.tobytes())
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--make", action="store_true", help="the inputs are NAME=FILE, an array each")
    parse.add_argument("input", nargs="+")
    parse.add_argument("out")
    a = parse.parse_args()
    try:
        if a.make:
            pairs = [i.partition("=") for i in a.input]
            given = {name: load(file) for name, _, file in pairs}
        elif len(a.input) == 1:
            given = dict(load(a.input[0]))
        else:
            raise Refused("one input is expected, or --make with NAME=FILE for each array")
        arrays = {n: as_array(v) for n, v in given.items()}
        check(arrays)
        if "client" in arrays:
            arrays["client"] = numbered(arrays["client"])
        arrays = {n: plain(n, arrays[n]) for n in NAMES if n in arrays}
        write(a.out, arrays)
    except (Refused, OSError) as why:
        print(f"to-safetensors.py: {why}", file=sys.stderr)
        return 2
    for name, array in arrays.items():
        print(f"{name:8} {TYPES[str(array.dtype)]:4} {' x '.join(map(str, array.shape))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
