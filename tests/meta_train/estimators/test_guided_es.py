"""Guided ES: the known mean and variance under its covariance, in windows and over episodes; and faster descent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.estimators import Info
from meta_train.estimators import guided_es
from meta_train.estimators.guided_es import orthonormal
from meta_train.unroll import truncation

CONSTANTS = np.random.default_rng(0)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def _surrogate(rows):
    """An estimator that gives these gradients in turn, whatever theta is."""

    def estimate(key, theta, state, data, axis_name=None):
        no = jnp.zeros((), jnp.int32)
        return data[state[0] % len(data)].astype(theta.dtype), state + 1, Info(jnp.zeros(()), no, no + 7)

    init = lambda key, theta: jnp.zeros(2, jnp.int32)
    return estimators.Estimator(init, estimate, jnp.asarray(rows, jnp.float32), 2, "surrogate")


def _covariance(directions, alpha):
    """That of the perturbations over std squared, from directions as rows."""
    size = len(directions[0])
    basis = np.linalg.qr(np.asarray(directions).T)[0]
    return alpha * np.eye(size) + (1 - alpha) * size / len(directions) * basis @ basis.T


SIZE, ALPHA, BETA = 6, 0.3, 1.7
FACTOR = CONSTANTS.normal(size=(SIZE, SIZE))
HESSIAN, MINIMUM = (FACTOR @ FACTOR.T / SIZE + np.eye(SIZE)).astype(np.float32), CONSTANTS.normal(size=SIZE)


def test_mean_and_variance_on_a_quadratic(rng, successive_gradients, mean_and_error):
    """That of a pair: beta Sigma g, and beta² (Sigma g g' Sigma + g' Sigma g Sigma), exact as the loss is quadratic.

    One direction at first, though three are wanted; then two; then a third one that lies in their plane and one that is
    not finite, which change nothing; then one without length, which neither does.
    """
    step = lambda key, theta, state, data: ((), 0.5 * (theta - MINIMUM) @ HESSIAN @ (theta - MINIMUM))
    problem = Problem(lambda key, theta, num_steps: (), step)
    first, other = rng.normal(size=(2, SIZE))
    rows = [1e-25 * first, 1e25 * other, other - 3 * first, np.full(SIZE, np.inf), np.zeros(SIZE)]
    pairs, batches = 20, 2000
    estimator = guided_es(
        problem,
        num_particles=pairs,
        unroll_length=1,
        horizon=truncation.constant(1),
        std=0.5,
        surrogate=_surrogate(rows),
        num_directions=3,
        alpha=ALPHA,
        beta=BETA,
        strategy=estimators.truncated_es,
    )
    theta = jnp.ones(SIZE)
    slope = HESSIAN @ (np.ones(SIZE) - MINIMUM)
    samples = successive_gradients(estimator, theta, len(rows), batches)
    for window, directions in enumerate([[first], *4 * [[first, other]]]):
        covariance = _covariance(directions, ALPHA)
        mean, error = mean_and_error(samples[:, window])
        assert np.all(abs(mean - BETA * covariance @ slope) < 4 * error)
        assert np.max(abs(mean - BETA * slope) / error) > 20
        variance = BETA**2 * ((covariance @ slope) ** 2 + slope @ covariance @ slope * np.diag(covariance)) / pairs
        np.testing.assert_allclose(samples[:, window].var(axis=0, ddof=1), variance, rtol=0.2)


DECAY, INPUTS = np.array([[0.9, 0.3], [-0.2, 0.8]], np.float32), CONSTANTS.normal(size=(2, 2, 3)).astype(np.float32)
WINDOW, THETA = 2, jnp.array([0.5, -1.0, 0.7])


def _walk(theta, state):
    state = DECAY @ state + INPUTS[1] @ theta
    return state, 0.5 * state @ state


def _window_losses(thetas):
    """The mean losses of an episode's two windows, each under a theta of its own."""
    state, losses = INPUTS[0] @ thetas[0], []
    for theta in thetas:
        total = 0.0
        for _ in range(WINDOW):
            state, loss = _walk(theta, state)
            total += loss / WINDOW
        losses.append(total)
    return jnp.stack(losses)


