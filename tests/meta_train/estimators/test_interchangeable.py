"""Every estimator that can reach an optimizer's weights trains it on digits; the choice is one argument of `fit`."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_optim import base
import meta_train
from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.unroll import truncation

NOT_FOR_ANY_PROBLEM = {"episode_losses": "gives no gradient", "reversible": "needs momentum descent"}


def _constructors(**options):
    """Of `estimators.__all__`, those that unroll any `Problem` and give a gradient, with the options that they take."""
    found = {}
    for name in sorted(set(estimators.__all__) - NOT_FOR_ANY_PROBLEM.keys()):
        if inspect.isfunction(getattr(estimators, name)):
            takes = inspect.signature(getattr(estimators, name)).parameters
            if {"problem", "num_particles", "horizon"} <= takes.keys():
                given = {option: value for option, value in options.items() if option in takes}
                found[name] = functools.partial(getattr(estimators, name), **given)
    return found


CHOICES = _constructors(unroll_length=5, noise_period=10, num_backward=10)


def _linear():
    """An optimizer that compiles fast: -0.5 [gradient, average] @ theta, a matrix. At first it goes uphill."""

    def rule(theta, horizon):
        del horizon

        def update(grad, param, average, step):
            del param, step
            average = 0.5 * average + 0.5 * grad
            return -0.5 * (jnp.stack([grad, average], axis=-1) @ theta["matrix"])[..., 0], average

        return base.per_tensor(base.momentum, update)

    init = lambda key: {"matrix": -1.0 + 0.1 * jax.random.normal(key, (2, 1))}
    return base.define({"kind": "linear", "feature_version": 1}, init, rule)


@pytest.mark.optax_promotion
@pytest.mark.parametrize("choice", CHOICES)
def test_it_trains_an_optimizer(choice, quick_to_compile):
    optimizer = _linear()
    task = tasks.softmax_regression("digits", data.load("digits", size=4), batch_size=32)
    problem = problems.optimizer_weights(optimizer, task)
    estimator = CHOICES[choice](problem, num_particles=16, horizon=truncation.constant(10))
    theta = optimizer.init(jax.random.key(0))
    result = meta_train.fit(
        estimator,
        theta,
        optax.adam(0.1),
        num_steps=40,
        steps_per_dispatch=40,
        progress=False,
        devices=jax.devices()[:1],
    )
    losses = np.array([row["loss"] for row in result.metrics])
    assert losses[-10:].mean() < losses[:3].mean() - 0.2  # it falls fast at first
    assert all(row["snr"] > 0 and row["gradient_variance"] > 0 and row["dropped"] == 0 for row in result.metrics)
