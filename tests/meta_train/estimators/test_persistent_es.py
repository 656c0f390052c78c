"""The estimator that PES, NRES and GPES share: right under any policy, and its books add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Bilevel
from meta_train import Problem
from meta_train.estimators import noise_policy
from meta_train.estimators.persistent_es import persistent_es
from meta_train.unroll import truncation

WINDOW, HORIZON, STD = 2, 6, 0.1
DECAY, START, THETA = 0.8, 0.7, 0.3


def _every_other_window():
    """A policy that no estimator of the library has: fresh perturbations for the windows of odd number."""
    whole = noise_policy.several_windows(STD, WINDOW, WINDOW)

    def at_window(step, accumulator, noise, drawn):
        renewed = (step // WINDOW) % 2 == 1
        return jax.tree.map(lambda new, old: jnp.where(renewed, new, old), drawn, noise), renewed

    return whole._replace(at_window=at_window)


POLICIES = {
    "every_other_window": _every_other_window(),
    "every_window": noise_policy.every_window(),
    "several_windows": noise_policy.several_windows(STD, 2 * WINDOW, WINDOW),
    "whole_episode": noise_policy.whole_episode(STD),
}
every_policy = pytest.mark.parametrize("name", POLICIES)


def _build(problem, name, *, num_particles, horizon=HORIZON, unroll_length=WINDOW, std=STD, shaping=None):
    return persistent_es(
        problem,
        POLICIES[name],
        name,
        num_particles=num_particles,
        unroll_length=unroll_length,
        horizon=truncation.constant(horizon),
        std=std,
        stagger=False,
        shaping=shaping,
    )


def _walk():
    """s' = DECAY s + theta from s = START theta, with loss s'^2."""

    def step(key, theta, state, data):
        state = DECAY * state + theta
        return state, state**2

    return Problem(lambda key, theta, num_steps: START * theta, step)


def _slopes():
    """The derivative of each step's loss at THETA, as s_t = c_t theta: in an episode, and within a window only."""
    factors, within = [START], []
    for step in range(HORIZON):
        factors.append(DECAY * factors[-1] + 1)
        first = step - step % WINDOW
        own = sum(DECAY**k for k in range(step - first + 1)) + (START * DECAY ** (step + 1) if first == 0 else 0)
        within.append(2 * factors[-1] * THETA * own)
    return np.array([2 * c**2 * THETA for c in factors[1:]]), np.array(within)


@every_policy
def test_unbiased_under_any_policy(name, successive_gradients, mean_and_error):
    """Over whole episodes the mean is the derivative of the mean loss, and not the sum of what the windows see.

    In the first episode as in the second: the first states of both depend on theta.
    """
    estimator, windows = _build(_walk(), name, num_particles=200), HORIZON // WINDOW
    samples = successive_gradients(estimator, jnp.asarray(THETA), 2 * windows, 300)
    right, truncated = (slopes.mean() for slopes in _slopes())
    for episode in (samples[:, :windows], samples[:, windows:]):
        mean, error = mean_and_error(episode.mean(axis=1))
        assert error < 0.02 * right
        assert abs(mean - right) < 4 * error
        assert abs(mean - truncated) > 10 * error


@pytest.mark.parametrize("name", ["every_other_window", "every_window"])
def test_an_even_loss_gives_exactly_zero(name):
    """At theta = 0 both signs have the same loss, whatever was perturbed and however often."""
    estimator, theta = _build(_walk(), name, num_particles=3), jnp.asarray(0.0)
    estimate, state = jax.jit(estimator.estimate), jax.jit(estimator.init)(jax.random.key(0), theta)
    for window in range(4):
        gradient, state, info = estimate(jax.random.key(window), theta, state, estimator.data)
        assert float(gradient) == 0.0
        assert float(info.loss) > 0


@every_policy
def test_the_accumulator_is_the_sum_of_the_perturbations_in_use(name):
    """A problem whose state is the theta that it ran under tells the perturbation of each window, in four episodes."""
    problem = Problem(lambda key, theta, num_steps: theta, lambda key, theta, state, data: (theta, jnp.sum(theta)))
    estimator, theta = _build(problem, name, num_particles=2), jnp.array([1.0, -2.0, 3.0])
    estimate, state = jax.jit(estimator.estimate), jax.jit(estimator.init)(jax.random.key(0), theta)
    for sign, states in ((1, state.states[:, 0]), (-1, state.states[:, 1])):  # as after staggered starts
        np.testing.assert_allclose(states - theta, sign * state.accumulator, atol=1e-6)
    changes = 0
    for window in range(4 * HORIZON // WINDOW):
        _, state, _ = estimate(jax.random.key(window), theta, state, ())
        noise = np.asarray(state.states[:, 0] - theta)
        np.testing.assert_allclose(state.states[:, 1], theta - noise, rtol=1e-6)
        if window % (HORIZON // WINDOW) == 0:  # a new episode
            last, total = noise, noise
        elif not np.allclose(noise, last, atol=1e-6):
            last, total, changes = noise, total + noise, changes + 1
        expected = last if name == "whole_episode" else total
        np.testing.assert_allclose(state.accumulator, expected, atol=1e-6)
    assert changes / 4 == {"every_other_window": 1, "every_window": 2, "several_windows": 1, "whole_episode": 0}[name]


@pytest.mark.parametrize("name", ["every_window", "whole_episode"])
def test_losses_after_the_end_are_weighted_by_the_fresh_perturbation_alone(name):
    """Windows of 3 in episodes of 4. With the loss 2 theta, a step under noise e gives weight times 2 e / (3 std^2)."""
    problem = Problem(lambda key, theta, num_steps: theta, lambda key, theta, state, data: (theta, 2.0 * theta))
    estimator = _build(problem, name, num_particles=1, unroll_length=3, horizon=4)
    theta = jnp.asarray(0.0)
    estimate, state = jax.jit(estimator.estimate), estimator.init(jax.random.key(0), theta)
    for window, ended in enumerate((3, 1, 2)):  # steps of the episode that was there before
        before = float(state.accumulator[0])
        gradient, state, _ = estimate(jax.random.key(window), theta, state, ())
        fresh = float(state.states[0, 0])
        if name == "every_window":  # one perturbation in use, which joins those of the episode
            steps = (before + fresh) * fresh * ended + fresh * fresh * (3 - ended)
        else:
            steps = before * before * ended + fresh * fresh * (3 - ended)
        np.testing.assert_allclose(gradient, 2 * steps / (3 * STD**2), rtol=1e-5)


def test_problems_and_arguments_that_do_not_fit():
    bilevel = Bilevel(lambda *_: 0.0, lambda *_: 0.0, lambda *_: 0.0)
    with pytest.raises(TypeError, match="every_window"):
        _build(bilevel, "every_window", num_particles=1)
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        _build(_walk(), "every_window", num_particles=0)
    with pytest.raises(ValueError, match="the shortest episode, 6 steps, got 7"):
        _build(_walk(), "every_window", num_particles=1, unroll_length=7)
    with pytest.raises(ValueError, match="std must be positive, got 0"):
        _build(_walk(), "every_window", num_particles=1, std=0)