@pytest.mark.parametrize("name", ["nres", "pes", "truncated_es"])
def test_over_episodes_every_perturbation_counts_with_its_covariance(name, rng, successive_gradients, mean_and_error):
    """Two windows an episode, two surrogates by turns, of which the last one counts. PES draws from the covariance of
    each window and adds up their parts of the whole gradient; NRES draws from the first window's for the episode;
    truncated ES gives each window's part of its own loss."""
    problem = Problem(
        lambda key, theta, num_steps: INPUTS[0] @ theta, lambda key, theta, state, data: _walk(theta, state)
    )
    rows = rng.normal(size=(2, 3))
    estimator = guided_es(
        problem,
        num_particles=400,
        unroll_length=WINDOW,
        horizon=truncation.constant(2 * WINDOW),
        std=0.3,
        stagger=False,
        surrogate=_surrogate(rows),
        num_directions=1,
        alpha=ALPHA,
        strategy=getattr(estimators, name),
    )
    assert estimator.num_particles == 2
    samples = successive_gradients(estimator, THETA, 4, 300)[:, 2:].mean(axis=1)
    mean, error = mean_and_error(samples)
    parts = np.asarray(jax.jacobian(_window_losses)(jnp.stack([THETA, THETA])))  # [window of the loss, of theta, 3]
    covariances = [_covariance([row], ALPHA) for row in rows]
    answers = {
        "pes": sum(covariances[i] @ parts[:, i].sum(axis=0) for i in range(2)) / 2,
        "nres": covariances[0] @ parts.sum(axis=(0, 1)) / 2,
        "truncated_es": sum(covariances[i] @ parts[i, i] for i in range(2)) / 2,
    }
    for answer, right in answers.items():
        distance = np.max(abs(mean - right) / error)
        assert distance < 4 if answer == name else distance > 10


def test_without_a_surrogate_gradient_it_is_the_plain_strategy(successive_gradients):
    """Surrogates of zero: the same variance in every coordinate as pairs with independent normal numbers."""
    problem = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: ((), theta @ MINIMUM))
    size = {"num_particles": 50, "unroll_length": 1, "horizon": truncation.constant(1)}
    surrogate = _surrogate(np.zeros((1, SIZE)))
    estimator = guided_es(problem, surrogate=surrogate, strategy=estimators.truncated_es, alpha=0.01, **size)
    samples = successive_gradients(estimator, jnp.zeros(SIZE), 1, 2000)[:, 0]
    np.testing.assert_allclose(samples.var(axis=0), (MINIMUM**2 + MINIMUM @ MINIMUM) / 50, rtol=0.15)


def test_it_falls_faster_than_plain_evolution_strategies(rng):
    """Least squares in 100 dimensions with a surrogate that has bias and noise as long as the gradient each, one pair a
    step, the best of five rates for each: section 4.1 of the paper, smaller. Losses are above the least one."""
    size, num_steps = 100, 101
    inputs, targets = rng.normal(size=(2 * size, size)), rng.normal(size=2 * size)
    least = 0.5 * np.mean((inputs @ np.linalg.lstsq(inputs, targets, rcond=None)[0] - targets) ** 2)
    bias = rng.normal(size=size) / np.sqrt(size)

    def loss(theta):
        return 0.5 * jnp.mean((inputs.astype(np.float32) @ theta - targets.astype(np.float32)) ** 2) - least

    def surrogate(key, theta, state, data, axis_name=None):
        gradient, no = jax.grad(loss)(theta), jnp.zeros((), jnp.int32)
        wrong = bias.astype(np.float32) + jax.random.normal(key, (size,)) / np.sqrt(size)
        return gradient + jnp.linalg.norm(gradient) * wrong, state, Info(loss(theta), no, no)

    problem = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: ((), loss(theta)))
    hint = estimators.Estimator(lambda key, theta: jnp.zeros(1, jnp.int32), surrogate, (), 1, "surrogate")

    def descend(alpha):
        arguments = {"num_particles": 1, "unroll_length": 1, "horizon": truncation.constant(1), "std": 0.1}
        strategy = {"strategy": estimators.truncated_es, "surrogate": hint, "num_directions": 1, "alpha": alpha}
        estimator = guided_es(problem, **arguments, **strategy)

        def run(rate):
            def outer_step(carry, key):
                theta, state = carry
                gradient, state, _ = estimator.estimate(key, theta, state, estimator.data)
                return (theta - rate * gradient, state), loss(theta)

            theta = jnp.zeros(size)
            carry = theta, estimator.init(jax.random.key(0), theta)
            return jax.lax.scan(outer_step, carry, jax.random.split(jax.random.key(1), num_steps))[1]

        losses = jax.jit(jax.vmap(run))(10.0 ** jnp.arange(-3.0, -0.9, 0.5))
        return np.nanmin(losses, axis=0)

    guided, plain = descend(0.5), descend(1.0)
    assert np.all(guided[[50, 100]] < 0.6 * plain[[50, 100]])
    assert plain[100] < 0.6 * plain[0]


