#!/usr/bin/env python3
"""Real clients against a real coordinator: those of scripts/client.py, well-behaved and not, the example in
C, and `fedlane join`.

check_client.py PROGRAM EXAMPLE SOURCE FOLDER: PROGRAM is fedlane, EXAMPLE the compiled examples/client.c.
What enters the mean is recomputed with NumPy. Exit status 77 when a module is not installed.
"""
import contextlib
import importlib.util
import io
import json
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

program, example, source, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
sys.path[:0] = [str(source / "scripts")]
try:
    import numpy as np
    import client
except (ImportError, SystemExit) as why:
    print(f"skipped: {why}")
    sys.exit(77)
import safetensors_file

CLASSES, FEATURES, ROUNDS = 4, 20, 8
random = np.random.default_rng(7)
middle = 0.8 * random.normal(size=(CLASSES, FEATURES))
running = []


def check(truth, what):
    if not truth:
        for process in running:
            process.kill()
        sys.exit(f"check_client.py: {what}")


def draw(n):
    y = random.integers(0, CLASSES, n)
    return (middle[y] + random.normal(size=(n, FEATURES))).astype(np.float32), y.astype(np.int32)


def write_set(path, x, y, **more):
    np.savez(folder / "set.npz", x=x, y=y, **more)
    subprocess.run([sys.executable, source / "scripts/to-safetensors.py", folder / "set.npz", path], check=True,
                   stdout=subprocess.DEVNULL)


def read_model(path):
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    cut = {name: raw[8 + size + e["data_offsets"][0]:8 + size + e["data_offsets"][1]] for name, e in header.items()}
    return {name: np.frombuffer(cut[name], "<f4").reshape(e["shape"]) for name, e in header.items()}


def serve(name, *settings):
    """A coordinator on a port of its own choice: the process, its address and its run folder."""
    process = subprocess.Popen([program, "serve", folder / "real.yaml", f"output={folder / name}",
                                "fleet.listen=tcp://127.0.0.1:0", *settings], stdout=subprocess.PIPE, text=True)
    running.append(process)
    for line in process.stdout:
        if line.startswith("listening on "):
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return process, line.split()[2].rstrip(";"), folder / name
    check(False, "the coordinator does not listen")


def rounds_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Watched(client.Session):
    """A session that remembers which rounds took its update, and may spoil what it sends."""

    def __init__(self, address, name, data, spoil=None, leaves=None, seed=1, **keys):
        super().__init__(address, name, **keys)
        self.x, self.y, self.spoil, self.leaves, self.seed = *data, spoil, leaves, seed
        self.mixed, self.first = {}, None
        self.thread = threading.Thread(target=self.live, daemon=True)
        self.thread.start()

    def live(self):
        train = client.softmax_regression(self.x, self.y, self.seed)

        def watched(model, work):
            if self.first is None:
                self.first = {name: a.copy() for name, a in model.items()}
            if work["round"] == self.leaves:
                self.say("leave")
                self.number = 0
                sys.exit()
            return None if self.spoil == "refuse" else train(model, work)

        client.take_part(self, len(self.x), watched)

    def hear(self, seconds):
        m = super().hear(seconds)
        if m["kind"] == "received":
            self.mixed[m["round"]] = m["mixed"]
        return m

    def send(self, collect, block, payload, change, told):
        if self.spoil == "nan":
            change[3] = np.nan
        if self.spoil == "shape":
            change = change[:-16]
        for _ in range(2 if self.spoil == "twice" else 1):
            super().send(collect, block, payload, change, told)


def train_as_c(x, y):
    """What examples/client.c does: a step for each example."""

    def train(model, work):
        w, b = model["fc.weight"], model["fc.bias"]
        for _ in range(work["epochs"]):
            for row, label in zip(x.astype(np.float64), y):
                p = np.exp(w @ row + b)
                slope = np.float32(work["lr"]) * (p / p.sum() - (np.arange(len(p)) == label)).astype(np.float32)
                w -= np.outer(slope, row).astype(np.float32)
                b -= slope

    return train


def recompute(first, parts, work):
    """FedAvg from the first model on. parts: (examples, train, rounds that took it)."""
    model = {name: a.astype(np.float64) for name, a in first.items()}
    for number in range(1, ROUNDS + 1):
        total, sums = 0, {name: 0 for name in model}
        for n, train, taken in parts:
            if number not in taken:
                continue
            mine = {name: a.astype(np.float32) for name, a in model.items()}
            train(mine, work)
            total += n
            sums = {name: s + n * (mine[name].astype(np.float64) - model[name]) for name, s in sums.items()}
        model = {name: a + sums[name] / total for name, a in model.items()}
    return model


