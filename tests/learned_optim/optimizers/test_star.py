"""STAR against its published definition (Harrison et al. 2022), written again in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _theta(hidden_sizes=(4, 4), decay_offset=0.02):
    random = np.random.RandomState(0)
    offsets = {"adafactor": 3, "momentum": 3, "rms": 1}
    theta = {"decays": {name: decay_offset * random.standard_normal(size) for name, size in offsets.items()}}
    for index, (num_in, num_out) in enumerate(itertools.pairwise((39, *hidden_sizes, 3))):
        name = f"linear_{index}" if index else "linear"
        theta[name] = {"b": random.standard_normal(num_out), "w": random.standard_normal((num_in, num_out))}
    return theta


def _constant_theta(*outputs):
    """A network whose outputs are its last biases: direction, magnitude, that of the nominal step, that of decay."""
    theta = jax.tree.map(np.zeros_like, _theta((2,)))
    theta["linear_1"] = {"b": np.array(outputs, np.float64), "w": np.zeros((2, len(outputs)))}
    return _float32(theta)


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _decay(beta, offset):
    return 1 - np.exp(10 * (np.log(1 - beta) / 10 + offset))


def _features(g, param, ms, v, rs, cs):
    """The 28 inputs before they are normalized."""
    if g.ndim > 1:
        second = int(np.argsort(g.shape, kind="stable")[-2])
        row_factors = [1 / np.sqrt(np.maximum(r / (np.mean(r, axis=second, keepdims=True) + 1e-9), 1e-9)) for r in rs]
        factors = [a / np.sqrt(np.maximum(c, 1e-9)) for a, c in zip(row_factors, cs, strict=True)]
        f_grads, f_momenta = [g * f for f in factors], [m * f for m, f in zip(ms, factors, strict=True)]
    else:
        f_grads = [g / np.sqrt(r + 1e-9) for r in rs]
        f_momenta = [m / np.sqrt(r + 1e-6) for m, r in zip(ms, rs, strict=True)]
    columns = [g, param, *ms, v, *[m / np.sqrt(v + 1e-6) for m in ms], 1 / np.sqrt(v + 1e-6), *f_grads]
    columns += [*rs, *cs, *[1 / np.sqrt(r + 1e-8) for r in rs], *[1 / np.sqrt(c + 1e-8) for c in cs], *f_momenta]
    return [np.broadcast_to(x, g.shape) for x in columns]


def _published_updates(theta, grads, param, nominal_step, step_multiplier, magnitude_multiplier, weight_decay):
    """The updates of one tensor at its successive gradients, in float64."""
    offsets = theta["decays"]
    momentum = [_decay(beta, offsets["momentum"][i]) for i, beta in enumerate((0.9, 0.99, 0.999))]
    adafactor = [_decay(beta, offsets["adafactor"][i]) for i, beta in enumerate((0.9, 0.99, 0.999))]
    rms = _decay(0.999, offsets["rms"][0])
    ms, v, rs, cs, updates = [0.0] * 3, 0.0, [0.0] * 3, [0.0] * 3, []
    for step, g in enumerate(grads):
        ms = [b * m + (1 - b) * g for b, m in zip(momentum, ms, strict=True)]
        v = rms * v + (1 - rms) * g**2
        row, column = g**2, g**2
        if g.ndim > 1:
            order = np.argsort(g.shape, kind="stable")
            row, column = (np.mean(g**2, axis=int(order[i]), keepdims=True) for i in (-1, -2))
        rs = [b * r + (1 - b) * row for b, r in zip(adafactor, rs, strict=True)]
        cs = [b * c + (1 - b) * column for b, c in zip(adafactor, cs, strict=True)]
        columns = _features(g, param, ms, v, rs, cs)
        columns = [x / np.sqrt(1e-5 + np.mean(x**2)) for x in columns]
        columns += [np.full(g.shape, np.tanh(step / s - 1)) for s in (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)]
        hidden = np.stack(columns, axis=-1)
        for index, name in enumerate(sorted(name for name in theta if name != "decays")):
            hidden = (np.maximum(hidden, 0) if index else hidden) @ theta[name]["w"] + theta[name]["b"]
        d, a, b = np.moveaxis(hidden, -1, 0)
        nominal = nominal_step * np.exp(magnitude_multiplier * b) * sum(ms) / 3 / np.sqrt(v + 1e-6)
        learned = step_multiplier * d * np.exp(magnitude_multiplier * a) / np.sqrt(v + 1e-6)
        updates.append(-nominal - learned - weight_decay * param)
        param = param + updates[-1]
    return updates


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


def _run(tx, params, grads):
    update_fn, state, made = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update_fn(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        made.append(updates)
    return made, state


@pytest.mark.parametrize(
    ("hidden_sizes", "multipliers"),
    [((4, 4), (1e-3, 1e-6, 1e-3, 1e-5)), ((3,), (1e-2, 1e-3, 0.1, 0.0)), ((20, 5), (0.0, 1e-4, 0.01, 0.01))],
)
def test_three_steps_equal_the_published_definition(hidden_sizes, multipliers):
    theta, params, grads = _theta(hidden_sizes), _tree(1), [_tree(seed, 10.0 ** (1 - seed)) for seed in (2, 3, 4)]
    names = ("nominal_step", "step_multiplier", "magnitude_multiplier", "weight_decay")
    options = dict(zip(names, multipliers, strict=True))
    tx = learned_optim.star(hidden_sizes, **options).transform(_float32(theta))
    made, _ = _run(tx, _float32(params), [_float32(grad) for grad in grads])
    for name in SHAPES:
        expected = _published_updates(theta, [grad[name] for grad in grads], params[name], *multipliers)
        for have, want in zip([updates[name] for updates in made], expected, strict=True):
            np.testing.assert_allclose(have, want, rtol=0, atol=2e-5 * np.max(np.abs(want)))


def test_each_output_has_its_place():
    """At v = 1e-3, a network with outputs (2, 3, 5)."""
    options = {"nominal_step": 0.3, "step_multiplier": 0.1, "magnitude_multiplier": 0.5, "weight_decay": 0.25}
    tx = learned_optim.star((2,), **options).transform(_constant_theta(2, 3, 5))
    params, grads = jnp.full((2, 3), 4.0), jnp.ones((2, 3))
    (updates,), _ = _run(tx, params, [grads])
    terms = 0.3 * np.exp(2.5) * (0.1 + 0.01 + 0.001) / 3 + 0.1 * 2 * np.exp(1.5)
    np.testing.assert_allclose(updates, np.full((2, 3), -terms / np.sqrt(1e-3 + 1e-6) - 0.25 * 4), rtol=2e-5)


def test_variants():
    """The slowest momentum alone, a direction that is not preconditioned, and a fourth output, for the decay."""
    numbers = {"nominal_step": 0.3, "step_multiplier": 0.1, "magnitude_multiplier": 0.5, "weight_decay": 0.25}
    options = {"mean_momentum": False, "precondition": False, "controlled_decay": True}
    optimizer = learned_optim.star((2,), **numbers, **options)
    assert optimizer.spec == {**learned_optim.star((2,), **numbers).spec, **options}
    (updates,), _ = _run(optimizer.transform(_constant_theta(2, 3, 5, 1)), jnp.full((2, 3), 4.0), [jnp.ones((2, 3))])
    nominal = 0.3 * np.exp(2.5) * 0.001 / np.sqrt(1e-3 + 1e-6)
    terms = nominal + 0.1 * 2 * np.exp(1.5) + 0.25 * np.exp(0.5) * 4
    np.testing.assert_allclose(updates, np.full((2, 3), -terms), rtol=2e-5)


def test_weight_decay_of_transform_comes_on_top():
    optimizer, theta = learned_optim.star((2,), nominal_step=0.0, weight_decay=0.125), _constant_theta(0, 0, 0)
    params = {"w": jnp.asarray([[1.0, -2.0]])}
    grads = jax.tree.map(jnp.ones_like, params)
    (updates,), _ = _run(optimizer.transform(theta, weight_decay=0.25), params, [grads])
    np.testing.assert_allclose(updates["w"], [[-0.375, 0.75]], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e6])
def test_the_learned_step_starts_no_larger_than_the_nominal_one_at_its_largest(scale):
    """Direction 1 against a nominal step of 1e-3, whatever the gradients."""
    grads = jnp.asarray(np.random.RandomState(0).standard_normal(100) * scale, jnp.float32)
    tx = learned_optim.star((2,), nominal_step=0.0, weight_decay=0.0).transform(_constant_theta(1, 0, 0))
    (updates,), _ = _run(tx, jnp.ones(100), [grads])
    assert np.all(np.abs(updates) <= 1e-3 * (1 + 1e-6))


def test_before_meta_training_it_trains_like_its_nominal_term():
    """On a badly scaled quadratic, from random initial theta."""
    curvature, start = jnp.asarray([1e-2, 1.0, 100.0]), jnp.ones(3)

    def losses(theta, **options):
        tx = learned_optim.star(**options).transform(theta)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(curvature * params, state, params)
            return (params + updates, state), 0.5 * jnp.sum(curvature * jnp.square(params))

        return jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), None, length=2000)[1])()

    theta = learned_optim.star().init(jax.random.key(0))
    made, nominal = losses(theta), losses(theta, step_multiplier=0.0)
    assert made[-1] < 0.002 * made[0]
    np.testing.assert_allclose(made[-1], nominal[-1], rtol=0.02)
    assert losses(theta, step_multiplier=1e-3)[-1] > 2 * nominal[-1]  # what the released code's default gives


def test_defaults():
    optimizer = learned_optim.star()
    assert optimizer.spec == {
        "kind": "star",
        "feature_version": 1,
        "hidden_sizes": [4, 4],
        "nominal_step": 1e-3,
        "step_multiplier": 1e-6,
        "magnitude_multiplier": 1e-3,
        "weight_decay": 1e-5,
    }
    theta = optimizer.init(jax.random.key(0))
    assert {leaf.shape for leaf in jax.tree.leaves(theta.pop("decays"))} == {(3,), (1,)}
    assert [layer["w"].shape for layer in theta.values()] == [(39, 4), (4, 4), (4, 3)]


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_vanish():
    grads = {"w": jnp.ones((3, 2)).at[0].set(0.0).at[:, 1].set(0.0), "b": jnp.zeros(2)}

    def total(theta):
        tx = learned_optim.star((2,)).transform(theta)
        step = lambda state, _: tx.update(grads, state, grads)[::-1]
        _, updates = jax.lax.scan(step, tx.init(grads), None, length=3)
        return jnp.sum(updates["w"]) + jnp.sum(updates["b"])

    derivative = jax.jit(jax.grad(total))(_float32(_theta((2,))))
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf != 0) for leaf in jax.tree.leaves(derivative))


@pytest.mark.parametrize("hidden_sizes", [(), (0,), (4.5,)])
def test_bad_sizes_are_an_error(hidden_sizes):
    with pytest.raises(ValueError, match="hidden_sizes must be a non-empty sequence of whole numbers from 1 on"):
        learned_optim.star(hidden_sizes)


@pytest.mark.parametrize("name", ["mean_momentum", "precondition", "controlled_decay"])
def test_a_flag_that_is_no_bool_is_an_error(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 'Adam'"):
        learned_optim.star(**{name: "Adam"})
