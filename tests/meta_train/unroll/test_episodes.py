"""Whole episodes against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train import Problem
from meta_train.unroll import episodes
from meta_train.unroll import truncation


def _problem():
    def step(key, theta, state, data):
        state = theta * state + data * jax.random.normal(key)
        return state, state**2

    return Problem(lambda key, theta, num_steps: theta + jax.random.normal(key), step, jnp.asarray(0.5))


def test_an_episode_equals_a_loop():
    """Of several lengths at once, with its derivative in forward mode."""
    problem, key, most = _problem(), jax.random.key(0), 7
    run = lambda theta, length: episodes.mean_loss(problem, key, theta, length, most, problem.data)
    lengths = jnp.array([1, 4, 7], jnp.int32)

    @jax.jit
    def pushed(theta):
        push = lambda length: jax.jvp(lambda t: run(t, length), (theta,), (jnp.ones(()),), has_aux=True)
        return jax.vmap(push)(lengths)

    means, slopes, losses = pushed(jnp.asarray(0.8))

    def loop(theta, length):
        init_key, step_key = episodes.split(key)
        state, losses = problem.init(init_key, theta, length), []
        for time in range(length):
            state, loss = problem.step(step_key(time), theta, state, problem.data)
            losses.append(loss)
        return sum(losses) / length, jnp.stack(losses)

    for i, length in enumerate([1, 4, 7]):
        (mean, expected), slope = jax.value_and_grad(loop, has_aux=True)(jnp.asarray(0.8), length)
        np.testing.assert_allclose(means[i], mean, rtol=1e-5)
        np.testing.assert_allclose(slopes[i], slope, rtol=1e-5)
        np.testing.assert_allclose(losses[i, :length], expected, rtol=1e-5)
        assert np.isnan(losses[i, length:]).all()
    assert len(set(np.asarray(losses[2]).tolist())) == most


def test_particles_count_and_draw_for_themselves():
    state = episodes.start(truncation.growing(2, 50, num_steps=1), 100)
    following = episodes.following(state)
    np.testing.assert_array_equal(state.index, np.arange(100))
    np.testing.assert_array_equal(state.outer_step, 0)
    np.testing.assert_array_equal(following.outer_step, 1)
    horizon = truncation.growing(2, 50, num_steps=1)
    begin = jax.jit(jax.vmap(lambda state: episodes.begin(jax.random.key(0), state, horizon)))
    assert set(np.asarray(begin(state)[0])) == {2}
    lengths, keys, noise_keys = begin(following)
    assert len(set(np.asarray(lengths))) > 20
    draws = jax.vmap(jax.random.normal)(jnp.concatenate([keys, noise_keys]))
    assert len(set(np.asarray(draws).tolist())) == 200
    assert episodes.following(episodes.start(truncation.constant(3), 2)).outer_step == ()
