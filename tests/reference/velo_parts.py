"""What VeLO and Celo have in common, in float64 NumPy: the features, the per-parameter network, the LSTM.

Written from the definitions, for tests to load with `runpy.run_path`.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(weights, x):
    return x @ np.asarray(weights["w"], np.float64) + np.asarray(weights["b"], np.float64)


def random_theta(skeleton, seed=0, scale=0.5):
    """Normal values in the structure of `skeleton`, all non-zero, in the order of sorted names."""
    random = np.random.RandomState(seed)
    draw = lambda tree: (
        {name: draw(tree[name]) for name in sorted(tree)}
        if isinstance(tree, dict)
        else scale * random.standard_normal(tree.shape)
    )
    return draw(skeleton)


def loss_features(losses, horizon):
    """The nine features after the last of the losses, from their whole history."""
    decays = np.exp(-1 / np.logspace(1, np.log10(horizon), 10))
    kept, average, lowest = [], None, np.full(10, np.inf)
    for loss in losses:
        if kept:
            loss = min(loss, 2 * abs(np.max(average)))
        kept.append(loss)
        ages = np.arange(len(kept))[::-1]
        weights = decays[:, None] ** ages  # [10, losses]
        average = weights @ np.array(kept) / np.sum(weights, axis=1)
        lowest = np.minimum(lowest, average)
    if len(losses) <= 2:
        return np.zeros(9)
    return np.clip((average[:-1] - lowest[:-1]) / np.maximum(average[1:] - lowest[:-1], 1e-8) - 1, -1, 1)


def progress_features(step, horizon):
    return np.array([np.tanh(10 * (step / horizon - x)) for x in (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)])


def mixed_lstm(theta, inputs, hidden, cell):
    """Rows of inputs to outputs and states: mixing by a maximum, then Haiku's LSTM, then linear outputs."""
    mixed = np.maximum(linear(theta["mix_second"], np.maximum(linear(theta["mix_first"], inputs), 0)), 0)
    x = linear(theta["mix_own"], inputs) + np.max(mixed, axis=0)
    i, g, f, o = np.split(linear(theta["lstm/linear"], np.concatenate([x, hidden], axis=1)), 4, axis=1)
    cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
    hidden = sigmoid(o) * np.tanh(cell)
    names = sorted(name for name in theta if name.startswith("output_"))
    return [linear(theta[name], hidden) for name in names], hidden, cell


def _axes(shape):
    """The largest dimension, over which rows are means, and the second largest."""
    order = np.argsort(shape, kind="stable")
    return int(order[-1]), int(order[-2])


def accumulate(moments, g):
    """Momenta, v, rows and columns after the gradient g; `moments` is None before the first."""
    ms, v, rs, cs = moments or ([0.0] * 3, 0.0, [0.0] * 3, [0.0] * 3)
    row, column = g**2, g**2
    if g.ndim > 1:
        row, column = (np.mean(g**2, axis=axis, keepdims=True) for axis in _axes(g.shape))
    average = lambda olds, new: [b * old + (1 - b) * new for b, old in zip((0.9, 0.99, 0.999), olds, strict=True)]
    return average(ms, g), 0.999 * v + 0.001 * g**2, average(rs, row), average(cs, column)


def features(moments, g, p):
    """The 30 features of all coordinates, normalized over the tensor: [n, 30]."""
    ms, v, rs, cs = moments
    if g.ndim > 1:
        factors = []
        for r, c in zip(rs, cs, strict=True):
            relative = r / (np.mean(r, axis=_axes(g.shape)[1], keepdims=True) + 1e-9)
            factors.append(1 / np.sqrt(np.maximum(relative, 1e-9)) / np.sqrt(np.maximum(c, 1e-9)))
        f_grads = [g * factor for factor in factors]
        f_momenta = [m * factor for m, factor in zip(ms, factors, strict=True)]
    else:
        f_grads = [g / np.sqrt(r + 1e-9) for r in rs]
        f_momenta = [m / np.sqrt(r + 1e-6) for m, r in zip(ms, rs, strict=True)]
    columns = [g, p, *ms, v, *[m / np.sqrt(v + 1e-6) for m in ms], 1 / np.sqrt(v + 1e-6), *f_grads, *rs, *cs]
    columns += [*[1 / np.sqrt(x + 1e-8) for x in (*rs, *cs)], *f_momenta, np.clip(g, -0.1, 0.1), g / np.sqrt(v + 1e-6)]
    columns = [np.broadcast_to(x, g.shape).ravel() for x in columns]
    return np.stack([x / np.sqrt(1e-5 + np.mean(x**2)) for x in columns], axis=1)


def relative_step(weights, moments, g, p):
    """d exp(.001 a) r(p) and the moments after the gradient g, which counts as ±1000 at most."""
    g = np.clip(g, -1000, 1000)
    moments = accumulate(moments, g)
    hidden = features(moments, g, p)
    assert hidden.shape == (g.size, 30)
    for index, name in enumerate(sorted(weights)):
        hidden = linear(weights[name], np.maximum(hidden, 0) if index else hidden)
    step = hidden[:, 0] * np.exp(1e-3 * hidden[:, 1]) * np.sqrt(np.mean(p**2) + 1e-9)
    return step.reshape(g.shape), moments
