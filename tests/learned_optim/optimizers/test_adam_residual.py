"""The Adam-with-residual optimizer against its definition, written again in NumPy."""

import functools
import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
reference = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "adam_parts.py")))

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _theta(hidden_size=8):
    """Weights that are all non-zero and keep the log step size and the direction inside of their bounds."""
    random = np.random.RandomState(0)
    normal = lambda *shape: 0.2 * random.standard_normal(shape)
    h = hidden_size
    network = {"w": normal(9, h), "w_tensor": normal(9, h), "b": normal(h), "w_out": normal(h)} if h else {}
    return {
        "direction": {"skip": normal(9), **network},
        "step": {"base": normal(2), "skip": normal(9), "w": normal(9, 16), "b": normal(16), "w_out": normal(16)},
        "unknown_horizon": {"progress": normal(3)},
    }


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _defined_updates(theta, grads, param, num_steps):
    """The updates of one tensor at its successive gradients, in float64."""
    updates = []
    for t, g in enumerate(grads):
        features, observed = reference.coordinates(grads[: t + 1], param)
        (slow, length, late, known), decay = reference.progress(t, num_steps, theta["unknown_horizon"]["progress"])
        c = np.array([slow, np.exp(-t / 20), length, g.ndim < 2, *observed, late, known], np.float64)
        step_size = np.exp(reference.log_step(theta["step"], c, g.ndim)) * decay * reference.size(param)
        updates.append(-step_size * reference.direction(theta["direction"], features, c))
        param = param + updates[-1]
    return updates


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


@functools.cache
def _programs(hidden_size):
    """`init` and `update`, for all thetas and horizons."""
    transform = lambda theta, num_steps: learned_optim.adam_residual(hidden_size).transform(theta, num_steps=num_steps)
    init = lambda theta, num_steps, params: transform(theta, num_steps).init(params)
    update = lambda theta, num_steps, *arguments: transform(theta, num_steps).update(*arguments)
    return jax.jit(init), jax.jit(update)


def _updates(theta, params, grads, num_steps=None, hidden_size=8):
    """The updates at successive gradients. Only `update` and `init` are compiled."""
    (init, update), horizon = _programs(hidden_size), np.int32(num_steps or 0)  # 0: not known
    state, made = init(theta, horizon, params), []
    for grad in grads:
        updates, state = update(theta, horizon, grad, state, params)
        params = jax.tree.map(lambda a, b: np.asarray(a) + np.asarray(b), params, updates)
        made.append(updates)
    return made


def _run(tx, params, grads):
    update_fn, state, made = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update_fn(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        made.append(updates)
    return made


def _close(actual, expected, rtol=1e-5):
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


W = _float32({"w": np.random.RandomState(1).standard_normal((3, 2))})
GRADS = [_float32({"w": np.random.RandomState(seed).standard_normal((3, 2))}) for seed in (2, 3)]


@pytest.mark.parametrize(("hidden_size", "num_steps"), [(8, 400), (8, 1), (8, None), (0, 3), (18, 5)])
def test_three_steps_equal_the_definition(hidden_size, num_steps):
    """With num_steps = 1 the last step is beyond the horizon. Networks wider than 16 take another path."""
    theta, params = _theta(hidden_size), _tree(1)
    grads = [_tree(seed, 10.0 ** (1 - seed)) for seed in (2, 3, 4)]
    made = _updates(_float32(theta), _float32(params), [_float32(grad) for grad in grads], num_steps, hidden_size)
    for name in SHAPES:
        expected = _defined_updates(theta, [grad[name] for grad in grads], params[name], num_steps)
        _close([updates[name] for updates in made], expected, rtol=2e-5)


def test_features_beyond_their_bounds_equal_the_definition():
    """After 150 small gradients a spike has g/√v above 4; on a diagonal the factored u is, off it 1/√v."""
    theta, random = _theta(), np.random.RandomState(1)
    theta["step"]["base"] -= 4.0  # small steps, for under random weights large ones lead to a chaotic path
    params = {"b": random.standard_normal(4), "w": random.standard_normal((20, 20))}
    grads = [
        {"b": scale * random.standard_normal(4), "w": np.eye(20) + 1e-3 * random.standard_normal((20, 20))}
        for scale in [0.01] * 150 + [1.0]
    ]
    made = _updates(_float32(theta), _float32(params), [_float32(grad) for grad in grads], 300)
    for name, param in params.items():
        expected = _defined_updates(theta, [grad[name] for grad in grads], param, 300)
        _close([updates[name] for updates in made], expected, rtol=1e-3)


def test_direction_and_log_step_are_clipped():
    """Directions of 12 times ±1 go to ±8, and a log step of 100 above its base goes to 5 above."""
    theta = jax.tree.map(jnp.zeros_like, _float32(_theta()))
    theta["direction"]["skip"] = theta["direction"]["skip"].at[4].set(12.0)
    theta["step"]["skip"] = theta["step"]["skip"].at[8].set(100.0)
    params = {"w": jnp.array([[1.0, -1.0]])}
    (updates,) = _updates(theta, params, [params], 10)
    np.testing.assert_allclose(updates["w"], [[-8 * np.exp(5), 8 * np.exp(5)]], rtol=1e-5)


@pytest.mark.parametrize("hidden_size", [8, 0])
def test_untrained_it_is_adam_with_relative_steps_and_linear_decay(hidden_size):
    """Adam with decays .9 and .99; steps of .02 RMS(p) for matrices and .002 for vectors, times 1 - t / num_steps."""
    theta = learned_optim.adam_residual(hidden_size).init(jax.random.key(0))
    params = _float32({"w": np.random.RandomState(1).standard_normal((3, 2)), "b": np.zeros(4)})
    grads = [
        _float32({"w": np.random.RandomState(seed).standard_normal((3, 2)), "b": np.full(4, 10.0**-seed)})
        for seed in range(6)
    ]
    made = _updates(theta, params, grads, 4, hidden_size)
    for name, p in params.items():
        m, v = 0.0, 0.0
        for t, updates in enumerate(made):
            g = np.asarray(grads[t][name], np.float64)
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
            adam = (m / (1 - 0.9 ** (t + 1))) / np.sqrt(v / (1 - 0.99 ** (t + 1)))
            size = reference.rms(np.asarray(p)) if name == "w" else 0.1
            np.testing.assert_allclose(updates[name], -0.02 * size * max(1 - t / 4, 0.01) * adam, rtol=1e-5, atol=1e-9)
            p = p + updates[name]


def test_untrained_it_solves_a_badly_scaled_regression():
    """From zero weights, with curvatures from 1e-3 to 10 and nothing tuned, the loss falls by over four orders."""
    random = np.random.RandomState(0)
    x = jnp.asarray(random.standard_normal((64, 8)) * np.geomspace(0.03, 3, 8), jnp.float32)
    y = x @ jnp.asarray(random.standard_normal((8, 3)), jnp.float32)
    loss_fn = lambda params: jnp.mean(jnp.square(x @ params["w"] + params["b"] - y))
    optimizer = learned_optim.adam_residual()
    tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=1000)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    params = {"w": jnp.zeros((8, 3)), "b": jnp.zeros(3)}
    (trained, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=1000))((params, tx.init(params)))
    assert loss_fn(trained) < 1e-4 * loss_fn(params)


