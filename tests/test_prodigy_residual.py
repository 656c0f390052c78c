"""The Prodigy-with-residual optimizer against its definition, written again in NumPy."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim

reference = types.SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).parent / "reference" / "adam_parts.py")))

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _theta(hidden_size=8, step_hidden_size=16, mix=True, scale=0.2):
    """Weights that are all non-zero and keep the log step size and the direction inside of their bounds."""
    random = np.random.RandomState(0)
    normal = lambda *shape: scale * random.standard_normal(shape)
    h = hidden_size
    network = {"w": normal(9, h), "w_tensor": normal(11, h), "b": normal(h), "w_out": normal(h)} if h else {}
    k = step_hidden_size
    step_network = {"w": normal(11, k), "b": normal(k), "w_out": normal(k)} if k else {}
    return {
        "direction": {"skip": normal(9), **network} | ({"mix": normal(11, 9)} if mix else {}),
        "distance": {"log_first": np.log(0.02) + normal()},
        "step": {"base": normal(2), "skip": normal(11), **step_network},
        "unknown_horizon": {"progress": normal(3)},
    }


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _defined_run(theta, grads, params, num_steps):
    """The updates of all tensors at successive gradients, and the distance at each of them, in float64."""
    beta = np.sqrt(0.999)
    x0, x, r, z = params, params, 0.0, {name: 0.0 for name in params}
    mean_size = sum(x.size * reference.size(x) for x in params.values()) / sum(x.size for x in params.values())
    distance, made, distances = np.exp(theta["distance"]["log_first"]) * mean_size, [], []
    for t, g in enumerate(grads):
        weight = (1 - beta) * distance**2
        r = beta * r + weight * sum(np.sum(g[name] * (x0[name] - x[name])) for name in x)
        z = {name: beta * z[name] + weight * g[name] for name in x}
        estimate = max(r / sum(np.sum(np.abs(each)) for each in z.values()), 0.0)
        distance = max(distance, estimate)
        ratio = 0.5 * np.log(max(estimate / distance, np.exp(-6))) + 1
        distances.append(distance)
        (slow, length, late, known), decay = reference.progress(t, num_steps, theta["unknown_horizon"]["progress"])
        updates = {}
        for name, param in x.items():
            features, observed = reference.coordinates([grad[name] for grad in grads[: t + 1]], param)
            relative = np.clip(0.5 * np.log(0.02 * reference.size(param) / distance), -3, 3)
            tensor = [slow, np.exp(-t / 20), length, param.ndim < 2, *observed, late, known, relative, ratio]
            c = np.array(tensor, np.float64)
            step_size = np.exp(reference.log_step(theta["step"], c, param.ndim)) * decay * distance
            updates[name] = -step_size * reference.direction(theta["direction"], features, c)
        made.append(updates)
        x = {name: x[name] + updates[name] for name in x}
    return made, distances


def _float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def _run(tx, params, grads):
    update_fn, state, made, distances = jax.jit(tx.update), tx.init(params), [], []
    for grad in grads:
        updates, state = update_fn(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        made.append(updates)
        distances.append(float(state.shared["distance"]))
    return made, distances


def _close(actual, expected, rtol=1e-5):
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


W = _float32({"w": np.random.RandomState(1).standard_normal((3, 2))})
GRADS = [_float32({"w": np.random.RandomState(seed).standard_normal((3, 2))}) for seed in (2, 3)]


@pytest.mark.parametrize(("sizes", "num_steps"), [((8, 16, True), 400), ((8, 3, False), None), ((0, 0, False), 3)])
def test_four_steps_equal_the_definition(sizes, num_steps):
    theta, params = _theta(*sizes), _tree(1)
    grads = [_tree(seed, 10.0 ** (1 - seed)) for seed in (2, 3, 4, 5)]
    tx = learned_optim.prodigy_residual(*sizes).transform(_float32(theta), num_steps=num_steps)
    made, distances = _run(tx, _float32(params), [_float32(grad) for grad in grads])
    expected, expected_distances = _defined_run(theta, grads, params, num_steps)
    _close(made, expected, rtol=3e-5)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-5)


def test_the_distance_grows_as_it_is_defined():
    """Gradients that agree: the distance doubles and doubles again, and the ratio of the estimate to it moves."""
    theta = _theta(0, scale=0.05)
    theta["direction"]["skip"][4] += 1.0
    params, random = _tree(1), np.random.RandomState(3)
    grads = [{name: 1.0 + 0.3 * random.standard_normal(x.shape) for name, x in params.items()} for _ in range(40)]
    tx = learned_optim.prodigy_residual(0).transform(_float32(theta), num_steps=1000)
    _, distances = _run(tx, _float32(params), [_float32(grad) for grad in grads])
    _, expected = _defined_run(theta, grads, params, 1000)
    assert expected[-1] > 4 * expected[0]
    np.testing.assert_allclose(distances, expected, rtol=1e-3)


def test_direction_and_log_step_are_clipped():
    """Directions of 12 times ±1 go to ±8, and a log step of 100 goes to 5."""
    theta = jax.tree.map(jnp.zeros_like, _float32(_theta()))
    theta["direction"]["skip"] = theta["direction"]["skip"].at[4].set(12.0)
    theta["step"]["skip"] = theta["step"]["skip"].at[8].set(100.0)
    params = {"w": jnp.array([[1.0, -1.0]])}
    ((updates,), _) = _run(learned_optim.prodigy_residual().transform(theta, num_steps=10), params, [params])
    np.testing.assert_allclose(updates["w"], [[-8 * np.exp(5), 8 * np.exp(5)]], rtol=1e-5)


@pytest.mark.optax_promotion
def test_untrained_it_finds_steps_as_prodigy_does():
    """A quadratic that is solved at a distance of 10: with nothing tuned both find a step size of that order.

    Their weights of gradients in the estimate, decays and beginnings differ, so the distances agree within a factor.
    """
    target, start = jnp.array([[10.0, -10.0, 5.0]]), jnp.zeros((1, 3))
    curvature = jnp.array([[1.0, 3.0, 0.1]])
    gradient = lambda x: curvature * (x - target)

    def distance(tx, read):
        def step(carry, _):
            x, state = carry
            updates, state = tx.update(gradient(x), state, x)
            return (optax.apply_updates(x, updates), state), None

        (x, state), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=300))((start, tx.init(start)))
        assert jnp.max(jnp.abs(gradient(x))) < 1.0  # 30 at the start
        return float(read(state))

    optimizer = learned_optim.prodigy_residual()
    tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=300)
    ours = distance(tx, lambda state: state.shared["distance"])
    published = distance(optax.contrib.prodigy(), lambda state: state.estim_lr)
    assert 0.2 < ours / published < 5
    assert ours > 100 * 0.005 * 0.1 / np.sqrt(3)  # far from where it began


def test_steps_grow_with_the_problem():
    """Starts and targets a thousand times as large: all steps are a thousand times as large."""
    optimizer = learned_optim.prodigy_residual(0)
    theta = _float32(_theta(0))
    theta["step"] = jax.tree.map(jnp.zeros_like, theta["step"])
    tx = optimizer.transform(theta, num_steps=10)
    params = {"w": 5.0 + W["w"]}
    large = jax.tree.map(lambda x: 1000.0 * x, params)
    _close(_run(tx, large, GRADS)[0], jax.tree.map(lambda x: 1000.0 * x, _run(tx, params, GRADS)[0]), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-8, 1e6, 1e14])
def test_the_scale_of_gradients_does_not_matter(scale):
    tx = learned_optim.prodigy_residual().transform(_float32(_theta()), num_steps=10)
    _close(_run(tx, W, jax.tree.map(lambda leaf: leaf * scale, GRADS))[0], _run(tx, W, GRADS)[0], rtol=1e-4)


def test_num_steps_may_be_traced_and_traced_zero_hides_it():
    theta = _float32(_theta())
    run = lambda num_steps: _run_w(learned_optim.prodigy_residual().transform(theta, num_steps=num_steps))
    traced = jax.jit(run)
    _close(traced(jnp.asarray(7, jnp.int32)), run(7), rtol=1e-6)
    _close(traced(jnp.asarray(0, jnp.int32)), run(None), rtol=1e-6)


def _run_w(tx):
    state = tx.init(W)
    first, state = tx.update(GRADS[0], state, W)
    return first, tx.update(GRADS[1], state, jax.tree.map(jnp.add, W, first))[0]


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_or_parameters_vanish():
    """A row and a column of zeros, as behind dead units; a matrix at zero; a vector without gradient."""
    grads = {"w": jnp.ones((3, 2)).at[0].set(0.0).at[:, 1].set(0.0), "b": jnp.zeros(2)}

    def total(theta, grads):
        tx = learned_optim.prodigy_residual(2).transform(theta, num_steps=2)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(grads, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        params = jax.tree.map(jnp.zeros_like, grads)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), None, length=3)
        return jnp.sum(params["w"]) + jnp.sum(params["b"])

    derivative = jax.jit(jax.grad(total))
    some = derivative(_float32(_theta(2)), grads)
    none = derivative(_float32(_theta(2)), jax.tree.map(jnp.zeros_like, grads))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((some, none)))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves({**some, "unknown_horizon": jnp.ones(())}))


def test_features_are_never_stacked_in_memory():
    """A stack of them takes nine times the memory of the parameters, and the step several times as long."""
    tx = learned_optim.prodigy_residual().transform(_float32(_theta()), num_steps=10)
    params = jax.ShapeDtypeStruct((400, 300), jnp.float32)
    compiled = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1.5 * params.size * 4


def test_defaults_and_the_variant_without_a_network():
    optimizer, variant = learned_optim.prodigy_residual(), learned_optim.prodigy_residual(hidden_size=0)
    sizes = {"hidden_size": 8, "step_hidden_size": 16, "mix": True}
    assert optimizer.spec == {"kind": "prodigy_residual", "feature_version": 1, **sizes}
    count = lambda made: sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(made.init, jax.random.key(0))))
    assert (count(optimizer), count(variant)) == (509, 333)
    assert count(learned_optim.prodigy_residual(0, 0, mix=False)) == 26
    theta = _float32(_theta(8))
    theta["direction"]["w_out"] = jnp.zeros(8)
    plain = {**theta, "direction": {name: theta["direction"][name] for name in ("skip", "mix")}}
    _close(_run(variant.transform(plain), W, GRADS)[0], _run(optimizer.transform(theta), W, GRADS)[0])


def test_bad_sizes_are_an_error():
    with pytest.raises(ValueError, match=r"hidden_size must be at least 0 .*got -1"):
        learned_optim.prodigy_residual(-1)
    with pytest.raises(ValueError, match=r"step_hidden_size must be at least 0 .*got -2"):
        learned_optim.prodigy_residual(step_hidden_size=-2)
    with pytest.raises(TypeError):
        learned_optim.prodigy_residual(4.0)
    with pytest.raises(TypeError, match="mix must be True or False, got 1"):
        learned_optim.prodigy_residual(mix=1)
