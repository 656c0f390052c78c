"""Training a learned optimizer as a task, where everything is known: gradient descent on a line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from learned_optim import LearnedOptimizer
from meta_train import tasks
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer

PARABOLA = Task(
    "parabola",
    (),
    sample=lambda key: jnp.float32(3.0),
    init=lambda key, config: jnp.float32(2.0),
    loss=lambda w, key, data, config: config * jnp.square(w),
    evaluate=lambda w, key, data, config: {"loss": jnp.square(w)},
    normalize=log_normalizer(4.0),
    loss_scale=lambda config: config,
)


def _sgd(theta, *, num_steps):
    del num_steps
    update = lambda updates, state, params, **extra: (-theta * updates, state)
    return optax.GradientTransformationExtraArgs(lambda params: (), update)


SGD = LearnedOptimizer(init=lambda key: jnp.float32(0.05), transform=_sgd, spec={})


def test_the_loss_is_the_geometric_mean_of_the_inner_losses():
    """w shrinks by 1 - 6 θ a step; losses are on the normaliser's scale, without the factor 3."""
    task = tasks.optimizer_training("sgd", SGD, PARABOLA, num_steps=4, num_runs=2)

    def expected(theta):
        losses = [(2.0 * (1 - 6 * theta) ** t) ** 2 / 4 for t in range(4)]
        return np.exp(np.mean([np.log(loss + 0.02) for loss in losses]))

    loss, slope = jax.value_and_grad(task.loss)(jnp.float32(0.05), jax.random.key(0), (), ())
    np.testing.assert_allclose(loss, expected(0.05), rtol=1e-5)
    np.testing.assert_allclose(slope, (expected(0.0501) - expected(0.0499)) / 2e-4, rtol=1e-3)
    assert task.evaluate(jnp.float32(0.05), None, (), ())["loss"] == pytest.approx(expected(0.05), rel=1e-5)
    np.testing.assert_allclose(task.loss(jnp.float32(0.0), jax.random.key(0), (), ()), 1.02, rtol=1e-5)


def test_runs_are_drawn_from_the_key():
    task = tasks.optimizer_training("sgd", learned_optim.learned_sgd(), tasks.quadratic(), num_steps=2)
    theta = task.init(jax.random.key(0), ())
    losses = [float(task.loss(theta, jax.random.key(seed), (), ())) for seed in (1, 2, 1)]
    assert losses[0] == losses[2] != losses[1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_steps and num_runs must be at least 1, got 0 and 4"):
        tasks.optimizer_training("wrong", SGD, PARABOLA, num_steps=0)
