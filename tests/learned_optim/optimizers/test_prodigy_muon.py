"""The Prodigy-and-Muon optimizer against its definition, written again in NumPy."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from meta_train import tasks
from meta_train.evaluation import lanes

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "prodigy_parts.py")))
muon_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "muon_parts.py")))
reference = parts.adam_parts


def _theta(scale=0.2):
    """Weights that are all non-zero and keep the log step size and the direction inside of their bounds."""
    random = np.random.RandomState(0)
    normal = lambda *shape: scale * random.standard_normal(shape)
    return {
        "direction": {"constant": normal(3) + np.array([0.7, 0, 0]), "lookahead": -1.5 + normal(), "slope": normal(3)},
        "distance": {"log_first": np.log(0.02) + normal()},
        "step": {"base": normal(2), "skip": normal(11)},
        "unknown_horizon": {"exponent": 0.7, "progress": np.array([0.2, -0.3])},
    }


def _defined_run(theta, grads, params, num_steps):
    """The updates of all tensors at successive gradients, and the distance at each of them, in float64."""

    def update(t, grads, param, distance, shared_features):
        unknown = theta["unknown_horizon"]
        (slow, length, *_, known), decay = reference.progress(t, num_steps, unknown["progress"])
        decay = decay if known else (1 + t / 100) ** -unknown["exponent"]
        directions, observed = muon_parts.directions(grads, 1 / (1 + np.exp(-theta["direction"]["lookahead"])), 64)
        tensor = [*observed, *shared_features, *muon_parts.shape_features(param.shape)]
        c = np.array([slow, np.exp(-t / 20), length, np.log(decay) / 2, known, *tensor], np.float64)
        step_size = np.exp(reference.log_step(theta["step"], c, param.ndim)) * decay * distance
        weights = theta["direction"]["constant"] + slow * theta["direction"]["slope"]
        return -step_size * np.clip(np.tensordot(weights, np.stack(directions), 1), -8, 8)

    return parts.defined_run(theta["distance"]["log_first"], grads, params, update)


@pytest.mark.parametrize("num_steps", [400, None, 3])
def test_four_steps_equal_the_definition(num_steps):
    theta, params = _theta(), parts.tree(1)
    grads = [parts.tree(seed, 10.0 ** (1 - seed)) for seed in (2, 3, 4, 5)]
    tx = learned_optim.prodigy_muon().transform(parts.float32(theta), num_steps=num_steps)
    made, distances = parts.run(tx, parts.float32(params), [parts.float32(grad) for grad in grads])
    expected, expected_distances = _defined_run(theta, grads, params, num_steps)
    parts.assert_close(made, expected, rtol=1e-4)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-5)


def test_forty_steps_equal_the_definition_while_the_distance_grows():
    """Gradients that agree: the distance doubles and doubles again, and what is seen of their agreement moves."""
    theta, params, random = _theta(0.05), parts.tree(1), np.random.RandomState(3)
    grads = [{name: 1.0 + 0.3 * random.standard_normal(x.shape) for name, x in params.items()} for _ in range(40)]
    tx = learned_optim.prodigy_muon().transform(parts.float32(theta), num_steps=1000)
    made, distances = parts.run(tx, parts.float32(params), [parts.float32(grad) for grad in grads])
    expected, expected_distances = _defined_run(theta, grads, params, 1000)
    assert expected_distances[-1] > 3 * expected_distances[0]
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-3)
    parts.assert_close(made[-1], expected[-1], rtol=5e-3)


def test_direction_and_log_step_are_clipped():
    """A direction of 12 times ±1 goes to ±8, and a log step of 100 goes to 5."""
    theta = jax.tree.map(jnp.zeros_like, parts.float32(_theta()))
    theta["direction"]["constant"] = jnp.array([0.0, 12.0, 0.0])
    theta["step"]["skip"] = theta["step"]["skip"].at[4].set(100.0)
    params = {"w": jnp.array([[1.0, -1.0]])}
    ((updates,), _) = parts.run(learned_optim.prodigy_muon().transform(theta, num_steps=10), params, [params])
    np.testing.assert_allclose(updates["w"], [[-8 * np.exp(5), 8 * np.exp(5)]], rtol=1e-5)


def test_on_real_data_orthogonal_directions_get_further_than_adams_in_the_same_units():
    """Digits, by a perceptron, untrained, with nothing tuned: the loss of the last 20 of 200 steps."""
    task = tasks.get("digits-mlp-tanh")

    def final(constant):
        theta = learned_optim.prodigy_muon().init(jax.random.key(0))
        theta["direction"]["constant"] = jnp.asarray(constant)
        make = lambda rate, num_steps: learned_optim.prodigy_muon().transform(theta, num_steps=num_steps)
        program = lanes.build(task, make, width=2, size=200)
        start = program.begin(lanes.keys(2, lanes.REPORT))
        losses, _ = program.train(np.zeros(2), start, (200,), 200, held_out=False)
        return lanes.final_losses(losses)

    orthogonal, adam = final([1.0, 0.0, 0.0]), final([0.0, 1.0, 0.0])
    assert np.all(orthogonal < 0.7 * adam) and np.all(adam < 0.2)


def test_memory_beyond_arguments_and_results_is_bounded():
    tx = learned_optim.prodigy_muon().transform(parts.float32(_theta()), num_steps=10)
    params = jax.ShapeDtypeStruct((400, 300), jnp.float32)
    compiled = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4.5 * params.size * 4


def test_spec_weights_and_state():
    optimizer = learned_optim.prodigy_muon()
    assert optimizer.spec == {"kind": "prodigy_muon", "feature_version": 1}
    theta = optimizer.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == 24
    state = optimizer.transform(theta).init({"w": jnp.ones((3, 2)), "b": jnp.ones(5)})
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 4 * 11 + 2 + 3 + 1
