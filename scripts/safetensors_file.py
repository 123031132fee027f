"""Safetensors files as dictionaries of NumPy arrays; to-safetensors.py and from-torch.py share it."""
from __future__ import annotations

import json
import os
import pathlib
import struct

import numpy as np

TYPES = {"U8": "<u1", "I32": "<i4", "I64": "<i8", "F32": "<f4"}
NAMES = {np.dtype(code): name for name, code in TYPES.items()}


def write(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes the file aside and renames it, so that nobody sees half of one."""
    header, at = {}, 0
    for name, a in arrays.items():
        header[name] = {"dtype": NAMES[a.dtype], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = pathlib.Path(path + ".part")
    try:
        with open(part, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for a in arrays.values():
                f.write(np.ascontiguousarray(a).data)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read(path: str) -> dict[str, np.ndarray]:
    """Arrays of their own. Raises ValueError with a sentence."""
    data = pathlib.Path(path).read_bytes()
    try:
        begin = 8 + struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8:begin])
        header.pop("__metadata__", None)
        out = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            flat = np.frombuffer(data[begin + first:begin + last], TYPES[entry["dtype"]])
            out[name] = flat.reshape(entry["shape"]).copy()
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as why:
        raise ValueError(f"{path} is no safetensors file that can be read here: {why}") from why
    return out
