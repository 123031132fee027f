#!/usr/bin/env python3
"""Arrays of NumPy or PyTorch as a data set that `data: {format: safetensors}` reads.

In a program of your own, three lines:

    import numpy
    numpy.savez("set.npz", x=images, y=labels, client=owners)   # and x_test=..., y_test=...
    # then, in a shell: to-safetensors.py set.npz set.safetensors

    to-safetensors.py IN OUT            IN: a .npz, or a .pt with a dictionary of tensors
    to-safetensors.py NAME=FILE... OUT  each array from a file of its own, .npy or .pt

x       [n, features], [n, height, width] or [n, channels, height, width], uint8 or real; or sequences:
        tokens, whole numbers [n, steps], or values, reals [n, steps, features]
y       labels, whole numbers [n], or [n, steps] for sequences (-1: not counted); or targets, reals [n] or
        [n, targets]
client  who owns each training example: whole numbers or texts [n]; left out: nobody is known
x_test, y_test  the test examples, alike

It prints the line for a configuration. Exit status 0 done, 2 when the arrays do not make a data set.
"""
from __future__ import annotations

import argparse
import pickle
import sys
import zipfile
from typing import Any

try:
    import numpy as np
except ImportError:
    sys.exit("to-safetensors.py: it needs NumPy: pip install numpy, or Debian's python3-numpy")

import safetensors_file

NAMES = ("x", "y", "client", "x_test", "y_test")
Arrays = dict[str, np.ndarray]


class Refused(Exception):
    """One sentence for the user."""


def as_array(name: str, value: Any) -> np.ndarray:
    try:
        a = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    except (ValueError, TypeError) as why:
        raise Refused(f"{name} is no array: {why}") from why
    texts = a.dtype == object and all(isinstance(one, str) for one in a.flat)
    if a.dtype == object and not texts:
        raise Refused(f"{name} holds objects; an array of numbers is needed (are its rows of unequal length?)")
    a = a.astype(str) if texts else a
    if a.dtype.kind not in ("biufUS" if name == "client" else "biuf"):
        raise Refused(f"{name} is of type {a.dtype}; numbers are needed")
    return a


def load(path: str) -> Any:
    """What a file holds: one array, or a dictionary of arrays. No code that may lie in it is run."""
    try:
        if path.endswith(".pt"):
            import torch
            return torch.load(path, map_location="cpu", weights_only=True)
        held = np.load(path, allow_pickle=False)
        return dict(held) if isinstance(held, np.lib.npyio.NpzFile) else held
    except ImportError as why:
        raise Refused(f"{path} needs PyTorch, which is not installed") from why
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as why:
        hint = "objects cannot be read" if "pickle" in str(why) else (str(why) or "it is empty").splitlines()[0]
        raise Refused(f"{path}: it holds no plain arrays ({hint})") from why


def gather(inputs: list[str]) -> Arrays:
    """The arrays that the arguments name."""
    pairs = [i.partition("=") for i in inputs]
    if all(equals and name in NAMES for name, equals, _ in pairs):
        found = {name: load(file) for name, _, file in pairs}
    elif len(inputs) == 1:
        found = load(inputs[0])
        if not isinstance(found, dict):
            raise Refused(f"{inputs[0]} holds one array; say which is which: x={inputs[0]} y=...")
    else:
        raise Refused(f"one input is expected, or NAME=FILE for each array; the names are {', '.join(NAMES)}")
    for name in found:
        if name not in NAMES:
            raise Refused(f"'{name}' is unknown; {', '.join(NAMES)} are known")
    return {name: as_array(name, found[name]) for name in NAMES if name in found}


def numbered(owners: np.ndarray) -> np.ndarray:
    """Owners that are texts become numbers, in the order of the alphabet."""
    return np.unique(owners, return_inverse=True)[1] if owners.dtype.kind in "US" else owners


def plain(name: str, a: np.ndarray) -> np.ndarray:
    """The array in a type that fedlane reads: U8, I32, I64 or F32."""
    if a.dtype.kind == "f":
        with np.errstate(over="ignore"):
            a = a.astype("<f4")
        rows = np.flatnonzero(~np.isfinite(a).all(axis=tuple(range(1, a.ndim))))
        if len(rows):
            raise Refused(f"{name}: row {rows[0]} holds a value that is not finite as a 32-bit number")
        return a
    if a.dtype.kind == "b" or a.dtype == np.uint8:
        return a.astype(np.uint8)
    for code in ("<i4", "<i8"):
        limits = np.iinfo(code)
        if limits.min <= int(a.min()) and int(a.max()) <= limits.max:
            return a.astype(code)
    raise Refused(f"{name} holds whole numbers beyond 64 bits")


