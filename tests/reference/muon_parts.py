"""Muon's directions, written in NumPy in float64: what the tests of architectures with them share."""

import pathlib
import runpy
import types

import numpy as np

adam_parts = types.SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).parent / "adam_parts.py")))


def _iterate(block):
    """Three quintic iterations of the singular values. Their fourth powers first add up to 1."""
    left, values, right = np.linalg.svd(block, full_matrices=False)
    values = values / np.sum(values**4) ** 0.25
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return (left * values) @ right


def orthogonal(x, max_block):
    """x in blocks of rows of the shorter side, each with singular values near one; its root mean square is kept."""
    matrix = x.reshape(-1, x.shape[-1])
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    num_blocks = int(np.ceil(len(wide) / max_block))
    height = int(np.ceil(len(wide) / num_blocks))
    made = np.concatenate([_iterate(wide[start : start + height]) for start in range(0, len(wide), height)])
    made = made if wide is matrix else made.T
    return made.reshape(x.shape) * adam_parts.rms(x) / adam_parts.rms(made)


def directions(grads, lookahead, max_block):
    """The three directions after the last of the gradients, and the features `size` and `certain`."""
    m, v, agreement, t = np.zeros_like(grads[0]), 0.0, 0.0, len(grads)
    for number, g in enumerate(grads):
        v = 0.99 * v + 0.01 * g**2
        product = np.mean(g * m) / np.mean(v) / max(1 - 0.9**number, 0.1)
        agreement = 0.99 * agreement + 0.01 * product
        m = 0.9 * m + 0.1 * g
    v_hat = v / (1 - 0.99**t)
    root = np.sqrt(v_hat + 1e-10 * np.mean(v_hat))
    ahead = ((1 - lookahead) * m + lookahead * g) / (1 - (1 - lookahead) * 0.9**t)
    u = np.clip(ahead / root, -4, 4)
    certain = np.log(np.clip(agreement / (1 - 0.99**t), 1e-3, 4)) / 2 + 1.5
    o = orthogonal(u, max_block) if u.ndim > 1 else u
    return (o, u, np.clip(g / root, -4, 4)), [np.log(adam_parts.rms(u) + 1e-3) + 1, certain]


def shape_features(shape):
    """Whether it is a vector or a scalar, and ½ log(shorter / longer side)."""
    sides = sorted([shape[-1], int(np.prod(shape[:-1]))]) if len(shape) > 1 else [1, 1]
    return [float(len(shape) < 2), 0.5 * np.log(sides[0] / sides[1])]
