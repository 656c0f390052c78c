"""EvoGrad on the paper's toy problem: its mean for small perturbations, a mixture by hand, and that it finds theta."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from meta_train import Bilevel
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import evograd

WEIGHT, PENALTY = 0.8, 0.3
TOY = Bilevel(  # L = (w - 1)^2 + theta w^2 and L_V = (w - 0.5)^2
    inner_loss=lambda w, theta, key, data: (w - 1) ** 2 + theta * w**2,
    outer_loss=lambda w, theta, key, data: (w - 0.5) ** 2,
    init=lambda key, theta: WEIGHT * jnp.ones_like(theta),
    name="toy",
)


def _samples(bilevel, thetas, num_samples, **arguments):
    """Independent estimates [num_samples, thetas, …] at the first inner parameters."""
    estimator = evograd(bilevel, inner_optimizer=optax.sgd(0.1), inner_steps=0, **arguments)

    def sample(key, theta):
        return estimator.estimate(key, theta, estimator.init(jax.random.key(0), theta), estimator.data)[0]

    run = jax.jit(lambda keys: jax.lax.map(lambda key: jax.vmap(lambda theta: sample(key, theta))(thetas), keys))
    return np.asarray(run(jax.random.split(jax.random.key(1), num_samples)))


@pytest.mark.parametrize(
    ("num_copies", "noise"), [(2, jax.random.normal), (2, jax.random.rademacher), (10, jax.random.normal)]
)
def test_the_mean_for_small_perturbations(num_copies, noise):
    """-(std^2 / temperature) (K - 1) / K grad L_V' grad_theta grad_w L, by standard errors below 2 %."""
    with jax.enable_x64(True):
        std, temperature = 1e-3, 0.5
        samples = _samples(
            TOY,
            jnp.array([PENALTY]),
            200,
            num_particles=200,
            num_copies=num_copies,
            std=std,
            temperature=temperature,
            noise=noise,
        )
        rate = std**2 / temperature * (num_copies - 1) / num_copies
        expected = -rate * 2 * (WEIGHT - 0.5) * 2 * WEIGHT
        error = samples.std(ddof=1) / np.sqrt(len(samples))
        assert abs(samples.mean() - expected) < 4 * error + 1e-5 * abs(expected)
        assert error < 0.02 * abs(expected)


@pytest.mark.parametrize("num_copies", [2, 10, 100])
def test_the_toy_of_the_paper(num_copies):
    """std 1 and temperature 0.5: the sign is that of the true hypergradient (theta - 1) / (theta + 1)^3."""
    with jax.enable_x64(True):
        penalties = np.array([0.5, 3.0])
        minimum = TOY._replace(init=lambda key, theta: 1 / (1 + theta))
        samples = _samples(
            minimum, jnp.asarray(penalties), 40, num_particles=200, num_copies=num_copies, std=1.0, temperature=0.5
        )
        true, error = (penalties - 1) / (penalties + 1) ** 3, samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
        np.testing.assert_array_equal(np.sign(samples.mean(axis=0)), np.sign(true))
        np.testing.assert_array_less(4 * error, abs(samples.mean(axis=0)))


def test_the_mixture_by_hand():
    """The derivative by finite differences of the mixture's loss, on parameters in two arrays; signs for noise."""
    with jax.enable_x64(True):
        theta, std, temperature = np.array([0.3, -0.7]), 0.2, 0.4
        bilevel = Bilevel(
            inner_loss=lambda w, theta, key, data: jnp.sum((w["a"] - theta) ** 2) + jnp.sin(theta[0] * w["b"]),
            outer_loss=lambda w, theta, key, data: jnp.sum(w["a"] ** 3) + w["b"] ** 2 + theta[1] ** 2,
            init=lambda key, theta: {"a": jnp.array([1.0, 2.0]), "b": jnp.asarray(0.5)},
        )
        signs = np.array([[1.0, 1.0, -1.0], [-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
        ((gradient,),) = _samples(
            bilevel,
            jnp.asarray(theta[None]),
            1,
            num_copies=3,
            std=std,
            temperature=temperature,
            noise=lambda key, shape, dtype: jnp.asarray(signs, dtype),
        )

        def loss(theta):
            copies = np.array([1.0, 2.0, 0.5]) + std * signs
            losses = np.sum((copies[:, :2] - theta) ** 2, axis=1) + np.sin(theta[0] * copies[:, 2])
            weights = np.exp(-losses / temperature)
            mixed = weights @ copies / weights.sum()
            return np.sum(mixed[:2] ** 3) + mixed[2] ** 2 + theta[1] ** 2

        step = 1e-6 * np.eye(2)
        expected = [(loss(theta + e) - loss(theta - e)) / 2e-6 for e in step]
        np.testing.assert_allclose(gradient, expected, rtol=1e-7)


def test_both_losses_see_the_data_that_an_outer_step_draws():
    """The shift d moves both minima: the mixed parameter of L = (w - d)^2 and the outer loss d tell the same d."""
    shifts = np.array([1.0, 2.0, 4.0], np.float32)
    bilevel = Bilevel(
        inner_loss=lambda w, theta, key, shift: 0.5 * (w - shift) ** 2 + 0.0 * theta * w,
        outer_loss=lambda w, theta, key, shift: w - shift,
        init=lambda key, theta: jnp.zeros_like(theta),
        data=shifts,
        sample=lambda key, data: data[jax.random.randint(key, (), 0, 3)],
    )
    estimator = evograd(bilevel, inner_optimizer=optax.sgd(1.0), inner_steps=1, std=1e-6)
    theta, estimate, seen = jnp.zeros(()), jax.jit(estimator.estimate), set()
    state = estimator.init(jax.random.key(0), theta)
    for step in range(12):
        _, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
        np.testing.assert_allclose(info.loss, 0.0, atol=1e-4)
        seen.add(float(state.inner.params[0]))
    assert seen == set(shifts.tolist())


def test_fit_finds_the_penalty():
    """theta = 1, where the minimum of the inner loss is the 0.5 that the outer loss wants."""
    estimator = evograd(TOY, inner_optimizer=optax.sgd(0.2), inner_steps=5, num_particles=50, std=0.1, temperature=0.5)
    result = fit(estimator, np.float32(0.2), optax.sgd(20.0), num_steps=200, clip_norm=None, progress=False)
    np.testing.assert_allclose(result.theta, 1.0, atol=0.1)


@functools.cache
def _weights():
    return problems.optimizer_weights(learned_optim.mlp((4,)), tasks.get("quadratic"))


@pytest.mark.parametrize(
    ("problem", "arguments", "message"),
    [
        (_weights, {}, r"evograd needs a problem .* 'quadratic', a Problem, lacks"),
        (lambda: TOY, {"num_copies": 1}, "num_copies must be at least 2, .* got 1"),
        (lambda: TOY, {"std": 0.0}, "std and temperature must be positive, got 0.0 and 0.05"),
        (lambda: TOY, {"temperature": -1.0}, "std and temperature must be positive, got 0.001 and -1.0"),
    ],
)
def test_refusals(problem, arguments, message):
    with pytest.raises(ValueError, match=message):
        evograd(problem(), inner_optimizer=optax.sgd(0.1), inner_steps=1, **arguments)


def test_theta_that_the_inner_loss_does_not_see():
    blind = TOY._replace(inner_loss=lambda w, theta, key, data: w**2 + theta)
    estimator = evograd(blind, inner_optimizer=optax.sgd(0.1), inner_steps=1)
    with pytest.raises(ValueError, match=r"evograd differentiates .* 'toy' does not depend on theta"):
        estimator.init(jax.random.key(0), jnp.ones(()))
