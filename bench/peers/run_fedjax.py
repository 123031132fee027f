#!/usr/bin/env python3
"""FedJAX: for_each_client with its jit backend, clients one after another, updates averaged as in its fed_avg.

Batches are padded and masked to one shape, so that ragged clients need no further compilation.
"""
from __future__ import annotations

import importlib.metadata

import fedjax
import jax
import jax.numpy as jnp
import numpy as np

from common import Meter, Visit, Work, age, arguments
from models_jax import CONVOLUTIONS, Model, choose, make_step, make_test

IMPORTED = age()


def make_trainer(model: Model, lr: float):
    """for_each_client over (client, batches, key): the client's change of the weights, and its sums."""
    step = make_step(model, lr)

    def client_init(server_weights, key):
        return {"weights": server_weights, "key": key, "sums": jnp.zeros(2)}

    def client_step(state, batch):
        key, own = jax.random.split(state["key"])
        weights, sums = step(state["weights"], batch["x"], batch["y"], batch[fedjax.EXAMPLE_MASK_KEY], own)
        return {"weights": weights, "key": key, "sums": state["sums"] + sums}

    def client_final(server_weights, state):
        return jax.tree_util.tree_map(lambda a, b: b - a, server_weights, state["weights"]), state["sums"]
    return fedjax.for_each_client(client_init, client_step, client_final)


def batches_of(work: Work, x: np.ndarray, visit: Visit):
    for rows in work.batches(visit):
        live = np.zeros(work.batch, np.float32)
        live[:len(rows)] = 1
        if len(rows) < work.batch:
            rows = np.pad(rows, (0, work.batch - len(rows)))
        yield {"x": x[rows], "y": work.y[rows], fedjax.EXAMPLE_MASK_KEY: live}


def main() -> None:
    parse = arguments(__doc__)
    parse.add_argument("--conv", choices=CONVOLUTIONS, default="direct")
    args = parse.parse_args()
    work = Work(args.folder, args.rounds)
    meter = Meter(work, "fedjax", importlib.metadata.version("fedjax"), "rows", conv=args.conv)
    meter.imported(IMPORTED)
    weights = {name: jnp.asarray(a) for name, a in work.weights.items()}
    x = np.ascontiguousarray(work.x.transpose(0, 2, 3, 1))
    x_test, y_test = jnp.asarray(work.x_test.transpose(0, 2, 3, 1)), jnp.asarray(work.y_test)
    model = choose(work.model, args.conv)
    train, test = make_trainer(model, work.lr), make_test(model)
    jax.block_until_ready(test(weights, x_test, y_test))
    meter.ready()
    for round_ in range(1, work.rounds + 1):
        visits = {v.number: v for v in work.visits(round_)}
        keys = jax.random.split(jax.random.PRNGKey(round_), len(visits))
        clients = [(n, batches_of(work, x, v), key) for (n, v), key in zip(visits.items(), keys)]
        total, sums = sum(v.weight for v in visits.values()), jnp.zeros(2)
        mean = fedjax.tree_util.tree_zeros_like(weights)
        for number, (delta, own) in train(weights, clients):
            mean = fedjax.tree_util.tree_add(mean, fedjax.tree_util.tree_weight(delta, visits[number].weight / total))
            sums += own
        weights = jax.block_until_ready(fedjax.tree_util.tree_add(weights, mean))
        meter.round(float(sums[0]), float(sums[1]), sum(v.rows.size for v in visits.values()))
        if work.evaluates(round_):
            loss, hits = (float(s) for s in test(weights, x_test, y_test))
            meter.tested(loss / len(y_test), hits / len(y_test))
    meter.finish(sum(a.size for a in weights.values()))


if __name__ == "__main__":
    main()
