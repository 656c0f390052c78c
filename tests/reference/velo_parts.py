"""VeLO, Celo and what Celo2 shares with them, in float64 NumPy: features, networks, the LSTM, whole updates.

Written from the definitions, for tests to load with `runpy.run_path`. The updates of a run are lists with an entry for
each step, dicts of arrays by tensor; parameters are given at each step, and state runs on.
"""

import numpy as np

SCALES = (0.9, 0.99, 0.999)  # decays of momenta, rows and columns


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
    """The nine features after the last of the losses. The bound on a loss divides n losses by the weight of n + 1."""
    decays = np.exp(-1 / np.logspace(1, np.log10(horizon), 10))
    total, lowest = np.zeros(10), np.full(10, 999999999999.0)
    for count, loss in enumerate(losses):
        if count:
            loss = min(loss, 2 * abs(np.max(total / (1 - decays ** (count + 1)))))
        total = decays * total + (1 - decays) * loss
        average = total / (1 - decays ** (count + 1))
        lowest = np.minimum(lowest, average)
    if len(losses) <= 2:
        return np.zeros(9)
    return np.clip((average[:-1] - lowest[:-1]) / np.maximum(1e-8, average[1:] - lowest[:-1]) - 1, -1, 1)


def progress_features(step, horizon):
    return np.array([np.tanh(10 * (step / horizon - x)) for x in (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)])


def run_features(theta, step, losses, horizon, slowest=None):
    """Progress and loss at a step; constants of theta stand in for what is None."""
    progress = progress_features(step, horizon) if horizon else theta["progress"]
    known = horizon and losses is not None
    return np.concatenate([progress, loss_features(losses[: step + 1], slowest or horizon) if known else theta["loss"]])


def mixed_lstm(theta, inputs, hidden, cell):
    """Rows of inputs to outputs and states: mixing by a maximum, then Haiku's LSTM, then linear outputs."""
    mixed = np.maximum(linear(theta["mix_max"], inputs), 0)
    return lstm(theta, linear(theta["mix_own"], inputs) + np.max(mixed, axis=0), hidden, cell)


def lstm(theta, x, hidden, cell):
    """Haiku's LSTM, then linear outputs."""
    i, g, f, o = np.split(linear(theta["lstm/linear"], np.concatenate([x, hidden], axis=1)), 4, axis=1)
    cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
    hidden = sigmoid(o) * np.tanh(cell)
    names = sorted(name for name in theta if name.startswith("output_"))
    return [linear(theta[name], hidden) for name in names], hidden, cell


def first_lstm_state(theta, num_rows):
    return (np.tile(np.asarray(theta[name], np.float64), (num_rows, 1)) for name in ("hidden", "cell"))


def _axes(shape):
    """The largest dimension, over which rows are means, and the second largest."""
    order = np.argsort(shape, kind="stable")
    return int(order[-1]), int(order[-2])


def first_moments(shape):
    return [np.zeros(shape)] * 3, np.zeros(shape), [0.0] * 3, [0.0] * 3


def accumulate(moments, g, v_decay=0.999):
    """Momenta, v, rows and columns after the gradient g."""
    ms, v, rs, cs = moments
    row = column = g**2 + 1e-30
    if g.ndim > 1:
        row, column = (np.mean(row, axis=axis, keepdims=True) for axis in _axes(g.shape))
    average = lambda olds, new: [b * old + (1 - b) * new for b, old in zip(SCALES, olds, strict=True)]
    return average(ms, g), v_decay * v + (1 - v_decay) * g**2, average(rs, row), average(cs, column)


def features(moments, g, p, epsilon=1e-6):
    """The 30 features of all coordinates, in the order of this library, not normalized."""
    ms, v, rs, cs = moments
    root = np.sqrt(v + epsilon)
    if g.ndim > 1:
        factors = []
        for r, c in zip(rs, cs, strict=True):
            relative = r / (np.mean(r, axis=_axes(g.shape)[1], keepdims=True) + 1e-9)
            factors.append(1 / np.sqrt(np.maximum(relative, 1e-9)) / np.sqrt(np.maximum(c, 1e-9)))
        f_grads = [g * factor for factor in factors]
        f_momenta = [m * factor for m, factor in zip(ms, factors, strict=True)]
    else:
        f_grads = [g / np.sqrt(r + 1e-9) for r in rs]
        f_momenta = [m / np.sqrt(r) for m, r in zip(ms, rs, strict=True)]
    columns = [g, p, *ms, v, *[m / root for m in ms], 1 / root, *f_grads, *rs, *cs]
    columns += [*[1 / np.sqrt(x + 1e-8) for x in (*rs, *cs)], *f_momenta, np.clip(g, -0.1, 0.1), g / root]
    return [np.broadcast_to(x, g.shape) for x in columns]


