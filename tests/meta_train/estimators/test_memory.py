"""Memory of an outer step, from XLA's analysis of the compiled program, as the horizon grows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train.unroll import truncation

SIZE = 16_384  # of the inner state, in float32
THETA = np.float32(0.5)
CHOICES = {
    "forward_gradient": estimators.forward_gradient,
    "forward_mode": estimators.forward_mode,
    "full_es": estimators.full_es,
    "nres": functools.partial(estimators.nres, unroll_length=8),
    "pes": functools.partial(estimators.pes, unroll_length=8),
}


def _memory(make, horizon):
    """Bytes of temporaries, and of the estimator's state, with one particle."""
    step = lambda key, theta, state, data: (jnp.tanh(state * theta + data), jnp.mean(state**2))
    problem = Problem(lambda key, theta, num_steps: jnp.ones(SIZE), step, jnp.linspace(0.0, 1.0, SIZE))
    estimator = make(problem, num_particles=1, horizon=truncation.constant(horizon))
    state = jax.eval_shape(estimator.init, jax.random.key(0), THETA)
    lowered = jax.jit(estimator.estimate).lower(jax.random.key(1), THETA, state, estimator.data)
    return lowered.compile().memory_analysis().temp_size_in_bytes, sum(leaf.size for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("choice", CHOICES)
def test_it_does_not_grow_with_the_horizon(choice):
    """But for the number that tells the loss of a step, where an outer step makes whole episodes: less than 1 in 500 of
    what a step's state would take."""
    (few, few_state), (many, many_state) = (_memory(CHOICES[choice], horizon) for horizon in (64, 1024))
    assert many_state == few_state
    assert many - few <= (1024 - 64) * (4 * SIZE / 500 if choice not in ("nres", "pes") else 0)
    assert many < 20 * 4 * SIZE


def test_full_backprop_s_grows_with_the_root_of_the_horizon_or_with_the_horizon():
    """With rematerialisation and without."""
    every = functools.partial(estimators.full_backprop, rematerialize=False)
    few, many = (_memory(estimators.full_backprop, horizon)[0] for horizon in (256, 1024))
    all_of_few, all_of_many = (_memory(every, horizon)[0] for horizon in (64, 256))
    assert 0.4 < np.log(many / few) / np.log(4) < 0.6
    assert 0.9 < np.log(all_of_many / all_of_few) / np.log(4) < 1.1
    assert few < all_of_many / 2
