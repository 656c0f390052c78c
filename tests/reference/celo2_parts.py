"""Celo2 in float64 NumPy, written from its definition, for tests to load with `runpy.run_path`."""

import pathlib
import runpy
import types

import numpy as np

_FOLDER = pathlib.Path(__file__).parent
velo_parts = types.SimpleNamespace(**runpy.run_path(str(_FOLDER / "velo_parts.py")))

OF_VECTORS = (*range(13), 28, 29)  # the inputs that are no rows and columns, nor made of them


def normalized(x):
    """Divided by the root mean square of the last two axes."""
    axes = tuple(range(max(0, x.ndim - 2), x.ndim))
    return x / np.sqrt(1e-9 + np.mean(x**2, axis=axes, keepdims=True))


def newton_schulz(x, num_steps):
    """The quintic iteration on each matrix, the last two axes."""
    tall = x.shape[-2] > x.shape[-1]
    x = np.swapaxes(x, -2, -1) if tall else x
    x = x / (np.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-8)
    for _ in range(num_steps):
        gram = x @ np.swapaxes(x, -2, -1)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return np.swapaxes(x, -2, -1) if tall else x


def directions(theta, params, grads):
    """The network's outputs at successive gradients of one tensor, not normalized."""
    moments, made = velo_parts.first_moments(np.shape(params[0])), []
    weights = dict(theta)
    if params[0].ndim < 2:
        first = theta["linear"]
        weights["linear"] = {"w": np.asarray(first["w"])[list(OF_VECTORS)], "b": first["b"]}
    for p, g in zip(params, grads, strict=True):
        g = np.clip(g, -1000, 1000)
        moments = velo_parts.accumulate(moments, g, v_decay=0.95)
        columns = [normalized(x) for x in velo_parts.features(moments, g, p, epsilon=1e-8)]
        columns = [columns[i] for i in OF_VECTORS] if g.ndim < 2 else columns
        made.append(velo_parts.network(weights, np.stack(columns, axis=-1))[..., 0])
    return made


def adam(grads, bias_correction=True):
    """Adam's directions at successive gradients of one tensor, with decays .9 and .95."""
    m, v, made = 0.0, 0.0, []
    for step, g in enumerate(grads, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        if bias_correction:
            made.append(m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8))
        else:
            made.append(m / np.sqrt(v + 1e-8))
    return made


def updates(theta, params, grads, *, step_size=1e-3, vectors=20.0, newton_schulz_steps=0, bias_correction=True):
    """The updates of one tensor, whose values are given at each step. `vectors` is None for Celo2-base."""
    if params[0].ndim < 2 and vectors is not None:
        return [-step_size * vectors * d for d in adam(grads, bias_correction)]
    made = directions(theta, params, grads)
    if newton_schulz_steps and params[0].ndim > 1:
        made = [newton_schulz(d, newton_schulz_steps) for d in made]
    return [-step_size * normalized(d) for d in made]