def network(weights, x):
    """ReLU layers, in the order of their sorted names, on the last axis."""
    for index, name in enumerate(sorted(weights)):
        x = linear(weights[name], np.maximum(x, 0) if index else x)
    return x


def relative_step(weights, moments, g, p, magnitude_multiplier=1e-3):
    """d exp(λ₂ a) r(p) and the moments after the gradient g, which counts as ±1000 at most."""
    g = np.clip(g, -1000, 1000)
    moments = accumulate(moments, g)
    columns = [x / np.sqrt(1e-5 + np.mean(x**2)) for x in features(moments, g, p)]
    assert len(columns) == 30
    output = network(weights, np.stack(columns, axis=-1))
    return output[..., 0] * np.exp(magnitude_multiplier * output[..., 1]) * np.sqrt(np.mean(p**2) + 1e-9), moments


def tensor_features(moments, p):
    """The 12 inputs of VeLO's LSTM that are of one tensor, from the moments before a gradient."""
    ms, v, _, _ = moments
    unit = 1 / np.sqrt(max(1e-9, np.mean(p**2)))
    ms, v = [m * unit for m in ms], v * unit
    level = lambda x: 0.5 * np.clip(np.log(1e-8 + abs(10 * x)), -5, 5)
    rank = [float(sum(size > 1 for size in p.shape) == number) for number in range(5)]
    variances = [level(np.mean((m - np.mean(m)) ** 2)) for m in ms]
    return np.array([level(np.mean(v)), *rank, *variances, *[level(np.mean((v - np.mean(m)) ** 2)) for m in ms]])


def velo(theta, params, grads, losses, horizon, *, multipliers=(1e-3, 1e-3), bank=100.0, fixed=False, equal=False):
    """VeLO's updates. `fixed` and `equal` are the two older variants: of the LSTM's state, and of the loss averages."""
    names, made = sorted(params[0]), []
    moments = {name: first_moments(np.shape(params[0][name])) for name in names}
    hidden, cell = first = tuple(first_lstm_state(theta["first_state"], len(names)))
    for step, (ps, gs) in enumerate(zip(params, grads, strict=True)):
        run = run_features(theta["unknown"], step, losses, horizon, 10 if equal else None)
        inputs = np.stack([np.concatenate([run, tensor_features(moments[name], ps[name])]) for name in names])
        (controls, sizes), hidden, cell = mixed_lstm(theta["lstm"], inputs, hidden, cell)
        hidden, cell = first if fixed else (hidden, cell)
        updates = {}
        for control, size, name in zip(controls, sizes[:, 0], names, strict=True):
            mean = lambda x, control=control: bank * np.mean([c * w for c, w in zip(control, x, strict=True)], axis=0)
            weights = {layer: {key: mean(x) for key, x in theta["bank"][layer].items()} for layer in theta["bank"]}
            change, moments[name] = relative_step(weights, moments[name], gs[name], ps[name], multipliers[1])
            updates[name] = -multipliers[0] * size * change
        made.append(updates)
    return made


def celo_factors(theta, losses, horizon, num_steps):
    """0.1 exp(o) at each step; 1 without a scheduler."""
    if theta is None:
        return [1.0] * num_steps
    factors, (hidden, cell) = [], first_lstm_state(theta["first_state"], 1)
    for step in range(num_steps):
        inputs = run_features(theta["unknown"], step, losses, horizon)[None]
        (output,), hidden, cell = mixed_lstm(theta["lstm"], inputs, hidden, cell)
        factors.append(0.1 * np.exp(output[0, 0]))
    return factors


def celo(theta, params, grads, losses, horizon, *, multipliers=(1e-3, 1e-3)):
    """Celo's updates: of phase 1 if theta has no scheduler; with Adam's direction if it has no rule."""
    moments = {name: first_moments(np.shape(p)) for name, p in params[0].items()}
    factors, made = celo_factors(theta.get("scheduler"), losses, horizon, len(params)), []
    for step, (factor, ps, gs) in enumerate(zip(factors, params, grads, strict=True), start=1):
        updates = {}
        for name, g in gs.items():
            if "rule" in theta:
                change, moments[name] = relative_step(theta["rule"], moments[name], g, ps[name], multipliers[1])
            else:
                moments[name] = accumulate(moments[name], g)
                m, v = moments[name][0][0] / (1 - 0.9**step), moments[name][1] / (1 - 0.999**step)
                change = m / (1e-8 + np.sqrt(v + 1e-10))
            updates[name] = -multipliers[0] * factor * change
        made.append(updates)
    return made
