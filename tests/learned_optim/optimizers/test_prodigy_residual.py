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

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "prodigy_parts.py")))
reference = parts.adam_parts


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


def _defined_run(theta, grads, params, num_steps):
    """The updates of all tensors at successive gradients, and the distance at each of them, in float64."""

    def update(t, grads, param, distance, shared_features):
        (slow, length, late, known), decay = reference.progress(t, num_steps, theta["unknown_horizon"]["progress"])
        features, observed = reference.coordinates(grads, param)
        tensor = [slow, np.exp(-t / 20), length, param.ndim < 2, *observed, late, known, *shared_features]
        c = np.array(tensor, np.float64)
        step_size = np.exp(reference.log_step(theta["step"], c, param.ndim)) * decay * distance
        return -step_size * reference.direction(theta["direction"], features, c)

    return parts.defined_run(theta["distance"]["log_first"], grads, params, update)


@pytest.mark.parametrize(("sizes", "num_steps"), [((8, 16, True), 400), ((8, 3, False), None), ((0, 0, False), 3)])
def test_four_steps_equal_the_definition(sizes, num_steps):
    theta, params = _theta(*sizes), parts.tree(1)
    grads = [parts.tree(seed, 10.0 ** (1 - seed)) for seed in (2, 3, 4, 5)]
    tx = learned_optim.prodigy_residual(*sizes).transform(parts.float32(theta), num_steps=num_steps)
    made, distances = parts.run(tx, parts.float32(params), [parts.float32(grad) for grad in grads])
    expected, expected_distances = _defined_run(theta, grads, params, num_steps)
    parts.assert_close(made, expected, rtol=3e-5)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-5)


def test_the_distance_grows_as_it_is_defined():
    """Gradients that agree: the distance doubles and doubles again, and the ratio of the estimate to it moves."""
    theta = _theta(0, scale=0.05)
    theta["direction"]["skip"][4] += 1.0
    params, random = parts.tree(1), np.random.RandomState(3)
    grads = [{name: 1.0 + 0.3 * random.standard_normal(x.shape) for name, x in params.items()} for _ in range(40)]
    tx = learned_optim.prodigy_residual(0).transform(parts.float32(theta), num_steps=1000)
    _, distances = parts.run(tx, parts.float32(params), [parts.float32(grad) for grad in grads])
    _, expected = _defined_run(theta, grads, params, 1000)
    assert expected[-1] > 4 * expected[0]
    np.testing.assert_allclose(distances, expected, rtol=1e-3)


def test_direction_and_log_step_are_clipped():
    """Directions of 12 times ±1 go to ±8, and a log step of 100 goes to 5."""
    theta = jax.tree.map(jnp.zeros_like, parts.float32(_theta()))
    theta["direction"]["skip"] = theta["direction"]["skip"].at[4].set(12.0)
    theta["step"]["skip"] = theta["step"]["skip"].at[8].set(100.0)
    params = {"w": jnp.array([[1.0, -1.0]])}
    ((updates,), _) = parts.run(learned_optim.prodigy_residual().transform(theta, num_steps=10), params, [params])
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
    ours = distance(tx, lambda state: state.shared.distance)
    published = distance(optax.contrib.prodigy(), lambda state: state.estim_lr)
    assert 0.2 < ours / published < 5
    assert ours > 100 * 0.005 * 0.1 / np.sqrt(3)  # far from where it began


def test_features_are_never_stacked_in_memory():
    """A stack of them takes nine times the memory of the parameters, and the step several times as long."""
    tx = learned_optim.prodigy_residual().transform(parts.float32(_theta()), num_steps=10)
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
    theta = parts.float32(_theta(8))
    theta["direction"]["w_out"] = jnp.zeros(8)
    plain = {**theta, "direction": {name: theta["direction"][name] for name in ("skip", "mix")}}
    parts.assert_close(
        parts.run(variant.transform(plain), parts.W, parts.GRADS)[0],
        parts.run(optimizer.transform(theta), parts.W, parts.GRADS)[0],
    )


def test_bad_sizes_are_an_error():
    with pytest.raises(ValueError, match="hidden_size must be at least 0, got -1"):
        learned_optim.prodigy_residual(-1)
    with pytest.raises(ValueError, match="step_hidden_size must be at least 0, got -2"):
        learned_optim.prodigy_residual(step_hidden_size=-2)
    with pytest.raises(TypeError):
        learned_optim.prodigy_residual(4.0)
    with pytest.raises(TypeError, match="mix must be True or False, got 1"):
        learned_optim.prodigy_residual(mix=1)