def whole(a: np.ndarray) -> bool:
    return a.dtype.kind in "iu"


def check_sizes(arrays: Arrays) -> None:
    for name in ("x", "y"):
        if name not in arrays:
            raise Refused(f"{name} is missing; there are {', '.join(arrays) or 'no arrays'}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise Refused("x_test and y_test belong together, and one of them is missing")
    for name, a in arrays.items():
        least, most = (2, 4) if name.startswith("x") else (1, 2) if name.startswith("y") else (1, 1)
        if not least <= a.ndim <= most:
            allowed = f"{least} to {most} dimensions are" if least < most else "1 dimension is"
            raise Refused(f"{name} has the shape {list(a.shape)}; {allowed} expected")
        if a.size == 0:
            raise Refused(f"{name} has the shape {list(a.shape)}, which is empty")
    for one, other in (("x", "y"), ("x", "client"), ("x_test", "y_test")):
        if one in arrays and other in arrays and len(arrays[one]) != len(arrays[other]):
            raise Refused(f"{one} has {len(arrays[one])} rows and {other} {len(arrays[other])}")
    for one, other in (("x", "x_test"), ("y", "y_test")):
        if other in arrays and arrays[one].shape[1:] != arrays[other].shape[1:]:
            raise Refused(f"a row of {one} has the shape {list(arrays[one].shape[1:])}, of {other} "
                          f"{list(arrays[other].shape[1:])}")


def check_values(arrays: Arrays) -> None:
    for one, other in (("x", "x_test"), ("y", "y_test")):
        a, b = arrays[one], arrays.get(other, arrays[one])
        if whole(a) != whole(b) or (one == "x" and (a.dtype == np.uint8) != (b.dtype == np.uint8)):
            raise Refused(f"{one} is of type {a.dtype} and {other} of type {b.dtype}")
    for name, a in arrays.items():
        if name == "client" and not whole(a):
            raise Refused(f"client is of type {a.dtype}; whole numbers or texts are needed")
        if name.startswith("x") and whole(a) and a.dtype != np.uint8 and a.ndim > 2:
            raise Refused(f"{name} holds whole numbers of more than 8 bits; make pixels uint8, and other values real")
        if name != "client" and whole(a):
            least = -1 if name.startswith("y") and a.ndim == 2 else 0
            rows = np.flatnonzero((a < least).reshape(len(a), -1).any(axis=1))
            if len(rows):
                raise Refused(f"{name}: row {rows[0]} holds a number below {least}")
    if whole(arrays["y"]) and arrays["y"].ndim == 2 and arrays["x"].shape[1] != arrays["y"].shape[1]:
        raise Refused(f"y has {arrays['y'].shape[1]} labels a row and x {arrays['x'].shape[1]} steps")


def line_of(path: str, arrays: Arrays) -> str:
    """What to write into a configuration."""
    x, options = arrays["x"], ""
    if whole(x) and x.dtype != np.uint8:
        options = f", tokens: {1 + max(int(arrays[n].max()) for n in ('x', 'x_test') if n in arrays)}"
    elif whole(arrays["y"]) and arrays["y"].ndim == 2:
        options = f", tokens: {1 + int(x.max())}" if x.ndim == 2 and whole(x) else ", steps: true"
    kind = "{kind: natural}" if "client" in arrays else "{kind: iid, clients: 10}"
    return f"data: {{format: safetensors, path: {path}{options}, partition: {kind}}}"


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("input", nargs="+", metavar="IN")
    parse.add_argument("out", metavar="OUT")
    a = parse.parse_args()
    try:
        arrays = gather(a.input)
        check_sizes(arrays)
        if "client" in arrays:
            arrays["client"] = numbered(arrays["client"])
        arrays = {name: plain(name, array) for name, array in arrays.items()}
        check_values(arrays)
        safetensors_file.write(a.out, arrays)
    except (Refused, OSError) as why:
        print(f"to-safetensors.py: {why}", file=sys.stderr)
        return 2
    for name, array in arrays.items():
        print(f"{name:7} {safetensors_file.NAMES[array.dtype]:3} {' x '.join(map(str, array.shape))}")
    print(line_of(a.out, arrays))
    return 0


if __name__ == "__main__":
    sys.exit(main())