def test_a_basis_of_nearly_dependent_directions(rng):
    """Rounding does not show; an angle of 1e-4 counts as none."""
    first, other, third = np.linalg.qr(rng.normal(size=(1000, 3)))[0].T
    rows = [first, np.zeros(1000), first + 1e-4 * other, first + 0.01 * other, first - 0.5 * other + 0.1 * third]
    rows = np.array([row / max(np.linalg.norm(row), 1e-9) for row in rows], np.float32)
    basis = np.asarray(orthonormal(jnp.asarray(rows)), np.float64)
    np.testing.assert_array_equal(np.any(basis != 0, axis=1), [True, False, False, True, True])
    basis = basis[[0, 3, 4]]
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(abs(basis @ np.stack([first, other, third], axis=1)), np.eye(3), atol=1e-3)


@pytest.mark.optax_promotion
def test_fit_and_resume(tmp_path):
    """The directions are part of the state: 7 weights, in slices for two particles. Both estimators' steps count."""

    def step(key, theta, state, data):
        return state, jnp.sum((theta["x"] - data) ** 2) + theta["y"] ** 2 + jax.random.normal(key)

    target = np.arange(6.0, dtype=np.float32) - 2
    problem = Problem(lambda key, theta, num_steps: (), step, target)
    theta = {"x": np.zeros(6, np.float32), "y": np.ones((), np.float32)}

    def run(**arguments):
        horizon = truncation.constant(6)
        hint = estimators.truncated_backprop(problem, num_particles=2, unroll_length=2, horizon=horizon)
        estimator = guided_es(
            problem, num_particles=4, unroll_length=2, horizon=horizon, std=0.1, num_directions=2, surrogate=hint
        )
        arguments = {"num_steps": 100, "steps_per_dispatch": 25, "progress": False} | arguments
        return fit(estimator, theta, optax.adam(0.1), **arguments)

    whole = run()
    np.testing.assert_allclose(whole.theta["x"], target, atol=0.3)
    assert whole.metrics[0]["inner_steps"] == 4 * 2 * 2 + 2 * 2
    run(num_steps=25, run_dir=tmp_path)
    resumed = run(run_dir=tmp_path, resume=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.theta, whole.theta)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_directions": 0}, "num_directions must be at least 1, got 0"),
        ({"alpha": -0.1}, "alpha must lie between 0 and 1, got -0.1"),
        ({"alpha": float("nan")}, "alpha must lie between 0 and 1, got nan"),
        ({"std": 0.0}, "std must be positive, got 0.0"),
        ({"unroll_length": 31}, "between 1 and the shortest episode, 30 steps, got 31"),
    ],
)
def test_arguments_out_of_range(influence_balancing, arguments, message):
    arguments = {"num_particles": 1, "unroll_length": 5, "horizon": truncation.constant(30)} | arguments
    with pytest.raises(ValueError, match=message):
        guided_es(influence_balancing, **arguments)


def test_theta_without_weights_and_a_surrogate_without_gradient():
    sizes = {"num_particles": 2, "horizon": truncation.constant(6)}
    problem = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: ((), jnp.ones(())))
    estimator, theta = guided_es(problem, unroll_length=3, **sizes), {"none": jnp.zeros((0, 2))}
    run = lambda key: estimator.estimate(key, theta, estimator.init(key, theta), estimator.data)
    gradient, _, info = jax.jit(run)(jax.random.key(0))
    assert gradient["none"].shape == (0, 2) and info.loss == 1.0
    losses_alone = estimators.episode_losses(problem, **sizes)
    estimator, theta = guided_es(problem, unroll_length=3, surrogate=losses_alone, **sizes), jnp.ones(2)
    run = lambda key: estimator.estimate(key, theta, estimator.init(key, theta), estimator.data)
    with pytest.raises(ValueError, match="a gradient of its surrogate, and it gives none"):
        jax.eval_shape(run, jax.random.key(0))
