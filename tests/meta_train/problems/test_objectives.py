"""Meta-objectives: the mean loss of the problem that they make is the last, the least or the held-out loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from meta_train import Problem
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.problems import objectives
from meta_train.unroll import truncation

LOSSES = np.array([[3.0, -1.0, 4.0, -1.5, 9.0, 2.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.5], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])


def _replay(losses):
    """A problem that has these losses, plus theta times the step's number."""
    step = lambda key, theta, state, data: (state + 1, data[state] + theta * (state + 1).astype(theta.dtype))
    return Problem(lambda key, theta, num_steps: jnp.asarray(0, jnp.int32), step, jnp.asarray(losses, jnp.float32))


def _episode(problem, theta, num_steps):
    """The losses of an episode, its length traced."""

    @jax.jit
    def run(num_steps):
        step = lambda state, _: problem.step(None, theta, state, problem.data)
        return jax.lax.scan(step, problem.init(None, theta, num_steps), None, length=6)[1]

    return np.asarray(run(jnp.asarray(num_steps, jnp.int32)))[:num_steps]


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("num_steps", [1, 4, 6])
def test_last_and_best(losses, num_steps):
    theta = jnp.asarray(0.0)
    last = _episode(objectives.last(_replay(losses)), theta, num_steps)
    np.testing.assert_allclose(last.mean(), losses[num_steps - 1], rtol=1e-6)
    np.testing.assert_array_equal(last[:-1], 0.0)
    best = _episode(objectives.best(_replay(losses)), theta, num_steps)
    np.testing.assert_allclose(best.mean(), losses[:num_steps].min(), rtol=1e-6)
    np.testing.assert_array_equal(best[1:] == 0, losses[1:num_steps] >= np.minimum.accumulate(losses)[: num_steps - 1])


@pytest.mark.parametrize(("objective", "expected"), [(objectives.last, 6.0), (objectives.best, 4.0)])
def test_gradients_are_those_of_the_objective(objective, expected):
    """The last loss moves by 6 theta, and the least one, which comes fourth, by 4; windows are enough for the last."""
    problem, theta = objective(_replay(LOSSES[0])), jnp.asarray(0.0)
    horizon = truncation.constant(6)
    for estimator, num_windows in (
        (estimators.full_backprop(problem, num_particles=1, horizon=horizon), 1),
        (
            estimators.truncated_backprop(problem, num_particles=1, unroll_length=2, horizon=horizon, stagger=False),
            3,
        ),
    ):

        @jax.jit
        def run(keys, estimator=estimator):
            def window(state, key):
                gradient, state, info = estimator.estimate(key, theta, state, estimator.data)
                return state, (gradient, info.loss)

            return jax.lax.scan(window, estimator.init(keys[0], theta), keys)[1]

        gradients, means = run(jax.random.split(jax.random.key(0), num_windows))
        if objective is objectives.last or num_windows == 1:  # windows forget how the best came about
            np.testing.assert_allclose(gradients.mean(), expected, rtol=1e-6)
        np.testing.assert_allclose(means.mean(), 2.0 if objective is objectives.last else -1.5, rtol=1e-6)


def test_held_out_loss_is_that_after_the_update():
    """Gradient descent on a quadratic, with a held-out loss of its own; and the last of them."""
    descent = learned_optim.LearnedOptimizer(
        init=lambda key: jnp.asarray(0.1),
        transform=lambda theta, num_steps: optax.with_extra_args_support(optax.sgd(theta)),
        spec={},
    )
    task = tasks.quadratic(size=3)._replace(
        evaluate=lambda params, key, data, config: {"loss": jnp.sum(params["x"] ** 2) + config[1][0]},
        normalize=lambda loss: 2 * loss,
    )
    problem = objectives.held_out(problems.optimizer_weights(descent, task), task)
    theta, num_steps = jnp.asarray(0.1), jnp.asarray(4, jnp.int32)
    state = problem.init(jax.random.key(0), theta, num_steps)
    x, config, expected = state.params["x"], state.config, []
    for _ in range(4):
        x = x - 0.1 * jax.grad(lambda x: task.loss({"x": x}, None, (), config))(x)
        expected.append(2 * (jnp.sum(x**2) + config[1][0]))

    def run(problem):
        step = lambda state, key: problem.step(key, theta, state, problem.data)
        state = problem.init(jax.random.key(0), theta, num_steps)
        return jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 4))[1]

    np.testing.assert_allclose(run(problem), expected, rtol=1e-5)
    np.testing.assert_allclose(run(objectives.last(problem)), [0, 0, 0, 4 * expected[-1]], rtol=1e-5)


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("num_steps", [1, 4, 6])
def test_late_weights_losses_by_a_power_of_progress(losses, num_steps):
    theta, progress = jnp.asarray(0.0), (np.arange(num_steps) + 0.5) / num_steps
    made = _episode(objectives.late(_replay(losses), power=3.0), theta, num_steps)
    np.testing.assert_allclose(made, 4 * progress**3 * losses[:num_steps], rtol=1e-6)
    mean = _episode(objectives.late(_replay(losses), power=0.0), theta, num_steps)
    np.testing.assert_allclose(mean, losses[:num_steps])


def test_late_with_a_negative_power_is_an_error():
    with pytest.raises(ValueError, match=r"power must be at least 0, got -1"):
        objectives.late(_replay(LOSSES[0]), power=-1.0)


@pytest.mark.parametrize(("num_steps", "part", "count"), [(1, 0.1, 1), (4, 0.5, 2), (6, 0.4, 2), (6, 1.0, 6)])
def test_log_final_is_the_log_of_the_mean_of_the_last_losses(num_steps, part, count):
    losses = np.exp(LOSSES[1])
    made = _episode(objectives.log_final(_replay(losses), part, floor=0.5), jnp.asarray(0.0), num_steps)
    np.testing.assert_allclose(made.mean(), np.log(losses[num_steps - count : num_steps].mean() + 0.5), rtol=1e-6)
    np.testing.assert_array_equal(made[:-1], 0.0)


@pytest.mark.parametrize("part", [0.0, 1.1, float("nan")])
def test_log_final_of_no_part_is_an_error(part):
    with pytest.raises(ValueError, match=r"part is the part of an episode .* above 0 and at most 1, got"):
        objectives.log_final(_replay(LOSSES[1]), part)


def test_log_final_without_a_floor_is_an_error():
    with pytest.raises(ValueError, match=r"floor .* must be above 0, got 0"):
        objectives.log_final(_replay(LOSSES[1]), floor=0)
