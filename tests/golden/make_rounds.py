"""Three rounds of every algorithm on a tiny network: plain PyTorch, in double precision.

Clients visit their examples in the order that the engine draws (kernels/rng.h), which is written
here once more.
"""


import numpy as np
import torch
import torch.nn.functional as F

from tensors import FOLDER, write

SEED, ROUNDS, BATCH, EPOCHS, LR = 11, 3, 4, 2, 0.3
FEATURES, HIDDEN, CLASSES = 5, 6, 3
SIZES = [9, 4, 14]  # examples of each client
SHUFFLE = 4  # FL_FOR_SHUFFLE
MASK = 0xFFFFFFFF

# What each run adds to the configuration in rounds.yaml.
VARIANTS = {
    "fedsgd": {"algorithm.name": "fedsgd"},
    "fedavg": {"algorithm.name": "fedavg", "train.momentum": 0.9, "train.weight_decay": 0.01},
    "fedavg_plain": {"algorithm.name": "fedavg", "train.lr_decay": 0.5, "server.lr": 0.7},
    "fedavg_clip": {"algorithm.name": "fedavg", "train.clip_norm": 0.25, "train.weight_decay": 0.02},
    "fedavg_whole": {"algorithm.name": "fedavg", "train.batch": 0, "train.momentum": 0.5},
    "fedprox": {"algorithm.name": "fedprox", "algorithm.mu": 0.5, "train.weight_decay": 0.01},
    "scaffold": {"algorithm.name": "scaffold", "train.weight_decay": 0.01},
    "feddyn": {"algorithm.name": "feddyn", "algorithm.alpha": 0.1},
    "feddyn_momentum": {
        "algorithm.name": "feddyn", "algorithm.alpha": 0.3, "train.momentum": 0.8,
        "train.weight_decay": 0.02},
    "fedavgm": {"algorithm.name": "fedavgm", "algorithm.beta": 0.6},
    "fedadam": {"algorithm.name": "fedadam", "algorithm.beta1": 0.8, "algorithm.beta2": 0.9,
                "algorithm.tau": 0.01, "server.lr": 0.1},
    "fedyogi": {"algorithm.name": "fedyogi", "algorithm.beta1": 0.8, "algorithm.beta2": 0.9,
                "algorithm.tau": 0.01, "server.lr": 0.1},
    "fedadagrad": {"algorithm.name": "fedadagrad", "algorithm.beta1": 0.3, "algorithm.tau": 0.01,
                   "server.lr": 0.1},
}

CONFIG = f"""\
# Written by make_rounds.py: what every stored run has in common. data.path and model.weights are
# rounds_data.safetensors and rounds_start.safetensors in this folder, given as overrides.
name: golden
seed: {SEED}
device: auto
data: {{format: safetensors, partition: {{kind: natural}}}}
model:
  layers: [{{dense: {HIDDEN}, name: fc1}}, tanh, {{dense: 0, name: fc2}}]
algorithm: {{name: fedavg}}
train: {{rounds: {ROUNDS}, cohort: {len(SIZES)}, epochs: {EPOCHS}, batch: {BATCH}, lr: {LR}}}
output: ""
"""


def philox(counter, k0, k1):
    c = list(counter)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & MASK, (p0 >> 32) ^ c[3] ^ k1, p0 & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c


def words(round_, client, epoch):
    block = 0
    while True:
        yield from philox([block, epoch, client, round_], SEED, SHUFFLE)
        block += 1


def below(stream, bound):
    """Uniform in 0 .. bound-1 by multiply-shift, unlikely low halves refused."""
    while True:
        product = next(stream) * bound
        if (product & MASK) >= (1 << 32) % bound:
            return product >> 32


def order(round_, client, examples, epoch):
    stream, item = words(round_, client, epoch), list(examples)
    for i in range(len(item) - 1, 0, -1):
        j = below(stream, i + 1)
        item[i], item[j] = item[j], item[i]
    return item


def gradient(w, x, y):
    leaves = [t.clone().requires_grad_(True) for t in w]
    hidden = torch.tanh(F.linear(x, leaves[0], leaves[1]))
    F.cross_entropy(F.linear(hidden, leaves[2], leaves[3]), y).backward()
    return [t.grad for t in leaves]


def add(*scaled):
    """The sum of a*x over pairs (a, x) of a factor and a list of tensors."""
    return [sum(a * x[i] for a, x in scaled) for i in range(4)]


def clipped(g, limit):
    norm = torch.sqrt(sum((t * t).sum() for t in g))
    return add((min(1.0, float(limit / norm)), g)) if limit else g


