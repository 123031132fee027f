#!/usr/bin/env python3
"""All clients of a round at once by jax.vmap, the whole round one jit-compiled function.

--chunk trains that many clients at once and the chunks one after another, still inside the one
compiled function; 0 trains all of a round together. Steps are padded to a multiple of 4 beyond the
round's longest client, so that ragged cohorts share a few compiled functions, all made before timing.
"""
from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from common import Meter, Work, age, arguments
from models_jax import CONVOLUTIONS, Model, choose, make_step, make_test

IMPORTED = age()


def make_round(work: Work, model: Model, chunk: int):
    step = make_step(model, work.lr)

    def client(w, x, y, index, live, key):
        def one(w, batch):
            rows, real, k = batch
            return step(w, x[rows], y[rows], real, k)
        w, sums = lax.scan(one, w, (index, live, jax.random.split(key, len(index))))
        return w, sums.sum(0)

    @functools.partial(jax.jit, donate_argnums=0)
    def round_(w, x, y, index, live, share, key):
        def train(mine):
            return client(w, x, y, *mine)
        keys = jax.random.split(key, len(index))
        trained, sums = lax.map(train, (index, live, keys), batch_size=chunk if chunk > 1 else None)
        return jax.tree_util.tree_map(lambda t: jnp.tensordot(share, t, 1), trained), sums.sum(0)
    return round_


def prepare(work: Work, round_: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rows and which are real, [clients, steps, batch]; each client's share; examples."""
    visits = work.visits(round_)
    steps = -(-work.steps(visits) // 4) * 4 if work.workload == "a2" else work.steps(visits)
    index, live = work.padded(visits, steps)
    share = np.array([v.weight for v in visits], np.float32)
    return index.swapaxes(0, 1), live.swapaxes(0, 1), share / share.sum(), sum(v.rows.size for v in visits)


def main() -> None:
    parse = arguments(__doc__)
    parse.add_argument("--chunk", type=int, default=0, help="clients at once; 0: all of a round")
    parse.add_argument("--conv", choices=CONVOLUTIONS, default="slices")
    args = parse.parse_args()
    work = Work(args.folder, args.rounds)
    meter = Meter(work, "jax_vmap", jax.__version__, "rows", chunk=args.chunk, conv=args.conv)
    meter.imported(IMPORTED)
    x, y, x_test, y_test = (jnp.asarray(a) for a in (
        work.x.transpose(0, 2, 3, 1), work.y, work.x_test.transpose(0, 2, 3, 1), work.y_test))
    w = {name: jnp.asarray(a) for name, a in work.weights.items()}
    model = choose(work.model, args.conv)
    train, test = make_round(work, model, args.chunk or work.cohort), make_test(model)
    compiled = {}
    for r in range(1, work.rounds + 1):
        index, live, share, _ = prepare(work, r)
        if index.shape not in compiled:
            compiled[index.shape] = train.lower(w, x, y, index, live, share, jax.random.key(r)).compile()
    jax.block_until_ready(test(w, x_test, y_test))
    meter.ready()
    for r in range(1, work.rounds + 1):
        index, live, share, examples = prepare(work, r)
        w, sums = compiled[index.shape](w, x, y, index, live, share, jax.random.key(r))
        loss, hits = (float(s) for s in sums)
        meter.round(loss, hits, examples)
        if work.evaluates(r):
            loss, hits = (float(s) for s in test(w, x_test, y_test))
            meter.tested(loss / len(y_test), hits / len(y_test))
    meter.finish(sum(a.size for a in w.values()))


if __name__ == "__main__":
    main()
