"""The models in JAX: weights are a dictionary under fedlane's (PyTorch's) names and in its layouts."""
from __future__ import annotations

import functools
from typing import Callable

import jax
import jax.numpy as jnp
from jax import lax

Weights = dict[str, jax.Array]
Conv = Callable[[Weights, str, jax.Array], jax.Array]
Model = Callable[[Weights, jax.Array, "jax.Array | None"], jax.Array]


def dense(w: Weights, name: str, x: jax.Array) -> jax.Array:
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def conv(w: Weights, name: str, x: jax.Array) -> jax.Array:
    """A valid convolution of NHWC images with weights [O, I, k, k]."""
    y = lax.conv_general_dilated(x, w[name + ".weight"], (1, 1), "VALID", dimension_numbers=("NHWC", "OIHW", "NHWC"))
    return y + w[name + ".bias"]


def conv_by_slices(w: Weights, name: str, x: jax.Array) -> jax.Array:
    """The same as one matrix product of shifted slices: with weights of its own for each client this
    becomes a batched product, where conv becomes a grouped convolution, which CPUs do slowly."""
    weight = w[name + ".weight"]
    out, _, k, _ = weight.shape
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    slices = [x[:, i:i + height, j:j + width] for i in range(k) for j in range(k)]
    columns = jnp.concatenate(slices, -1).reshape(-1, k * k * x.shape[3])
    y = columns @ weight.transpose(2, 3, 1, 0).reshape(-1, out)
    return y.reshape(len(x), height, width, out) + w[name + ".bias"]


CONVOLUTIONS = {"direct": conv, "slices": conv_by_slices}


def pool(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def flatten(x: jax.Array) -> jax.Array:
    """In PyTorch's order of channels, rows and columns."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def dropout(key: jax.Array | None, p: float, x: jax.Array) -> jax.Array:
    return x if key is None else jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)


def logistic(w: Weights, x: jax.Array, key: jax.Array | None, conv: Conv) -> jax.Array:
    return dense(w, "fc", flatten(x))


def mlp(w: Weights, x: jax.Array, key: jax.Array | None, conv: Conv) -> jax.Array:
    x = jax.nn.relu(dense(w, "fc1", flatten(x)))
    return dense(w, "fc3", jax.nn.relu(dense(w, "fc2", x)))


def lenet(w: Weights, x: jax.Array, key: jax.Array | None, conv: Conv) -> jax.Array:
    x = jax.nn.relu(pool(conv(w, "conv1", x)))
    x = flatten(jax.nn.relu(pool(conv(w, "conv2", x))))
    x = jax.nn.relu(dense(w, "fc2", jax.nn.relu(dense(w, "fc1", x))))
    return dense(w, "fc3", x)


def cnn_dropout(w: Weights, x: jax.Array, key: jax.Array | None, conv: Conv) -> jax.Array:
    first, second = (None, None) if key is None else jax.random.split(key)
    x = pool(jax.nn.relu(conv(w, "conv2", jax.nn.relu(conv(w, "conv1", x)))))
    x = jax.nn.relu(dense(w, "fc1", flatten(dropout(first, 0.25, x))))
    return dense(w, "fc2", dropout(second, 0.5, x))


MODELS = {"logistic": logistic, "mlp": mlp, "lenet": lenet, "cnn_dropout": cnn_dropout}


def choose(model: str, convolution: str = "direct") -> Model:
    return functools.partial(MODELS[model], conv=CONVOLUTIONS[convolution])


def losses_and_hits(logits: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each row."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, y[:, None], 1)[:, 0], (logits.argmax(1) == y).astype(jnp.float32)


def make_step(model: Model, lr: float):
    """One plain SGD step on a batch whose real rows are marked in `live`; a batch without any changes
    nothing. Returns the weights and the sums of losses and hits."""
    def loss_of(w, x, y, live, key):
        losses, hits = losses_and_hits(model(w, x, key), y)
        total = (losses * live).sum()
        return total / jnp.maximum(live.sum(), 1), jnp.stack([total, (hits * live).sum()])

    def step(w, x, y, live, key):
        gradient, sums = jax.grad(loss_of, has_aux=True)(w, x, y, live, key)
        return jax.tree_util.tree_map(lambda a, g: a - lr * g, w, gradient), sums
    return step


def make_test(model: Model, batch: int = 500):
    """The sums of losses and hits over all examples, `batch` at a time."""
    @jax.jit
    def test(w, x, y):
        n = len(y) // batch * batch

        def part(xy):
            losses, hits = losses_and_hits(model(w, xy[0], None), xy[1])
            return jnp.stack([losses.sum(), hits.sum()])
        whole = lax.map(part, (x[:n].reshape(-1, batch, *x.shape[1:]), y[:n].reshape(-1, batch))).sum(0)
        return whole + part((x[n:], y[n:])) if n < len(y) else whole
    return test
