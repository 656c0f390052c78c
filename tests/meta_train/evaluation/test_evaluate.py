"""Evaluation runs, tuning and comparison."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import tasks
from meta_train.evaluation import evaluate
from meta_train.evaluation import lanes
from meta_train.evaluation import tuning
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer

BOWL = Task(
    name="bowl",
    data=(),
    sample=lambda key: (),
    init=lambda key, config: jax.random.normal(key, (3,)),
    loss=lambda params, key, data, config: 0.5 * jnp.sum(params**2),
    evaluate=lambda params, key, data, config: {"loss": jnp.sum(jnp.abs(params))},
    normalize=log_normalizer(1.0),
)


def test_run_makes_the_steps_of_a_hand_written_loop():
    result = evaluate.run(BOWL, optax.sgd(0.5), num_steps=4, num_seeds=2, name="sgd")
    # Each step halves the parameters, so it quarters the loss.
    np.testing.assert_allclose(result.losses[:, 1:], result.losses[:, :-1] / 4, rtol=1e-6)
    assert result.losses.shape == (2, 4)
    assert result.losses[0, 0] != result.losses[1, 0]
    norms = np.sqrt(2 * result.losses[:, 0]) / 16
    assert np.all(result.held_out["loss"] >= norms * (1 - 1e-6))  # the 1-norm bounds the 2-norm
    assert np.all(result.held_out["loss"] <= norms * np.sqrt(3) * (1 + 1e-6))


def test_seeds_fix_the_draws_whatever_the_optimizer():
    task = tasks.get("quadratic")
    first, second = (evaluate.run(task, optax.sgd(rate), num_steps=2, num_seeds=3) for rate in (0.0, 0.1))
    np.testing.assert_array_equal(first.losses[:, 0], second.losses[:, 0])
    assert np.all(first.losses[:, 1] != second.losses[:, 1])


def test_the_optimizer_gets_the_loss_as_value():
    def update(updates, state, params=None, *, value, **extra):
        del params, extra
        return jax.tree.map(lambda g: -value * jnp.sign(g), updates), state

    tx = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    result = evaluate.run(BOWL, tx, num_steps=1, num_seeds=2)
    assert np.all(np.isfinite(result.held_out["loss"]))


@pytest.mark.optimized
def test_a_run_is_the_beginning_of_a_longer_one_to_the_last_bit():
    """Minibatches included; held-out metrics on the way are those of a run that ends there."""
    task = tasks.get("wine-softmax")
    lane = lanes.build(task, lambda rate, num_steps: optax.sgd(rate), width=2, size=40, num_marks=3)
    curves = evaluate.measure(lane, marks=(4, 11, 30), num_steps=30, num_seeds=2, hyperparameters=0.1)
    assert curves.losses.shape == (2, 30)
    assert np.all(curves.losses[:, 1:] != curves.losses[:, :-1])
    for steps in (4, 11, 30):
        alone = evaluate.run(task, optax.sgd(0.1), num_steps=steps, num_seeds=2)
        beginning = curves.until(steps, "")
        np.testing.assert_array_equal(beginning.losses, alone.losses)
        for metric in ("loss", "accuracy"):
            np.testing.assert_array_equal(beginning.held_out[metric], alone.held_out[metric])


@pytest.mark.optax_promotion
def test_compare_adds_untuned_and_tuned_adam(monkeypatch):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-5, 0.1))
    lines = []
    results = evaluate.compare(BOWL, {"mine": optax.sgd(0.5)}, num_steps=20, num_seeds=2, progress=lines.append)
    assert [result.optimizer for result in results] == ["mine", "Adam 1e-3", "Adam 0.1 (tuned)"]
    assert [(result.learning_rate, result.at_edge) for result in results] == [(None, False)] * 2 + [(0.1, True)]
    assert results[2].final_losses.mean() < results[1].final_losses.mean()
    assert any("mine" in line for line in lines)


@pytest.mark.parametrize("arguments", [{"num_steps": 0, "num_seeds": 1}, {"num_steps": 1, "num_seeds": 0}])
def test_run_refuses_to_do_nothing(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        evaluate.run(BOWL, optax.sgd(0.1), **arguments)


def test_curves_as_arrays_and_back():
    """These names are in the files of earlier evaluations."""
    held_out = {"loss": np.ones((2, 3)), "accuracy": np.zeros((2, 3))}
    curves = evaluate.Curves(np.array([5, 10]), np.ones((3, 10), np.float32), held_out, 1.5, 48)
    arrays = curves.to_arrays()
    assert set(arrays) == {
        "marks",
        "losses",
        "held_out/loss",
        "held_out/accuracy",
        "step_milliseconds",
        "state_bytes",
    }
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = evaluate.Curves.from_arrays(arrays)
    jax.tree.map(np.testing.assert_array_equal, curves, again)
    assert (again.step_milliseconds, again.state_bytes) == (1.5, 48)