class Run:
    """A server, its clients and the algorithm's own vectors."""

    def __init__(self, options, data, start):
        get = options.get
        self.name, self.options, self.data = get("algorithm.name"), options, data
        self.w = start
        zero = [torch.zeros_like(t) for t in start]
        self.slot = [zero, zero]
        self.client_slot = [zero] * len(SIZES)
        self.decay, self.momentum = get("train.weight_decay", 0), get("train.momentum", 0)

    def terms(self, client, w):
        terms, get = [(self.decay, w)], self.options.get
        if self.name == "fedprox":
            terms += [(get("algorithm.mu"), w), (-get("algorithm.mu"), self.w)]
        if self.name == "scaffold":
            terms += [(1, self.slot[0]), (-1, self.client_slot[client])]
        if self.name == "feddyn":
            alpha = get("algorithm.alpha")
            terms += [(-1, self.client_slot[client]), (alpha, w), (-alpha, self.w)]
        return terms

    def batches(self, round_, client):
        x, y, owner = self.data
        examples = [e for e in range(len(y)) if owner[e] == client]
        whole = self.name == "fedsgd" or self.options.get("train.batch") == 0
        size = len(examples) if whole else BATCH
        for epoch in range(1 if self.name == "fedsgd" else EPOCHS):
            visit = order(round_, client, examples, epoch)
            for at in range(0, len(visit), size):
                yield x[visit[at:at + size]], y[visit[at:at + size]]

    def train(self, round_, client):
        """A client's update, the number of its steps and the learning rate that it used."""
        lr = LR * self.options.get("train.lr_decay", 1) ** (round_ - 1)
        w, velocity, steps = self.w, None, 0
        for x, y in self.batches(round_, client):
            g = clipped(gradient(w, x, y), self.options.get("train.clip_norm"))
            g = add((1, g), *self.terms(client, w))
            velocity = add((self.momentum, velocity), (1, g)) if velocity else g
            w = add((1, w), (-lr, velocity))
            steps += 1
        return add((1, w), (-1, self.w)), steps, lr

    def round(self, round_):
        updates, controls = [], []
        for client in range(len(SIZES)):
            update, steps, lr = self.train(round_, client)
            updates.append(update)
            if self.name == "scaffold":
                dc = add((-1, self.slot[0]), (-1 / (steps * lr), update))
                controls.append(dc)
                self.client_slot[client] = add((1, self.client_slot[client]), (1, dc))
            if self.name == "feddyn":
                alpha = self.options["algorithm.alpha"]
                self.client_slot[client] = add((1, self.client_slot[client]), (-alpha, update))
        uniform = self.name in ("scaffold", "feddyn")
        share = [1 / len(SIZES) if uniform else n / sum(SIZES) for n in SIZES]
        mean = add(*zip(share, updates))
        if controls:  # every client takes part, so m/N is 1
            self.slot[0] = add((1, self.slot[0]), *zip(share, controls))
        self.apply(mean)

    def apply(self, mean):
        get = self.options.get
        lr = get("server.lr", 1)
        if self.name == "feddyn":
            alpha = get("algorithm.alpha")
            self.slot[0] = add((1, self.slot[0]), (-alpha, mean))
            self.w = add((1, self.w), (lr, mean), (-lr / alpha, self.slot[0]))
        elif self.name == "fedavgm":
            self.slot[0] = add((get("algorithm.beta"), self.slot[0]), (1, mean))
            self.w = add((1, self.w), (lr, self.slot[0]))
        elif self.name in ("fedadam", "fedyogi", "fedadagrad"):
            self.adapt(mean, lr)
        else:
            self.w = add((1, self.w), (lr, mean))

    def adapt(self, u, lr):
        """2003.00295, algorithm 2."""
        get = self.options.get
        b1, b2, tau = get("algorithm.beta1"), get("algorithm.beta2"), get("algorithm.tau")
        m = add((b1, self.slot[0]), (1 - b1, u))
        square = {
            "fedadagrad": lambda v, s: v + s,
            "fedadam": lambda v, s: b2 * v + (1 - b2) * s,
            "fedyogi": lambda v, s: v - (1 - b2) * s * torch.sign(v - s),
        }[self.name]
        v = [square(v, t * t) for v, t in zip(self.slot[1], u)]
        self.slot = [m, v]
        self.w = [w + lr * a / (torch.sqrt(b) + tau) for w, a, b in zip(self.w, m, v)]


def make_data():
    n = sum(SIZES)
    owner = np.random.permutation(np.repeat(np.arange(len(SIZES)), SIZES)).astype(np.int32)
    x = np.random.randn(n, FEATURES).astype(np.float32) + 0.3 * owner[:, None].astype(np.float32)
    y = ((np.arange(n) + owner) % CLASSES).astype(np.int32)
    return x, y, owner


def main():
    assert philox([0] * 4, 0, 0)[0] == 0x6627E8D5  # the published vector
    names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    shapes = [(HIDDEN, FEATURES), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
    start = [np.random.uniform(-0.5, 0.5, s).astype(np.float32) for s in shapes]
    x, y, owner = make_data()
    data = torch.tensor(x).double(), torch.tensor(y).long(), owner
    end = {}
    for variant, options in VARIANTS.items():
        run = Run(options, data, [torch.tensor(t).double() for t in start])
        for round_ in range(1, ROUNDS + 1):
            run.round(round_)
        end.update({f"{variant}/{name}": t.numpy() for name, t in zip(names, run.w)})
    visits = {
        f"round{r}/client{c}/epoch{e}":
            np.array(order(r, c, np.flatnonzero(owner == c).tolist(), e), np.int32)
        for r in range(1, ROUNDS + 1) for c in range(len(SIZES)) for e in range(EPOCHS)}
    overrides = {v: " ".join(f"{k}={o[k]}" for k in o) for v, o in VARIANTS.items()}
    write("rounds_data", {"x": x, "y": y, "client": owner})
    write("rounds_start", dict(zip(names, start)))
    write("rounds_order", visits)
    write("rounds_end", end, overrides)
    (FOLDER / "rounds.yaml").write_text(CONFIG)
