"""Warped gradients on linear layers, whose steps and meta-gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import fit
from meta_train.estimators import warp_grad
from meta_train.problems.unrolled import UnrolledState
from meta_train.problems.unrolled import inner_update

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 3))
WEIGHTS, WARP = RNG.normal(size=(2, 4)), RNG.normal(size=(2, 2))
RATE = 0.1


def _loss(whole, targets):
    """The loss of y = whole x on columns x."""
    return 0.5 * jnp.sum((whole @ INPUTS - targets) ** 2)


LOSS = lambda w, warp, key, data: _loss(warp @ w, data)
# Where each task has targets of its own.
BILEVEL = Bilevel(
    LOSS,
    LOSS,
    init=lambda key, warp: jnp.asarray(WEIGHTS),
    data=TARGETS,
    sample=lambda key, data: data + jax.random.normal(key, (2, 3), data.dtype),
)


def test_a_step_moves_the_whole_layer_by_the_warp_and_its_transpose():
    """y = T W x: descent on W moves T W by -a T T' times the gradient; with T = I that is descent itself."""
    with jax.enable_x64(True):
        for warp in (WARP, np.eye(2)):
            tx = optax.sgd(RATE)
            start = UnrolledState(jnp.asarray(WEIGHTS), tx.init(WEIGHTS))
            end = inner_update(BILEVEL, tx, jax.random.key(0), jnp.asarray(warp), start, TARGETS)
            slope = jax.grad(_loss)(warp @ WEIGHTS, TARGETS)
            np.testing.assert_allclose(warp @ (end.params - WEIGHTS), -RATE * warp @ warp.T @ slope, rtol=1e-10)


def _buffer_losses(theta, state):
    """The losses one step after each point of the buffer, with the points held fixed."""
    split = jax.vmap(jax.vmap(jax.random.split))(state.buffer.episode_key)  # as the estimator splits an episode's key
    draw = lambda key: BILEVEL.sample(jax.random.split(key)[1], TARGETS)

    def one(w, key):
        targets = draw(key)
        return LOSS(w - RATE * jax.grad(LOSS)(w, theta, None, targets), theta, None, targets)

    return jax.vmap(jax.vmap(one))(state.buffer.inner.params, split[:, :, 1])


def test_the_gradient_is_that_of_one_step_from_the_last_point_if_the_buffer_holds_one():
    with jax.enable_x64(True):
        sizes = {"num_steps": 4, "inner_steps": 1, "num_points": 2, "buffer_size": 1}
        estimator = warp_grad(BILEVEL, inner_optimizer=optax.sgd(RATE), **sizes)
        theta = jnp.asarray(WARP)
        state, estimate = jax.jit(estimator.init)(jax.random.key(0), theta), jax.jit(estimator.estimate)
        for i in range(2):
            gradient, state, info = estimate(jax.random.key(i), theta, state, estimator.data)
        loss, expected = jax.value_and_grad(lambda theta: _buffer_losses(theta, state)[0, 0])(theta)
        assert int(state.buffer.step[0, 0]) == 1
        np.testing.assert_allclose(gradient, expected, rtol=1e-10)
        np.testing.assert_allclose(info.loss, loss, rtol=1e-10)


def test_the_gradient_is_that_of_one_step_from_points_of_past_trajectories():
    """Every point is drawn about equally often, so that many draws give the mean over the buffer."""
    with jax.enable_x64(True):
        arguments = {"num_steps": 4, "inner_steps": 2, "num_particles": 2}
        estimator = warp_grad(BILEVEL, inner_optimizer=optax.sgd(RATE), num_points=4000, buffer_size=6, **arguments)
        theta = jnp.asarray(WARP)
        state, estimate = jax.jit(estimator.init)(jax.random.key(0), theta), jax.jit(estimator.estimate)
        for i in range(3):
            gradient, state, info = estimate(jax.random.key(i), theta, state, estimator.data)
        np.testing.assert_array_equal(state.added, [6, 6])
        np.testing.assert_array_equal(state.buffer.step, [[0, 1, 2, 3, 0, 1]] * 2)  # an episode has four steps
        np.testing.assert_array_equal(state.current.step, [2, 2])
        keys = jax.random.key_data(state.buffer.episode_key)
        assert (keys[:, 0] == keys[:, 3]).all() and (keys[:, 0] != keys[:, 4]).any(axis=-1).all()

        losses, gradients = jax.jit(
            lambda theta: (_buffer_losses(theta, state), jax.jacobian(_buffer_losses)(theta, state))
        )(theta)
        spread = np.std(np.asarray(gradients), axis=(0, 1)) / np.sqrt(8000)
        np.testing.assert_array_less(np.abs(gradient - gradients.mean(axis=(0, 1))), 6 * spread)
        np.testing.assert_allclose(info.loss, losses.mean(), rtol=0.1)


def test_first_points_are_taken_anew_so_that_where_to_begin_is_learned():
    """Two steps of w towards 3 from theta; half of the points are theta itself. The rate 1/2 halves the distance."""
    loss = lambda w, theta, key, data: 0.5 * (w - 3.0) ** 2 * (1 + 0 * theta)
    bilevel = Bilevel(loss, loss, init=lambda key, theta: theta)
    estimator = warp_grad(bilevel, inner_optimizer=optax.sgd(0.5), num_steps=2, num_points=64, buffer_size=2)
    result = fit(estimator, np.float32(0.0), optax.sgd(2.0), num_steps=40, progress=False, clip_norm=None)
    np.testing.assert_allclose(result.theta, 3.0, atol=1e-2)


def test_a_particle_that_diverges_is_dropped_and_begins_anew():
    """Half of the tasks have a loss that is not a number."""
    loss = lambda w, theta, key, data: 0.5 * theta * w**2 + data
    bilevel = Bilevel(
        loss,
        loss,
        init=lambda key, theta: jnp.ones(()),
        sample=lambda key, data: jnp.where(jax.random.bernoulli(key), jnp.nan, 0.0),
    )
    estimator = warp_grad(
        bilevel, inner_optimizer=optax.sgd(0.5), num_steps=1, num_points=1, buffer_size=1, num_particles=32
    )
    result = fit(estimator, np.float32(0.5), optax.sgd(0.1), num_steps=10, progress=False)
    assert 80 < sum(record["dropped"] for record in result.metrics) < 240
    assert all(np.isfinite(record["loss"]) for record in result.metrics)


def test_refusals():
    good = {"inner_optimizer": optax.sgd(0.1), "num_steps": 4, "num_points": 1, "buffer_size": 4}
    for name in ("num_steps", "num_points"):
        with pytest.raises(ValueError, match=rf"{name} must be at least 1, got 0"):
            warp_grad(BILEVEL, **{**good, name: 0})
    with pytest.raises(ValueError, match=r"must be a multiple of inner_steps, got 4 and 3"):
        warp_grad(BILEVEL, **good, inner_steps=3)
    with pytest.raises(ValueError, match=r"buffer_size must be at least inner_steps, 4, got 3"):
        warp_grad(BILEVEL, **{**good, "buffer_size": 3})
    blind = BILEVEL._replace(inner_loss=lambda w, theta, key, data: jnp.sum(w**2))
    with pytest.raises(ValueError, match=r"does not depend on theta"):
        warp_grad(blind, **good).init(jax.random.key(0), jnp.ones(()))
