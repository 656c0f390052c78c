"""What the tests of architectures with Prodigy's distance share: the estimate written in NumPy in float64, and runs."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np

adam_parts = types.SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).parent / "adam_parts.py")))

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def tree(seed, scale=1.0):
    """Normal draws in the shapes above, float64."""
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def float32(values):
    """The same tree as JAX arrays."""
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), values)


def defined_run(log_first, grads, params, update):
    """The updates of all tensors at successive gradients, and the distance at each of them, in float64.

    `update(t, grads, param, distance, shared_features)` gives the update of one tensor, from its gradients so far; the
    shared features are ½ log(.02 size / D), clipped, and ½ log(D̂ / D) + 1.
    """
    beta = np.sqrt(0.999)
    x0, x, r, z = params, params, 0.0, {name: 0.0 for name in params}
    mean_size = sum(x.size * adam_parts.size(x) for x in params.values()) / sum(x.size for x in params.values())
    distance, made, distances = np.exp(log_first) * mean_size, [], []
    for t, g in enumerate(grads):
        weight = (1 - beta) * distance**2
        r = beta * r + weight * sum(np.sum(g[name] * (x0[name] - x[name])) for name in x)
        z = {name: beta * z[name] + weight * g[name] for name in x}
        estimate = max(r / sum(np.sum(np.abs(each)) for each in z.values()), 0.0)
        distance = max(distance, estimate)
        ratio = 0.5 * np.log(max(estimate / distance, np.exp(-6))) + 1
        distances.append(distance)
        updates = {}
        for name, param in x.items():
            relative = np.clip(0.5 * np.log(0.02 * adam_parts.size(param) / distance), -3, 3)
            updates[name] = update(t, [grad[name] for grad in grads[: t + 1]], param, distance, [relative, ratio])
        made.append(updates)
        x = {name: x[name] + updates[name] for name in x}
    return made, distances


def run(tx, params, grads):
    """The updates of a transformation at successive gradients, and the distance at each of them."""
    update_fn, state, made, distances = jax.jit(tx.update), tx.init(params), [], []
    for grad in grads:
        updates, state = update_fn(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        made.append(updates)
        distances.append(float(state.shared.distance))
    return made, distances


def assert_close(actual, expected, rtol=1e-5):
    """Leaves agree to rtol of their largest entry."""
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


W = float32({"w": np.random.RandomState(1).standard_normal((3, 2))})
GRADS = [float32({"w": np.random.RandomState(seed).standard_normal((3, 2))}) for seed in (2, 3)]
