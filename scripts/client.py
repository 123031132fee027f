#!/usr/bin/env python3
"""Joins a fedlane coordinator as one client with data of its own, over plain ZeroMQ: docs/wire.md.

    client.py ADDRESS DATA.npz [--name NAME] [--payload float32|bfloat16] [--key NAME.key --server KEY.pub]

DATA holds x [n, ...], numbers as the model shall see them, and y [n], labels. `train` fits softmax
regression (`model: {name: logistic}`) with NumPy. To train anything else, give `take_part` a function of
your own, as client_torch.py does. Needs Debian's python3-zmq, python3-msgpack, python3-numpy and
python3-xxhash; the coordinator has `fleet: {clients: real}` in its configuration.
"""
import argparse
import os
import socket
import sys
import threading
import time

try:
    import msgpack
    import numpy as np
    import xxhash
    import zmq
except ImportError as why:
    raise SystemExit(f"client.py: {why}: pip install pyzmq msgpack numpy xxhash, or Debian's python3-zmq, "
                     "python3-msgpack, python3-numpy and python3-xxhash")

CHUNK = 1 << 20  # bytes of a second frame at most
PAYLOADS = {"float32": (0, 4), "bfloat16": (1, 2)}  # number, bytes of an element


class Session:
    """A socket to the coordinator, and the messages that pass through it."""

    def __init__(self, address, name, key=None, server=None):
        self.address, self.keys = address, (key, server)
        self.number, self.patience, self.hello = 0, 10, {"wire": 1, "peer": 1, "name": name, "program": "client.py"}
        self.socket = self.connect(zmq.DEALER, address)

    def connect(self, kind, address):
        opened = zmq.Context.instance().socket(kind)
        if self.keys[0]:
            try:
                own, theirs = ({line.split()[1]: line.split()[2].encode() for line in open(path)
                                if line.startswith("fedlane")} for path in self.keys)
                opened.curve_publickey, opened.curve_secretkey = own["public:"], own["secret:"]
                opened.curve_serverkey = theirs["public:"]
            except (OSError, IndexError, KeyError) as why:
                sys.exit(f"{self.keys[0]}, {self.keys[1]}: no .key file and .pub file of `fedlane keygen`: {why}")
        opened.linger = 1000
        opened.connect(address)
        return opened

    def say(self, message, second=None, over=None, **fields):
        head = msgpack.packb({"kind": message, "session": self.number, **fields})
        frames = [head + xxhash.xxh3_64_intdigest(head).to_bytes(8, "little")]
        (over or self.socket).send_multipart(frames if second is None else frames + [second])

    def live_on(self, number, seconds, pipeline):
        """Says `alive` from a thread while a session lasts, so that a process that is stopped holds nobody up. Only
        over the pipeline: where that cannot be reached, nothing is promised."""
        pulse = self.connect(zmq.PUSH, pipeline.replace("*", self.address.split("//")[1].rpartition(":")[0]))
        while self.number == number:
            self.say("alive", over=pulse, seconds=seconds)
            time.sleep(seconds / 4)
        pulse.close()

    def hear(self, seconds):
        """The next message, its second frame as `second`; a goodbye of our own after so much silence."""
        while self.socket.poll(1000 * seconds):
            head, *second = self.socket.recv_multipart()
            if xxhash.xxh3_64_intdigest(head[:-8]) != int.from_bytes(head[-8:], "little"):
                continue
            m = {**msgpack.unpackb(head[:-8]), "second": second[0] if second else b""}
            if m["kind"] != "ping":
                return m
            self.say("pong", round=m["round"])
        return {"kind": "bye", "code": 1}

    def fetch(self, work):
        """The model's weights, or None and the message that came instead."""
        w, each = np.empty(self.elements, "<f4"), CHUNK // 4
        for first in range(0, -(-len(w) // each), 8):
            count = min(8, -(-len(w) // each) - first)
            self.say("fetch", round=work["round"], vector=0, **{"from": first}, count=count)
            for _ in range(count):
                m = self.hear(self.patience)
                while m["kind"] == "cancel" and m["round"] != work["round"]:
                    m = self.hear(self.patience)  # the answer to what was asked of an earlier round
                if m["kind"] == "chunk" and xxhash.xxh3_64_intdigest(m["second"]) != m["body"]:
                    m = {"kind": "bye", "code": 1}  # come to harm: begin anew
                if m["kind"] != "chunk":
                    return None, m
                w[m["offset"]:m["offset"] + m["count"]] = np.frombuffer(m["second"], "<f4")
        return w, None

    def send(self, collect, block, payload, change, told):
        """Our update: what it consists of, then its chunks."""
        number, size = PAYLOADS[payload]
        which = {"round": collect["round"], "upload": collect["upload"]}
        self.say("update", **which, payload=number, blocks=np.uint32(block).tobytes(),
                 streams=np.uint32(1024).tobytes(), weight=told["examples"], **told)
        for at in range(0, len(change), CHUNK // size):
            x = change[at:at + CHUNK // size].astype("<f4")
            if size == 2:  # the upper halves, rounded to even
                bits = x.view("<u4")
                x = (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")
            self.say("chunk", x.tobytes(), **which, stream=1024, payload=number, offset=at, count=len(x),
                     body=xxhash.xxh3_64_intdigest(x.tobytes()))


def tensors(layout, w):
    """The parts of a vector under PyTorch's names, as arrays that share its memory."""
    lines = [line.split() for line in layout.splitlines()]
    shapes = [(name, int(at), tuple(map(int, dims))) for name, at, *dims in lines]
    return {name: w[at:at + int(np.prod(shape))].reshape(shape) for name, at, shape in shapes}


def take_part(session, examples, train, payload="float32"):
    """Says hello, and trains and sends whenever it is asked to, until the run is done. train gets the model,
    which it changes in place, and the message `work`; it returns loss, hits and steps, or None to refuse."""
    m, line = {"kind": "bye", "code": 1}, 0  # line: seconds that we last waited for a place
    while m["kind"] != "bye" or m["code"] == 1:
        following = None
        if m["kind"] == "bye":  # not known (any more), or silent for too long
            session.say("hello", examples=examples, **session.hello)
            following, pending = session.hear(1), None
            if following["kind"] == "bye":
                session.number = 0
                if following["code"] == 1 and following.get("session") == 0:
                    if not line:
                        print("waiting for a place:", following["why"], file=sys.stderr, flush=True)
                    line = min(max(1, 2 * line), 10)
                    time.sleep(line)
        elif m["kind"] == "welcome" and m["session"] != session.number:
            session.number, session.elements, session.patience = m["session"], m["elements"], 2 * m["patience"]
            layout, line = m["layout"], 0
            session.say("ready", lanes=1, people=0, credit=1)
            if m["pipeline"]:
                threading.Thread(target=session.live_on, args=(m["session"], m["patience"], m["pipeline"]), daemon=True).start()
        elif m["kind"] == "work":
            w, following = session.fetch(m)
            new = None if w is None else w.copy()
            result = None if w is None else train(tensors(layout, new), m)
            if result:
                loss, hits, steps = result
                told = {"examples": examples, "steps": steps, "loss": float(loss), "hits": int(hits)}
                pending = (m["block"], payload, new - w, told)
                session.say("trained", round=m["round"], block=m["block"], seconds=0.0, loss=np.float64(loss).tobytes(),
                            hit=np.int64(hits).tobytes(), good=b"\1")
            elif w is not None:
                session.say("refuse", round=m["round"], block=m["block"], why="not now")
        elif m["kind"] == "collect" and pending:
            session.send(m, *pending)
        elif m["kind"] == "received":
            print(f"round {m['round']}: {'mixed' if m['mixed'] else 'left out'}", flush=True)
        m = following or session.hear(session.patience)
    session.number = 0
    if m["code"] == 2:
        sys.exit(m["why"])


def softmax_regression(x, y, seed):
    """A `train` for take_part: mini-batch gradient descent on weight [classes, features] and bias."""
    rng = np.random.default_rng(seed)

    def train(model, work):
        weight, bias, loss, hits, steps = model["fc.weight"], model["fc.bias"], 0.0, 0, 0
        for _ in range(work["epochs"]):
            order = rng.permutation(len(x))
            for at in range(0, len(x), work["batch"] or len(x)):
                rows = order[at:at + (work["batch"] or len(x))]
                z = x[rows] @ weight.T + bias
                p = np.exp(z - z.max(1, keepdims=True))
                p /= p.sum(1, keepdims=True)
                loss -= np.log(p[np.arange(len(rows)), y[rows]]).sum()
                hits += (z.argmax(1) == y[rows]).sum()
                p[np.arange(len(rows)), y[rows]] -= 1
                weight -= np.float32(work["lr"] / len(rows)) * (p.T @ x[rows])
                bias -= np.float32(work["lr"] / len(rows)) * p.sum(0)
                steps += 1
        return loss, hits, steps

    return train


def examples_of(path):
    """x as rows of features, and y, of an .npz file."""
    try:
        data = np.load(path)
        x, y = data["x"].astype(np.float32), data["y"]
    except (OSError, ValueError, IndexError, KeyError) as why:
        sys.exit(f"{path}: no .npz file with numbers x and y: {why}")
    if len(x) != len(y) or len(x) == 0:
        sys.exit(f"{path}: x has {len(x)} examples and y {len(y)}")
    return x.reshape(len(x), -1), y


def arguments(about):
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("address")
    parser.add_argument("data", help=".npz with x and y")
    parser.add_argument("--name", default=f"{socket.gethostname()[:48]}-{os.getpid()}")
    parser.add_argument("--payload", default="float32", choices=PAYLOADS)
    parser.add_argument("--key", help="own .key file, made by `fedlane keygen`")
    parser.add_argument("--server", help="the coordinator's .pub file")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if bool(args.key) != bool(args.server):
        parser.error("--key and --server belong together")
    return args


if __name__ == "__main__":
    args = arguments("joins a fedlane coordinator as a client that trains softmax regression with NumPy")
    features, labels = examples_of(args.data)
    take_part(Session(args.address, args.name, args.key, args.server), len(features),
              softmax_regression(features, labels, args.seed), args.payload)