def everyone_at_once():
    process, address, run = serve("everyone", "fleet.peers=8")
    kinds = {"a": {}, "b": {}, "leaver": {"leaves": 3}, "nan": {"spoil": "nan"}, "refuser": {"spoil": "refuse"},
             "shape": {"spoil": "shape"}, "twice": {"spoil": "twice"}}
    data = {name: draw(80 + 30 * i) for i, name in enumerate([*kinds, "back", "c"])}
    np.savetxt(folder / "c.txt", np.column_stack([data["c"][1], data["c"][0]]), fmt="%.9g")
    in_c = subprocess.Popen([example, address, folder / "c.txt", "c"])
    running.append(in_c)
    peers = {name: Watched(address, name, data[name], seed=i, **how) for i, (name, how) in enumerate(kinds.items())}
    peers["leaver"].thread.join(30)
    peers["back"] = Watched(address, "back", data["back"], seed=len(kinds))
    check(process.wait(60) == 0, "the coordinator failed")
    check(in_c.wait(30) == 0, "the example in C failed")
    for peer in peers.values():
        peer.thread.join(20)
        check(not peer.thread.is_alive(), "a client did not end with the run")

    rows, taken = rounds_of(run), {name: {r for r, mixed in p.mixed.items() if mixed} for name, p in peers.items()}
    good = ["a", "b", "twice", "leaver", "back"]
    taken["c"] = {m["round"] for m in rows if m["clients"] > sum(m["round"] in taken[g] for g in good)}
    check(len(rows) == ROUNDS, "not all rounds were written")
    check(rows[-1]["test_accuracy"] > 0.8 and rows[-1]["test_loss"] < rows[0]["test_loss"], "nothing was learnt")
    check(not any(taken[name] for name in ("nan", "refuser", "shape")), "something that is no update was mixed")
    wanted = {"leaver": {1, 2}, "back": set(range(4, ROUNDS + 1))}
    for name in [*good, "c"]:
        check(taken[name] == wanted.get(name, set(range(1, ROUNDS + 1))), f"{name} was in rounds {taken[name]}")
    counts = {}
    for m in rows:
        for cause, n in m.get("left_out", {}).items():
            counts[cause] = counts.get(cause, 0) + n
    for cause in ("nonfinite", "shape", "refused"):
        check(counts.get(cause) == ROUNDS, f"{cause} is {counts.get(cause)}")
    check(2 * (ROUNDS - 2) <= counts.get("stale", 0) <= 2 * ROUNDS, f"stale is {counts.get('stale')}")
    for m in rows:
        names = [name for name in taken if m["round"] in taken[name]]
        check(m["clients"] == len(names), "the number of clients is not that of updates taken")
        check(m["examples"] == 2 * sum(len(data[name][0]) for name in names), "examples are not those of its clients")

    parts = [(len(data[name][0]), client.softmax_regression(*data[name], i), taken[name])
             for i, name in enumerate([*kinds, "back"]) if name in good]
    wanted = recompute(peers["a"].first, parts + [(len(data["c"][0]), train_as_c(*data["c"]), taken["c"])],
                       {"epochs": 2, "batch": 10, "lr": 0.05})
    for name, a in read_model(run / "model.safetensors").items():
        check(np.abs(a - wanted[name]).max() < 1e-5, f"{name} is off by {np.abs(a - wanted[name]).max()}")


def with_keys():
    keys = folder / "keys"
    subprocess.run([program, "keygen", "server", "c", "mine", "--folder", keys], check=True, stdout=subprocess.DEVNULL)
    (folder / "allowed").mkdir()
    for name in ("c", "mine"):
        shutil.copy(keys / f"{name}.pub", folder / "allowed")
    process, address, run = serve("keys", "fleet.peers=2", "train.rounds=3", f"fleet.key={keys / 'server.key'}",
                                  f"fleet.allow={folder / 'allowed'}")
    running.append(subprocess.Popen([example, address, folder / "c.txt", "c", keys / "c.key", keys / "server.pub"]))
    peer = Watched(address, "mine", draw(100), key=keys / "mine.key", server=keys / "server.pub")
    stranger = Watched(address, "no keys", draw(10))
    check(process.wait(60) == 0 and running[-1].wait(30) == 0, "a run with keys failed")
    check([m["clients"] for m in rounds_of(run)] == [2, 2, 2], "with keys not both clients were in")
    check(all(peer.mixed.values()) and len(peer.mixed) == 3, "an update with keys was left out")
    check(not stranger.number, "somebody without a key got a session")


