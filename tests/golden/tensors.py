"""Writes safetensors files: a header length, a JSON header, the tensors one after another."""

import json
import pathlib
import struct

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent
TYPES = {"float32": "F32", "int64": "I64", "int32": "I32"}


def write(name, tensors, metadata=None):
    """tensors: name -> array of float32, float64 (stored as float32), int32 or int64."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for key, value in tensors.items():
        value = np.asarray(value)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        raw = np.ascontiguousarray(value).tobytes()
        header[key] = {
            "dtype": TYPES[str(value.dtype)],
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    (FOLDER / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
