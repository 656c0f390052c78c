"""Data drawn once an episode: each episode is about one of three slopes, and parameters show how far they went."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train.unroll import truncation
from meta_train.unroll.episode_data import SampledState
from meta_train.unroll.episode_data import keep_episode
from meta_train.unroll.problem import Problem

SLOPES = np.array([1.0, 2.0, 4.0], np.float32)
NUM_STEPS = 3
BILEVEL = Bilevel(
    inner_loss=lambda w, theta, key, slope: slope * w,
    outer_loss=lambda w, theta, key, slope: theta * w,
    init=lambda key, theta: jnp.zeros(()),
    data=SLOPES,
    name="slopes",
    sample=lambda key, data: jnp.asarray(data)[jax.random.randint(key, (), 0, 3)],
)
# Each goes down the slope s by s / 8 a step, so that the mean of w over three steps is -s / 4.
PROBLEMS = {
    "unrolled": problems.unrolled(BILEVEL, optax.sgd(0.125)),
    "gradient_flow": problems.gradient_flow(BILEVEL, duration=0.375),
    "momentum_descent": problems.momentum_descent(BILEVEL, lambda theta, step: (0.125, 0.0)),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_all_steps_of_an_episode_see_the_same_draw(name):
    problem = PROBLEMS[name]
    assert problem.data is SLOPES

    def episode(key):
        state = problem.init(key, jnp.ones(()), jnp.asarray(NUM_STEPS))
        assert isinstance(state, SampledState)
        step = lambda state, key: problem.step(key, jnp.ones(()), state, problem.data)
        return jax.lax.scan(step, state, jax.random.split(key, NUM_STEPS))[1]

    losses = np.asarray(jax.vmap(episode)(jax.random.split(jax.random.key(0), 20)))
    assert set(losses[:, 0]) == set(-SLOPES / 8)
    np.testing.assert_array_equal(losses, losses[:, :1] * np.arange(1, NUM_STEPS + 1))


def test_without_a_sample_states_are_as_they_were():
    plain = BILEVEL._replace(sample=None, data=SLOPES[1])
    state = problems.unrolled(plain, optax.sgd(0.125)).init(jax.random.key(0), jnp.ones(()), 1)
    assert type(state).__name__ == "UnrolledState"


ARGUMENTS = {"num_particles": 1, "horizon": truncation.constant(NUM_STEPS)}
WINDOW = {**ARGUMENTS, "unroll_length": NUM_STEPS}


@pytest.mark.parametrize(
    "build",
    [
        functools.partial(estimators.full_backprop, **ARGUMENTS),
        functools.partial(estimators.truncated_backprop, **WINDOW, stagger=False),
        functools.partial(estimators.forward_mode, **ARGUMENTS),
        functools.partial(estimators.pes, **WINDOW, std=0.1, stagger=False),
        functools.partial(estimators.full_es, **ARGUMENTS, std=0.1),
    ],
)
def test_estimators_that_unroll(build):
    """The loss is theta times the mean of w, for a pair also, if its two signs see the same slope."""
    estimator = build(PROBLEMS["unrolled"])
    theta, estimate = jnp.asarray(3.0), jax.jit(estimator.estimate)
    state, slopes = estimator.init(jax.random.key(0), theta), set()
    for step in range(12):
        gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
        slopes.add(round(float(info.loss) / -0.75, 4))
        if "std" not in build.keywords:
            np.testing.assert_allclose(gradient, info.loss / theta, rtol=1e-6)
    assert slopes == set(SLOPES.tolist())


def test_a_run_can_be_kept_and_resumed(tmp_path):
    """The episode's key is part of the state that is written."""
    estimator = estimators.truncated_backprop(
        PROBLEMS["unrolled"], num_particles=2, unroll_length=1, horizon=truncation.constant(NUM_STEPS)
    )
    run = functools.partial(fit, estimator, jnp.asarray(3.0), optax.sgd(0.1), steps_per_dispatch=2, progress=False)
    whole = run(num_steps=4)
    run(num_steps=2, run_dir=tmp_path)
    resumed = run(num_steps=4, run_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(whole.theta, resumed.theta)


def test_a_problem_that_draws_nothing_is_returned():
    problem = Problem(lambda *_: 0.0, lambda *_: (0.0, 0.0))
    assert keep_episode(problem, None) is problem