def with_a_deadline():
    """A client that is too late, and one that trains with the engine."""
    process, address, run = serve("late", "fleet.peers=3", "train.rounds=3", "fleet.deadline=0.4", "fleet.quorum=0.5")

    class Slow(Watched):
        def send(self, *what):
            time.sleep(0.6)
            super().send(*what)

    write_set(folder / "own.safetensors", *draw(150))
    joined = subprocess.Popen([program, "join", address, f"data.path={folder / 'own.safetensors'}", "--name", "own",
                               "--payload", "int8"], stdout=subprocess.PIPE, text=True)
    running.append(joined)
    peers = [Watched(address, "quick", draw(100)), Slow(address, "slow", draw(100))]
    check(process.wait(60) == 0 and joined.wait(30) == 0, "a run with a deadline failed")
    rows = rounds_of(run)
    check(rows[0]["clients"] == 2 and rows[0]["left_out"]["late"] == 1, f"nobody was late: {rows[0]}")
    check(len(peers[0].mixed) == 3 and not any(peers[1].mixed.values()), "the wrong one was in time")
    check(joined.stdout.read().count("mixed") == 3, "the engine's own client was left out")


def with_an_old_cancel():
    """What is still said of a round that is over does not keep a client from the next one; a model that has come to
    harm has it join again."""
    import msgpack
    import xxhash
    import zmq
    me, weights = zmq.Context.instance().socket(zmq.ROUTER), np.zeros(8, "<f4").tobytes()
    me.bind("inproc://old-cancel")
    peer = client.Session("inproc://old-cancel", "peer")
    train = lambda model, work: (0.0, 0, 1)  # noqa: E731
    threading.Thread(target=client.take_part, args=(peer, 5, train), daemon=True).start()

    def hear():
        check(me.poll(10000), "a client says nothing more")
        route, head = me.recv_multipart()[:2]
        return route, msgpack.unpackb(head[:-8])

    def say(route, kind, *second, **fields):
        head = msgpack.packb({"kind": kind, "session": 7, **fields})
        me.send_multipart([route, head + xxhash.xxh3_64_intdigest(head).to_bytes(8, "little"), *second])

    def await_kind(kind):
        while True:
            route, m = hear()
            if m["kind"] == kind:
                return route

    route = await_kind("hello")
    say(route, "welcome", elements=8, patience=5, layout="w 0 8\n", pipeline="")
    await_kind("ready")
    for block, harm in ((1, 0), (2, 1)):
        say(route, "work", round=2, block=block, lr=0.1, epochs=1, batch=0)
        await_kind("fetch")
        say(route, "cancel", round=1)
        say(route, "chunk", weights, round=2, offset=0, count=8, body=xxhash.xxh3_64_intdigest(weights) ^ harm)
        await_kind("hello" if harm else "trained")
    say(route, "bye", code=0)
    me.close(linger=1000)


def with_one_that_is_stopped():
    """A process that is stopped in mid-training holds nobody up; one that trains for long is waited for. With the keys
    of before."""
    mine = {"key": str(folder / "keys/mine.key"), "server": str(folder / "keys/server.pub")}
    process, address, run = serve("stopped", "fleet.peers=3", "train.rounds=1", "fleet.patience=1",
                                  f"fleet.key={folder / 'keys/server.key'}", f"fleet.allow={folder / 'allowed'}")
    hang = f"""import sys, time
sys.path.insert(0, {str(source / "scripts")!r})
import client
def train(model, work):
    time.sleep(1)
    print("training", flush=True)
    time.sleep(600)
client.take_part(client.Session({address!r}, "stopped", **{mine!r}), 10, train)
"""
    stopped = subprocess.Popen([sys.executable, "-c", hang], stdout=subprocess.PIPE, text=True)
    running.append(stopped)

    class Long(Watched):
        def fetch(self, work):
            time.sleep(4)  # as if it trained: says nothing and reads nothing
            return super().fetch(work)

    peers = [Watched(address, "quick", draw(100), **mine), Long(address, "long", draw(100), **mine)]
    check(stopped.stdout.readline() == "training\n", "the one that shall be stopped does not train")
    stopped.send_signal(signal.SIGSTOP)
    try:
        check(process.wait(30) == 0, "a run with one that is stopped failed")
    except subprocess.TimeoutExpired:
        check(False, "one that is stopped holds up the round")
    finally:
        stopped.kill()
    (row,) = rounds_of(run)
    check(row["clients"] == 2 and row["left_out"] == {"lost": 1}, f"not those two were in: {row}")
    check(all(peer.mixed == {1: True} for peer in peers), "one that trains for long was left out")


