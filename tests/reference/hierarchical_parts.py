"""The hierarchical MLP in float64 NumPy, written from its definition, for tests to load with `runpy.run_path`."""

import pathlib
import runpy
import types

import numpy as np

_FOLDER = pathlib.Path(__file__).parent
velo_parts = types.SimpleNamespace(**runpy.run_path(str(_FOLDER / "velo_parts.py")))

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
TIME_SCALES = (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)


def level(x):
    return np.clip(np.log(1e-8 + np.abs(x)), -5, 5)


def loss_features(losses):
    """The last loss, and 0 for the validation loss, in deviations. The variance is about the uncorrected mean."""
    if losses is None:
        return np.zeros(2)
    mean, variance = 0.0, 0.0
    for loss in losses:
        mean = 0.9 * mean + 0.1 * loss
        variance = 0.9 * variance + 0.1 * (mean - loss) ** 2
    correction = 1 / (1 - 0.9 ** len(losses) + 1e-8)
    distances = np.array([losses[-1], 0.0]) - mean * correction
    return np.clip(distances / np.sqrt(variance * correction + 1e-8), -5, 5)


def tensor_features(g, p, ms, vs, losses, from_mlp, from_lstm):
    """The LSTM's inputs in the order of their names in the authors' code; there ms, rms and v are m, v and p."""
    sizes = np.log((*p.shape, 1, 1, 1, 1)[:4]) - 1
    return np.concatenate(
        [
            from_lstm,
            from_mlp,
            [level(np.linalg.norm(np.ravel(g))), 1.0 if p.ndim == 0 else -1.0],
            [level(np.mean(ms)), np.sign(np.mean(ms)), level(np.mean(vs)), np.sign(np.mean(vs))],
            [level(np.mean(p)), np.sign(np.mean(p)), level(np.linalg.norm(np.ravel(p)))],
            sizes,
            losses,
            [level(np.var(ms)), level(np.var(vs)), level(np.var(p))],
        ]
    )


def coordinates(theta, g, p, ms, vs, step, num_tensors, message):
    """Outputs of the per-parameter network for all coordinates: [n, 18]."""
    roots = [np.sqrt(v + 1e-6) for v in vs]
    columns = [g, p, np.log(np.abs(p) + 1e-8), *ms, *vs, *[m / root for m, root in zip(ms, roots, strict=True)]]
    columns = [np.ravel(x) / np.sqrt(1e-5 + np.mean(x**2)) for x in (*columns, *[1 / root for root in roots])]
    shared = [np.sin(step / (scale * np.pi)) for scale in TIME_SCALES]
    shared += [np.log(num_tensors) - 1, np.log(np.linalg.norm(np.ravel(p)) + 1e-8), np.log(p.size), *message]
    inputs = np.concatenate([np.stack(columns, axis=1), np.tile(shared, (p.size, 1))], axis=1)
    assert inputs.shape == (p.size, 37 + 17)
    return velo_parts.network(theta, inputs)


def updates(theta, params, grads, losses, *, multipliers=(1e-3, 1e-3)):
    """The updates of all tensors, whose values are given at each step."""
    names = sorted(params[0])
    zeros = {name: np.zeros(np.shape(params[0][name])) for name in names}
    ms, vs = ({name: [zeros[name]] * 5 for name in names} for _ in range(2))
    hidden, cell = velo_parts.first_lstm_state(theta["first_state"], len(names))
    from_mlp, from_lstm = dict.fromkeys(names, theta["first_from_mlp"]), theta["first_from_lstm"]
    size, made = 0.01, []
    average = lambda olds, new: [b * old + (1 - b) * new for b, old in zip(DECAYS, olds, strict=True)]
    for step, (ps, gs) in enumerate(zip(params, grads, strict=True)):
        bound = 10 * size / (1 - 0.99 ** (step + 1))
        gs = {name: np.clip(gs[name], -bound, bound) for name in names}
        size = 0.99 * size + 0.01 * np.sqrt(1e-8 + np.mean([np.mean(gs[name] ** 2) for name in names]))
        ms = {name: average(ms[name], gs[name]) for name in names}
        vs = {name: average(vs[name], gs[name] ** 2) for name in names}
        of_loss = loss_features(None if losses is None else losses[: step + 1])
        tensors = {name: (gs[name], ps[name], ms[name], vs[name]) for name in names}
        rows = [tensor_features(*tensors[name], of_loss, from_mlp[name], from_lstm) for name in names]
        (to_mlp, to_lstm), hidden, cell = velo_parts.lstm(theta["lstm"], np.stack(rows), hidden, cell)
        from_lstm, updates = np.mean(to_lstm, axis=0), {}
        for message, name in zip(to_mlp, names, strict=True):
            output = coordinates(theta["network"], *tensors[name], step, len(names), message)
            from_mlp[name] = np.mean(output[:, 2:], axis=0)
            change = output[:, 0] * np.exp(multipliers[1] * output[:, 1])
            updates[name] = -multipliers[0] * np.reshape(change, np.shape(ps[name]))
        made.append(updates)
    return made
