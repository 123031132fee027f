#!/usr/bin/env python3
"""Messages and payloads pass between fedlane and Python's msgpack, NumPy and xxhash.

check_wire.py DUMP SOURCE FOLDER: DUMP (tests/wire/dump.c) writes examples of every message and payload
to FOLDER; they are decoded here and compared with the values below, which are written down a second
time on purpose. Then messages are encoded here, in forms that other languages choose, and DUMP reads
them. Last, the tables and examples of SOURCE/docs/wire.md must be those that DUMP prints.
Exit status 77 when a module is missing.
"""
import pathlib
import shutil
import struct
import subprocess
import sys

try:
    import msgpack
    import numpy as np
    import xxhash
except ImportError as absent:
    print(f"skipped: {absent}")
    sys.exit(77)

S = 0x0123456789ABCDEF
EXPECTED = {
    "hello": dict(wire=1, session=0, peer=1, examples=600, name="car-17", program="client.py 1"),
    "welcome": dict(wire=1, session=S, elements=7850, vectors=1, updates=1, own=0, chunk=1048576,
                    digest=b"5f0c9a3be1d27846", config="name: fleet\n",
                    layout="fc.weight 0 10 784\nfc.bias 7840 10\n", pipeline="tcp://*:7001", patience=10.0,
                    people=0xFEDCBA9876543210),
    "ready": dict(session=S, lanes=1, people=0, credit=1),
    "work": dict(session=S, round=3, block=12, first=40, count=1, bits=36, epochs=2, batch=20, lr=0.05,
                 deadline=60.0),
    "fetch": dict(session=S, round=3, vector=0, **{"from": 0}, count=8),
    "chunk": dict(session=S, round=3, upload=5, stream=1024, payload=1, offset=4096, count=8,
                  body=0xFEDCBA9876543210),
    "trained": dict(session=S, round=3, block=12, seconds=1.25, loss=np.array([2.5, 0.75]).tobytes(),
                    hit=np.array([17, 20]).tobytes(), good=bytes([1, 0])),
    "collect": dict(session=S, round=3, upload=5),
    "update": dict(session=S, round=3, upload=5, payload=1, blocks=np.uint32([12]).tobytes(),
                   streams=np.uint32([1024]).tobytes(), weight=600, examples=600, steps=60, loss=431.5,
                   hits=1022),
    "received": dict(session=S, round=3, upload=5, mixed=True),
    "refuse": dict(session=S, round=3, block=12, why="the battery is low: 7 °C"),
    "cancel": dict(session=S, round=3),
    "ping": dict(session=S, round=3),
    "pong": dict(session=S, round=3),
    "alive": dict(session=S, seconds=10.0),
    "leave": dict(session=S),
    "offer": dict(session=S, version=22304, why="libnccl.so.2 cannot be loaded"),
    "accept": dict(session=S, id=bytes([2, 0, 0xC3, 0x50, 10, 0, 0, 5]) + bytes(120)),
    "bye": dict(session=S, code=0, why="100 rounds are done"),
}
OPTIONAL = {("welcome", "people")}  # may be missing, which is 0
FLOATS = np.float32([1, -0.5, 0, 0.1, 3.14159274, 0, -127, 0])


def seal(packed):
    return packed + struct.pack("<Q", xxhash.xxh3_64_intdigest(packed))


def open_frame(frame):
    packed, digest = frame[:-8], struct.unpack("<Q", frame[-8:])[0]
    assert digest == xxhash.xxh3_64_intdigest(packed)
    return msgpack.unpackb(packed, raw=False), packed


def body(kind, count, data):
    """A payload as floats, from docs/wire.md alone."""
    if kind == "float32":
        return np.frombuffer(data, "<f4")
    if kind == "bfloat16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    if kind == "int8":
        parts = []
        while data:
            n = min(256, count - sum(map(len, parts)))
            parts.append(np.frombuffer(data[4:4 + n], "i1") * np.frombuffer(data[:4], "<f4"))
            data = data[4 + n:]
        return np.concatenate(parts)
    out = np.zeros(count, "<f4")
    pairs = np.frombuffer(data, [("place", "<u4"), ("value", "<f4")])
    out[pairs["place"]] = pairs["value"]
    return out