def with_a_full_fleet():
    """Who finds no place says so once and knocks ever less often; one of them trains when there is one."""
    process, address, run = serve("full", "fleet.peers=1", "fleet.most=1", "train.rounds=3")

    class Long(Watched):
        def fetch(self, work):
            time.sleep(1.5)
            return super().fetch(work)

    class Knocking(Watched):
        knocks = 0

        def say(self, message, *second, **fields):
            self.knocks += message == "hello"
            super().say(message, *second, **fields)

    first = Long(address, "first", draw(100), leaves=2)
    while not first.number:
        time.sleep(0.01)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        second = Knocking(address, "second", draw(100))
        joined = subprocess.Popen([program, "join", address, f"data.path={folder / 'own.safetensors'}", "--name", "own"],
                                  stdout=subprocess.PIPE, text=True)
        running.append(joined)
        check(process.wait(60) == 0, "a run whose fleet was full failed")
    joined.kill()
    engine = joined.stdout.read()
    for words in (said.getvalue(), engine):
        check(words.count("waiting for a place: the coordinator has all the peers it takes") == 1, f"it said {words!r}")
    check(second.knocks <= 6, f"it has knocked {second.knocks} times")
    check(first.mixed == {1: True} and rounds_of(run)[2]["clients"] == 1, "nobody took the place that was free")
    check((second.mixed == {3: True}) != ("round 3: mixed" in engine), "not one of the two who waited was in")


def with_mistakes():
    """One sentence and no traceback."""
    np.savez(folder / "odd.npz", x=np.zeros((3, 2)), y=np.zeros(2))
    np.savez(folder / "fine.npz", x=np.zeros((3, 2)), y=np.zeros(3, int))
    for words, rc, text in (([folder / "none.npz"], 1, "no .npz file with numbers x and y"),
                            ([folder / "odd.npz"], 1, "x has 3 examples and y 2"),
                            ([folder / "fine.npz", "--key", "a"], 2, "--key and --server belong together"),
                            ([folder / "fine.npz", "--key", "a", "--server", "b"], 1, "a, b: no .key file")):
        done = subprocess.run([sys.executable, source / "scripts/client.py", "tcp://127.0.0.1:7", *words],
                              capture_output=True, text=True, timeout=60)
        check(done.returncode == rc and text in done.stderr and "Traceback" not in done.stderr,
              f"{words}: {done.returncode} {done.stderr}")


def with_torch():
    if not importlib.util.find_spec("torch"):
        return
    layers = "model={layers: [flatten, {dense: 16, name: fc1}, relu, {dense: 0, name: fc2}]}"
    process, address, run = serve("torch", "fleet.peers=2", layers)
    np.savez(folder / "t.npz", **dict(zip("xy", draw(150))))
    write_set(folder / "own.safetensors", *draw(150))
    running.extend([subprocess.Popen([sys.executable, source / "scripts/client_torch.py", address, folder / "t.npz",
                                      "--payload", "bfloat16"], stdout=subprocess.DEVNULL),
                    subprocess.Popen([program, "join", address, f"data.path={folder / 'own.safetensors'}", "--quiet"])])
    check(process.wait(120) == 0 and all(p.wait(30) == 0 for p in running[-2:]), "a run with PyTorch failed")
    rows = rounds_of(run)
    check(all(m["clients"] == 2 for m in rows), "PyTorch's client was left out")
    check(rows[-1]["test_loss"] < rows[0]["test_loss"], "nothing was learnt with PyTorch")


shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
x_test, y_test = draw(400)
write_set(folder / "server.safetensors", *draw(100), x_test=x_test, y_test=y_test)
(folder / "real.yaml").write_text(f"""name: real
data: {{format: safetensors, path: {folder / 'server.safetensors'}, normalise: none, partition: iid}}
model: {{name: logistic}}
algorithm: {{name: fedavg}}
train: {{rounds: {ROUNDS}, cohort: 20, batch: 10, epochs: 2, lr: 0.05}}
eval: {{every: 1}}
fleet: {{clients: real}}
""")
everyone_at_once()
with_keys()
with_a_deadline()
with_an_old_cancel()
with_one_that_is_stopped()
with_a_full_fleet()
with_mistakes()
with_torch()
print("clients in Python and C were mixed as they should be, and nothing else was")
