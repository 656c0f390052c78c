"""Refusals: structure that a problem does not declare, and a theta that the inner loss does not see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from meta_train import Bilevel
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.unroll import capabilities
from meta_train.unroll import truncation

THETA = {"a": np.ones(2, np.float32), "b": np.float32(1.0)}


def _bilevel(inner_loss):
    return Bilevel(inner_loss, lambda w, theta, key, data: jnp.sum(w), init=lambda key, theta: jnp.ones(2), name="two")


def test_structure_is_returned():
    bilevel = _bilevel(lambda w, theta, key, data: jnp.sum(w))
    problem = problems.unrolled(bilevel, None)
    assert capabilities.require(problem, "bilevel", "implicit") is bilevel
    assert capabilities.require_bilevel(bilevel, "implicit") is bilevel
    assert capabilities.require_bilevel(problem, "implicit") is bilevel


@pytest.mark.parametrize("structure", ["bilevel", "momentum", "flow"])
def test_missing_structure(structure):
    problem = problems.optimizer_weights(learned_optim.mlp((4,)), tasks.get("quadratic"))
    message = rf"some_estimator needs .* `{structure}` \(.*\), which 'quadratic', a Problem, lacks: "
    with pytest.raises(ValueError, match=message):
        capabilities.require(problem, structure, "some_estimator")


def test_a_bilevel_where_steps_are_needed():
    with pytest.raises(TypeError, match=r"adjoint needs .* `flow` \(.*\), which 'two', a Bilevel, lacks: "):
        capabilities.require(_bilevel(None), "flow", "adjoint")


@pytest.mark.parametrize(
    "build",
    [
        functools.partial(estimators.pes, unroll_length=2),
        functools.partial(estimators.truncated_es, unroll_length=2),
        functools.partial(estimators.truncated_backprop, unroll_length=2),
        estimators.full_es,
        estimators.full_backprop,
        estimators.forward_mode,
        estimators.forward_gradient,
    ],
)
def test_estimators_that_unroll_want_steps(build):
    bilevel = _bilevel(lambda w, theta, key, data: jnp.sum(w))
    with pytest.raises(TypeError, match=r"'two' is a Bilevel: give problems\.unrolled\(bilevel, inner_optimizer\)"):
        build(bilevel, num_particles=2, horizon=truncation.constant(2))


@pytest.mark.parametrize(
    "inner_loss",
    [
        lambda w, theta, key, data: jnp.sum(w**2),
        lambda w, theta, key, data: jnp.sum(w**2) + jnp.sum(theta["a"]),  # moves the loss, not its minimum
        lambda w, theta, key, data: jax.lax.fori_loop(0, 3, lambda i, total: total + jnp.sum(w), theta["b"]),
    ],
)
def test_theta_that_the_inner_gradient_does_not_see(inner_loss):
    with pytest.raises(ValueError, match=r"evograd differentiates .* that of 'two' does not depend on theta"):
        capabilities.check_theta_matters(_bilevel(inner_loss), THETA, "evograd")


@pytest.mark.parametrize(
    "inner_loss",
    [
        lambda w, theta, key, data: jnp.sum(theta["a"] * w),
        lambda w, theta, key, data: jnp.sum(theta["b"] * w**2),
        lambda w, theta, key, data: jax.lax.fori_loop(0, 3, lambda i, total: total * theta["b"], jnp.sum(w)),
        lambda w, theta, key, data: jnp.sum(jax.random.normal(key, (2,)) * w) ** 2 / theta["b"],
    ],
)
def test_theta_that_it_sees(inner_loss):
    capabilities.check_theta_matters(_bilevel(inner_loss), THETA, "implicit")
    jax.jit(lambda theta: capabilities.check_theta_matters(_bilevel(inner_loss), theta, "implicit"))(THETA)


def test_an_error_of_the_loss_itself_is_not_hidden():
    def broken(w, theta, key, data):
        raise ValueError("my own mistake")

    with pytest.raises(ValueError, match="my own mistake"):
        capabilities.check_theta_matters(_bilevel(broken), THETA, "implicit")
