"""Truncated backpropagation: exact where the window holds the episode, wrong by a known amount where it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from meta_train import Problem
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import truncated_backprop
from meta_train.unroll import truncation

STEADY = 500  # inner steps after which influence balancing has come to rest


def _last(losses):
    return losses[-1]


def _windows(estimator, theta, num_windows):
    """The gradients and infos of successive windows, each with a leading axis of windows."""

    @jax.jit
    def run(theta, keys):
        def window(state, key):
            gradient, state, info = estimator.estimate(key, theta, state, estimator.data)
            return state, (gradient, info)

        return jax.lax.scan(window, estimator.init(jax.random.key(0), theta), keys)[1]

    return run(theta, jax.random.split(jax.random.key(1), num_windows))


def _starting_at_theta(problem):
    """The problem with another first state, one that theta moves as well."""
    return problem._replace(init=lambda key, theta, num_steps: theta * jnp.arange(1, 24, dtype=theta.dtype))


def _episode(problem, theta, num_steps):
    """The losses of an episode, by a plain loop."""
    state, losses = problem.init(None, theta, num_steps), []
    for _ in range(num_steps):
        state, loss = problem.step(None, theta, state, problem.data)
        losses.append(loss)
    return jnp.stack(losses)


@pytest.mark.parametrize(
    ("unroll_length", "objective", "expected"),
    [
        (1, _last, -4.0),
        (10, _last, -40.0),
        (100, _last, 24.0),
        (STEADY, _last, 24.0),
        (10, jnp.mean, -4.0 * np.mean(np.arange(1, 11))),
    ],
)
def test_influence_balancing_at_rest(influence_balancing, unroll_length, objective, expected):
    """The true gradient is 24; windows of 1 and 10 steps have the wrong sign."""
    with jax.enable_x64(True):
        estimator = truncated_backprop(
            influence_balancing,
            num_particles=1,
            unroll_length=unroll_length,
            horizon=truncation.constant(STEADY),
            objective=objective,
            stagger=False,
        )
        gradients, infos = _windows(estimator, jnp.asarray(0.5, jnp.float64), STEADY // unroll_length)
        assert gradients.dtype == jnp.float64
        np.testing.assert_allclose(gradients[-1], expected, rtol=1e-8)
        if unroll_length <= 100:
            np.testing.assert_allclose(infos.loss[-1], 8.0, rtol=1e-8)


def test_short_windows_give_their_known_wrong_answer(influence_balancing):
    """Over an episode of 30 steps in windows of 5: 512 instead of 2198, summed over the steps."""
    estimator = truncated_backprop(
        influence_balancing, num_particles=1, unroll_length=5, horizon=truncation.constant(30), stagger=False
    )
    gradients, _ = _windows(estimator, jnp.asarray(0.5), 6)
    np.testing.assert_allclose(jnp.sum(gradients) * 5, 511.780, rtol=1e-5)


def test_a_window_as_long_as_the_episode_is_exact(influence_balancing):
    """From the second episode on; the first state of all is a constant to the estimator."""
    with jax.enable_x64(True):
        theta = jnp.asarray(0.5, jnp.float64)
        problem = _starting_at_theta(influence_balancing)
        estimator = truncated_backprop(
            problem, num_particles=2, unroll_length=30, horizon=truncation.constant(30), stagger=False
        )
        gradients, infos = _windows(estimator, theta, 3)
        loss, expected = jax.value_and_grad(lambda theta: jnp.mean(_episode(problem, theta, 30)))(theta)
        np.testing.assert_allclose(gradients[1:], [expected, expected], rtol=1e-12)
        np.testing.assert_allclose(infos.loss, [loss, loss, loss], rtol=1e-12)
        np.testing.assert_array_equal(infos.inner_steps, [60, 60, 60])
        np.testing.assert_array_equal(infos.dropped, [0, 0, 0])


def test_an_episode_that_ends_inside_of_a_window(influence_balancing):
    """Windows of 7 steps, episodes of 10. The third window holds steps 14 … 20: 6 of the second episode, 1 of the next.

    The derivative runs through the first state of an episode that begins inside, and stops at the window's start.
    """
    with jax.enable_x64(True):
        theta = jnp.asarray(0.5, jnp.float64)
        problem = _starting_at_theta(influence_balancing)
        estimator = truncated_backprop(
            problem, num_particles=1, unroll_length=7, horizon=truncation.constant(10), stagger=False
        )
        gradients, infos = _windows(estimator, theta, 5)

        state, time = problem.init(None, theta, 10), 0
        for gradient, info_loss in zip(gradients, infos.loss, strict=True):

            def window(theta, state=state, time=time):
                losses = []
                for step in range(time, time + 7):
                    if step % 10 == 0 and step > 0:
                        state = problem.init(None, theta, 10)
                    state, loss = problem.step(None, theta, state, problem.data)
                    losses.append(loss)
                return sum(losses) / 7, state

            (loss, state), expected = jax.value_and_grad(window, has_aux=True)(theta)
            time += 7
            np.testing.assert_allclose(gradient, expected, rtol=1e-12)
            np.testing.assert_allclose(info_loss, loss, rtol=1e-12)


@pytest.mark.parametrize("stagger", [True, False])
def test_staggered_workers_start_at_different_steps(influence_balancing, stagger):
    estimator = truncated_backprop(
        influence_balancing, num_particles=64, unroll_length=2, horizon=truncation.constant(4), stagger=stagger
    )
    state = jax.jit(estimator.init)(jax.random.key(0), jnp.asarray(0.5))
    assert set(np.asarray(state.clock.step)) == ({0, 1, 2, 3} if stagger else {0})


@pytest.mark.parametrize("second_derivatives", [True, False])
def test_second_derivatives(second_derivatives):
    """Against gradient descent by hand, with and without a stop at the inner gradient. theta is its rate."""
    with jax.enable_x64(True):
        rate = jnp.asarray(0.1, jnp.float64)
        descent = learned_optim.LearnedOptimizer(
            init=lambda key: rate,
            transform=lambda theta, num_steps: optax.with_extra_args_support(optax.sgd(theta)),
            spec={},
        )
        task = tasks.quadratic(size=3)
        problem = problems.optimizer_weights(descent, task, second_derivatives=second_derivatives)
        estimator = truncated_backprop(
            problem, num_particles=1, unroll_length=4, horizon=truncation.constant(4), stagger=False
        )
        state = jax.jit(estimator.init)(jax.random.key(0), rate)
        actual, _, _ = jax.jit(estimator.estimate)(jax.random.key(1), rate, state, estimator.data)
        inner = jax.tree.map(lambda x: x[0], state.states)

        def unrolled(rate, stop):
            x, losses = inner.params["x"], []
            for _ in range(4):
                loss, grad = jax.value_and_grad(lambda x: task.loss({"x": x}, None, (), inner.config))(x)
                losses.append(task.normalize(loss))
                x = x - rate * (jax.lax.stop_gradient(grad) if stop else grad)
            return sum(losses) / 4

        right, other = (jax.grad(unrolled)(rate, stop) for stop in (not second_derivatives, second_derivatives))
        np.testing.assert_allclose(actual, right, rtol=1e-12)
        assert abs(other / right - 1) > 0.01


def test_a_worker_that_diverges_is_left_out_and_begins_anew(influence_balancing):
    estimator = truncated_backprop(
        influence_balancing, num_particles=3, unroll_length=5, horizon=truncation.constant(30), stagger=False
    )
    theta = jnp.asarray(0.5)
    state = jax.jit(estimator.init)(jax.random.key(0), theta)
    poisoned = state._replace(states=state.states.at[1].set(jnp.nan))
    estimate = jax.jit(estimator.estimate)
    expected, _, _ = estimate(jax.random.key(1), theta, state, estimator.data)
    gradient, after, info = estimate(jax.random.key(1), theta, poisoned, estimator.data)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)  # the workers of this problem are all alike
    assert int(info.dropped) == 1
    gradient, after, info = estimate(jax.random.key(2), theta, after, estimator.data)
    assert int(info.dropped) == 0
    np.testing.assert_array_equal(after.clock.step, [10, 5, 10])
    np.testing.assert_array_equal(np.isfinite(after.states).all(axis=1), True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"unroll_length": 0}, "between 1 and the shortest episode, 30 steps, got 0"),
        ({"unroll_length": 31}, "between 1 and the shortest episode, 30 steps, got 31"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    problem = Problem(init=lambda *_: 0.0, step=lambda key, theta, state, data: (state, theta))
    arguments = {"num_particles": 1, "unroll_length": 5, "horizon": truncation.constant(30)} | arguments
    with pytest.raises(ValueError, match=message):
        truncated_backprop(problem, **arguments)