def test_num_steps_may_be_an_int_or_a_traced_scalar_and_traced_zero_hides_it():
    theta = _float32(_theta())
    run = lambda num_steps: _run(learned_optim.adam_residual().transform(theta, num_steps=num_steps), W, GRADS)
    traced, seven, unknown = jax.jit(run), run(7), run(None)
    _close(traced(jnp.asarray(7, jnp.int32)), seven, rtol=1e-6)
    _close(traced(jnp.asarray(0, jnp.int32)), unknown, rtol=1e-6)
    _close(run(np.int64(7)), seven, rtol=1e-6)
    _close(jax.vmap(run)(jnp.array([0, 7]))[1]["w"], np.stack([unknown[1]["w"], seven[1]["w"]]), rtol=1e-5)


def test_the_learned_constants_matter_only_without_a_horizon():
    theta = _float32(_theta())
    other = {**theta, "unknown_horizon": {"progress": theta["unknown_horizon"]["progress"] + 1.0}}
    run = lambda theta, num_steps: _updates(theta, W, GRADS, num_steps)
    np.testing.assert_array_equal(run(other, 5)[1]["w"], run(theta, 5)[1]["w"])
    assert np.all(run(other, None)[1]["w"] != run(theta, None)[1]["w"])


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e6, 1e14])
def test_the_scale_of_gradients_does_not_matter(scale):
    run = lambda grads: _updates(_float32(_theta()), W, grads, 10)
    _close(run(jax.tree.map(lambda leaf: leaf * scale, GRADS)), run(GRADS), rtol=1e-4)


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_or_parameters_vanish():
    """A row and a column of zeros, as behind dead units; a matrix at zero; a vector without gradient."""
    grads = {"w": jnp.ones((3, 2)).at[0].set(0.0).at[:, 1].set(0.0), "b": jnp.zeros(2)}

    def total(theta):
        tx = learned_optim.adam_residual(2).transform(theta, num_steps=2)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(grads, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        params = jax.tree.map(jnp.zeros_like, grads)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), None, length=3)
        return jnp.sum(params["w"]) + jnp.sum(params["b"])

    derivative = jax.jit(jax.grad(total))(_float32(_theta(2)))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(derivative))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves({**derivative, "unknown_horizon": jnp.ones(())}))


def test_features_are_never_stacked_in_memory():
    """A stack of them takes nine times the memory of the parameters, and the step several times as long."""
    tx = learned_optim.adam_residual().transform(_float32(_theta()), num_steps=10)
    params = jax.ShapeDtypeStruct((400, 300), jnp.float32)
    compiled = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1.5 * params.size * 4


def test_defaults_and_the_variant_without_a_network():
    optimizer, variant = learned_optim.adam_residual(), learned_optim.adam_residual(hidden_size=0)
    assert optimizer.spec == {"kind": "adam_residual", "feature_version": 1, "hidden_size": 8}
    count = lambda made: sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(made.init, jax.random.key(0))))
    assert (count(optimizer), count(variant)) == (359, 199)
    theta = _float32(_theta(8))
    theta["direction"]["w_out"] = jnp.zeros(8)
    plain = {**theta, "direction": {"skip": theta["direction"]["skip"]}}
    _close(_updates(plain, W, GRADS, hidden_size=0), _updates(theta, W, GRADS))


@pytest.mark.parametrize("num_steps", [0, -3, np.int32(0)])
def test_a_horizon_below_one_is_an_error(num_steps):
    optimizer = learned_optim.adam_residual()
    with pytest.raises(ValueError, match=f"num_steps must be at least 1, got {int(num_steps)}"):
        optimizer.transform(_float32(_theta()), num_steps=num_steps)


def test_bad_sizes_are_an_error():
    with pytest.raises(ValueError, match="hidden_size must be at least 0, got -1"):
        learned_optim.adam_residual(-1)
    with pytest.raises(TypeError):
        learned_optim.adam_residual(4.0)
