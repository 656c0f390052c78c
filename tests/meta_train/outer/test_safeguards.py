"""Safeguards: what is bounded, what is skipped, and the way back to the best theta."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.outer import safeguards
from meta_train.unroll import truncation


def _steps(tx, theta, gradients, losses=None, **extra):
    """Applies the updates of one gradient after the other; returns the thetas and the last state."""
    update, state, thetas = jax.jit(tx.update), tx.init(theta), []
    losses = [0.0] * len(gradients) if losses is None else losses
    for gradient, loss in zip(gradients, losses, strict=True):
        updates, state = update(gradient, state, theta, value=jnp.asarray(loss, jnp.float32), **extra)
        theta = optax.apply_updates(theta, updates)
        thetas.append(theta)
    return thetas, state


pytestmark = pytest.mark.optax_promotion  # optax.adam

THETA = {"a": jnp.array([3.0, 4.0]), "b": jnp.zeros(4)}
ONES = jax.tree.map(jnp.ones_like, THETA)


def test_without_bounds_a_finite_step_is_as_it_was():
    tx = optax.adam(0.1)
    gradients = [ONES, jax.tree.map(lambda x: -0.3 * x, ONES)]
    plain, _ = _steps(optax.with_extra_args_support(tx), THETA, gradients)
    guarded, state = _steps(safeguards.safeguarded(tx), THETA, gradients)
    jax.tree.map(np.testing.assert_array_equal, guarded, plain)
    assert (state.skipped, state.shortened, state.rollbacks) == (0, 0, 0)
    np.testing.assert_allclose(state.step_norm, np.linalg.norm(_flat(plain[1]) - _flat(plain[0])), rtol=1e-5)


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_the_largest_step():
    (theta, _), state = _steps(safeguards.safeguarded(optax.sgd(1.0), max_step=0.5), THETA, [ONES, ONES])
    step = _flat(THETA) - _flat(theta)
    np.testing.assert_allclose(step, np.full(6, 0.5 / np.sqrt(6)), rtol=1e-6)  # the same direction
    assert state.shortened == 2
    np.testing.assert_allclose(state.step_norm, np.sqrt(6), rtol=1e-6)  # what it would have been
    (theta,), state = _steps(safeguards.safeguarded(optax.sgd(0.1), max_step=0.5), THETA, [ONES])
    np.testing.assert_allclose(_flat(THETA) - _flat(theta), np.full(6, 0.1), rtol=1e-6)
    assert state.shortened == 0


def test_the_trust_ratio_is_for_each_tensor_by_itself_and_zeros_can_leave_zero():
    (theta,), state = _steps(safeguards.safeguarded(optax.sgd(0.5), trust_ratio=0.1), THETA, [ONES])
    np.testing.assert_allclose(jnp.linalg.norm(THETA["a"] - theta["a"]), 0.1 * 5.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(theta["b"]), 0.1 * 0.01 * np.sqrt(4), rtol=1e-6)
    assert state.shortened == 1
    (theta,), state = _steps(safeguards.safeguarded(optax.sgd(5e-4), trust_ratio=0.1), THETA, [ONES])
    np.testing.assert_allclose(_flat(THETA) - _flat(theta), np.full(6, 5e-4), rtol=1e-3)
    assert state.shortened == 0


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_what_is_not_finite_makes_no_step_and_leaves_no_trace(bad):
    tx = safeguards.safeguarded(optax.adam(0.1))
    plain, _ = _steps(tx, THETA, [ONES, ONES])
    thetas, state = _steps(tx, THETA, [ONES, {**ONES, "a": jnp.array([1.0, bad])}, ONES])
    jax.tree.map(np.testing.assert_array_equal, thetas[1], thetas[0])
    jax.tree.map(np.testing.assert_array_equal, thetas[2], plain[1])
    assert state.skipped == 1


def test_a_step_that_is_not_finite_is_skipped_as_well():
    divide = optax.stateless(lambda updates, params: jax.tree.map(lambda u: u / (u - 1.0), updates))
    thetas, state = _steps(safeguards.safeguarded(divide), jnp.array(2.0), [jnp.array(1.0), jnp.array(3.0)])
    assert (float(thetas[0]), float(thetas[1]), int(state.skipped)) == (2.0, 3.5, 1)


def test_rollback_restores_the_best_theta_and_the_optimizer_s_state():
    tx = safeguards.safeguarded(optax.sgd(1.0, momentum=0.5), max_rise=0.7, window=2)
    losses = [9.0, 1.0, 1.0, 3.0, 9.0, 9.0, 9.0]  # averages over two: 9, 5, 3, 3, 6; then from anew 9, 9
    thetas, state = _steps(tx, jnp.array(0.0), [jnp.array(-1.0)] * 7, losses)
    path = [float(theta) for theta in thetas]
    # Momentum steps are 1, 1.5, 1.75, 1.875. The best average is 3, at the third loss: of the theta before its step.
    best, momentum = 2.5, -1.75
    np.testing.assert_allclose(path[:4], [1.0, 2.5, 4.25, 6.125])
    assert path[4] == best and state.rollbacks >= 1
    np.testing.assert_allclose(path[5], best - (0.5 * momentum - 1.0))  # goes on with the momentum of then
    assert (path[6], int(state.rollbacks)) == (best, 2)  # the second loss after it: the average counts again


def test_a_loss_that_is_not_finite_tells_nothing():
    tx = safeguards.safeguarded(optax.sgd(1.0), max_rise=1.0, window=1)
    thetas, state = _steps(tx, jnp.array(0.0), [jnp.array(-1.0)] * 3, [1.0, jnp.nan, 1.5])
    assert ([float(theta) for theta in thetas], int(state.rollbacks), float(state.best)) == ([1.0, 2.0, 3.0], 0, 1.0)


def test_watched_tasks_decide_on_the_rollback():
    """Theta runs away; the loss that is trained on falls, that of the watched task rises beyond theta = 1."""

    def task(name, loss):
        problem = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: (state, loss(theta)))
        problem = problem._replace(name=name)
        arguments = {"num_particles": 1, "unroll_length": 1, "horizon": truncation.constant(1)}
        return estimators.truncated_backprop(problem, **arguments)

    training = task("training", lambda theta: -theta)
    validation = estimators.watched(task("validation", lambda theta: (theta - 1.0) ** 2))
    make = lambda watch: safeguards.safeguarded(optax.sgd(0.2), max_rise=0.5, window=1, watch=watch)
    arguments = {"num_steps": 60, "clip_norm": None, "progress": False}
    run = fit([training, validation], jnp.asarray(0.0), make((1,)), **arguments)
    assert 0.8 < run.theta < 2.0
    assert run.metrics[-1]["outer/rollbacks"] >= 3
    np.testing.assert_allclose(min(row["loss/validation"] for row in run.metrics), 0.0, atol=1e-6)
    free = fit([training, validation], jnp.asarray(0.0), make((0,)), **arguments)
    np.testing.assert_allclose(free.theta, 60 * 0.1, rtol=1e-5)  # half the rate: the mean is over both tasks
    assert free.metrics[-1]["outer/rollbacks"] == 0


def test_a_run_never_dies_of_a_nan(tmp_path):
    """Half of the outer steps give NaN; the others lead to the minimum, across a resume."""
    step = lambda key, theta, state, data: (
        state,
        jnp.where(jax.random.bernoulli(key), jnp.nan, jnp.sum((theta - 2.0) ** 2)),
    )
    problem = Problem(lambda key, theta, num_steps: (), step)
    estimator = estimators.truncated_backprop(problem, num_particles=1, unroll_length=1, horizon=truncation.constant(1))
    tx = safeguards.safeguarded(optax.sgd(0.2), max_step=1.0, max_rise=1.0)
    fit(estimator, jnp.zeros(2), tx, num_steps=40, run_dir=tmp_path, progress=False)
    result = fit(estimator, jnp.zeros(2), tx, num_steps=80, run_dir=tmp_path, resume=True, progress=False)
    np.testing.assert_allclose(result.theta, 2.0, atol=1e-3)
    losses = [row["loss"] for row in result.metrics]
    assert 20 < sum(not np.isfinite(loss) for loss in losses) < 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_step": 0.0}, "max_step must be positive, or None for no such safeguard, got 0.0"),
        ({"trust_ratio": -1.0}, "trust_ratio must be positive, .* got -1.0"),
        ({"max_rise": jnp.nan}, "max_rise must be positive, .* got nan"),
        ({"max_rise": 1.0, "window": 0}, "window must be at least 1 outer step, got 0"),
        ({"watch": (1,)}, r"watch=\(1,\) says which losses trigger a rollback: give max_rise as well"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        safeguards.safeguarded(optax.sgd(0.1), **arguments)


def test_what_update_needs():
    theta = jnp.ones(2)
    for arguments, given, message in (
        ({"trust_ratio": 0.1}, {}, r"call tx.update\(grads, state, theta\)"),
        ({"max_rise": 1.0}, {"params": theta}, "pass it to update as value="),
        ({"max_rise": 1.0, "watch": (0,)}, {"params": theta}, "update got no task_losses="),
        ({"max_rise": 1.0, "watch": (2,)}, {"params": theta, "task_losses": jnp.ones(2)}, r"of the 2 .*got \(2,\)"),
    ):
        tx = safeguards.safeguarded(optax.sgd(0.1), **arguments)
        with pytest.raises(ValueError, match=message):
            tx.update(theta, tx.init(theta), **given)