def check_written(folder):
    for kind, fields in EXPECTED.items():
        got, packed = open_frame((folder / f"{kind}.frame").read_bytes())
        assert got.pop("kind") == kind and got == fields, (kind, got)
        assert all(type(got[name]) is type(fields[name]) for name in fields), kind
        for extreme in ("smallest", "largest"):
            got, packed = open_frame((folder / f"{kind}.{extreme}").read_bytes())
            assert set(got) == {"kind", *fields}
            assert msgpack.packb(got, use_bin_type=True) == packed
    for kind, error in (("float32", 0), ("bfloat16", 0.01), ("int8", 0.5), ("sparse", 0)):
        got = body(kind, 8, (folder / f"{kind}.body").read_bytes())
        assert len(got) == 8 and np.abs(got - FLOATS).max() <= error, (kind, got)
    assert np.frombuffer((folder / "sum.body").read_bytes(), "<i8").tolist() == [-1, 2**40]


def text(value):
    """A value as DUMP prints it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.17g}"
    if isinstance(value, int):
        return str(value)
    return (value if isinstance(value, bytes) else value.encode()).hex()


def foreign(kind, fields):
    """The forms of a message that other languages may choose."""
    whole = {"kind": kind, **fields}
    yield msgpack.packb(whole)
    yield msgpack.packb(dict(sorted(whole.items(), reverse=True)))
    yield msgpack.packb({"extra": [1, {"deep": [None, 2.5]}], **whole, "more": msgpack.ExtType(5, b"x")})
    wide = msgpack.Packer().pack_map_header(len(whole))
    for name, value in whole.items():
        wide += msgpack.packb(name)
        if type(value) is int:
            wide += b"\xcf" + struct.pack(">Q", value)
        elif type(value) is float and value == np.float32(value):
            wide += b"\xca" + struct.pack(">f", value)
        elif type(value) is str:
            wide += b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
        elif type(value) is bytes:
            wide += b"\xc6" + struct.pack(">I", len(value)) + value
        else:
            wide += msgpack.packb(value)
    yield wide
    yield msgpack.packb({name: int(v) if type(v) is float and v == int(v) else v for name, v in whole.items()})


def bad(kind, fields):
    """Messages that must be refused."""
    whole = {"kind": kind, **fields}
    for name in whole:
        if (kind, name) not in OPTIONAL:
            yield msgpack.packb({k: v for k, v in whole.items() if k != name})
        yield msgpack.packb({**whole, name: None})
        yield msgpack.packb({**whole, name: [whole[name]]})
        yield msgpack.packb({**whole, name: -1}) if name != "loss" else msgpack.packb({**whole, name: "x"})
    yield msgpack.packb(whole) + b"\xc0"
    yield msgpack.packb(list(whole.items()))


def read(dump, folder, frames):
    paths = []
    for i, frame in enumerate(frames):
        paths.append(folder / f"python-{i}")
        paths[-1].write_bytes(frame)
    done = subprocess.run([dump, "read", *paths], check=True, capture_output=True, text=True)
    return [line.split(": ", 1)[1] for line in done.stdout.splitlines()]


def check_read(dump, folder):
    for kind, fields in EXPECTED.items():
        expected = " ".join([kind, *(f"{name}={text(value)}" for name, value in fields.items())])
        for got in read(dump, folder, [seal(packed) for packed in foreign(kind, fields)]):
            assert got == expected, (got, expected)
        for got in read(dump, folder, [seal(packed) for packed in bad(kind, fields)]):
            assert got.startswith("refused: "), (kind, got)
    for kind, name in OPTIONAL:
        without = {k: v for k, v in EXPECTED[kind].items() if k != name}
        (got,) = read(dump, folder, [seal(msgpack.packb({"kind": kind, **without}))])
        assert got.endswith(f" {name}=0"), got
    frame = seal(msgpack.packb({"kind": "leave", "session": S}))
    flipped = [bytes(b ^ (i == at) for i, b in enumerate(frame)) for at in range(len(frame))]
    cut = [frame[:n] for n in range(len(frame))]
    assert all(got.startswith("refused: ") for got in read(dump, folder, flipped + cut))


def check_document(dump, source, folder):
    """docs/wire.md has what DUMP prints, and the bodies of its examples."""
    document = (source / "docs" / "wire.md").read_text()
    tables = subprocess.run([dump, "tables"], check=True, capture_output=True, text=True).stdout
    for table in tables.split("### ")[1:]:
        assert "### " + table.strip() in document, "docs/wire.md lacks or contradicts:\n### " + table
    assert len(tables.split("### ")) - 1 == len(EXPECTED)
    for kind in ("float32", "bfloat16", "int8", "sparse", "sum"):
        data = (folder / f"{kind}.body").read_bytes().hex()
        words = " ".join(data[i:i + 8] for i in range(0, len(data), 8))
        assert words in document, f"docs/wire.md lacks the bytes of {kind}: {words}"


def main():
    dump, source, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run([dump, "write", folder], check=True)
    check_written(folder)
    check_read(dump, folder)
    check_document(dump, source, folder)
    print("the wire is as docs/wire.md says")


main()
