"""The parts that `adam_residual` and `prodigy_residual` share, written in NumPy in float64."""

import numpy as np


def rms(x):
    """The root mean square."""
    return np.sqrt(np.mean(x**2))


def coordinates(grads, param):
    """Features [..., 9] after the last of the gradients, and what is observed: two sizes, an agreement."""
    betas, ms, v = (0.9, 0.99), [np.zeros_like(param)] * 2, 0.0
    for g in grads:
        previous = ms[0]
        ms = [b * m + (1 - b) * g for b, m in zip(betas, ms, strict=True)]
        v = 0.99 * v + 0.01 * g**2
    m_hats = [m / (1 - b ** len(grads)) for b, m in zip(betas, ms, strict=True)]
    v_hat = v / (1 - 0.99 ** len(grads))
    factored, level = v_hat, np.sqrt(np.mean(v_hat))
    if g.ndim > 1:
        *_, second, largest = np.argsort(g.shape, kind="stable")
        row, column = (np.mean(v_hat, axis=int(axis), keepdims=True) for axis in (largest, second))
        factored = row * column / np.mean(v_hat, axis=(int(second), int(largest)), keepdims=True)
    v_hat = v_hat + 1e-10 * np.mean(v_hat)
    features = [g / rms(g), param / rms(param), *[m / rms(m) for m in ms], *[m / np.sqrt(v_hat) for m in m_hats]]
    others = (g / np.sqrt(v_hat), m_hats[0] / np.sqrt(factored), level / np.sqrt(v_hat))
    features = np.stack([*features, *[np.clip(x, -4, 4) for x in others]], axis=-1)
    assert features.shape == (*g.shape, 9)
    agreement = np.clip(1.8 * np.sum(g * previous) / np.sqrt(np.sum(g**2) * np.sum(ms[0] ** 2)), -2, 2)
    sizes = [np.log((rms(m) / level) ** 2 + 1e-6) / 2 + offset for m, offset in zip(m_hats, (1, 1.5), strict=True)]
    return features, [*sizes, agreement]


def progress(step, num_steps, unknown):
    """2τ - 1, ½ log(num_steps / 400), τ⁴ and whether num_steps is known; then the linear decay."""
    if num_steps is None:
        return [*unknown, 0.0], 1.0
    tau = min(step / num_steps, 1)
    return [2 * tau - 1, 0.5 * np.log(num_steps / 400), tau**4, 1.0], max(1 - tau, 0.01)


def direction(theta, features, c):
    """The clipped direction of all coordinates."""
    made = features @ (theta["skip"] + (c @ theta["mix"] if "mix" in theta else 0.0))
    if "w" in theta:
        hidden = np.maximum(features @ theta["w"] + theta["b"] + c @ theta["w_tensor"], 0)
        made = made + hidden @ theta["w_out"]
    return np.clip(made, -8, 8)


def log_step(theta, c, ndim):
    """The learned logarithm of the step."""
    extra = c @ theta["skip"]
    if "w" in theta:
        extra = extra + np.maximum(c @ theta["w"] + theta["b"], 0) @ theta["w_out"]
    return theta["base"][int(ndim < 2)] + np.clip(extra, -5, 5)


def size(param):
    """What a tensor's steps are measured by."""
    return 0.1 if param.ndim < 2 else max(rms(param), 0.1 / np.sqrt(np.prod(param.shape[:-1])))
