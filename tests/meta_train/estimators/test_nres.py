"""NRES: unbiased on influence balancing, with one perturbation for each episode. `test_gpes.py` has the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import nres
from meta_train.unroll import truncation

HORIZON, THETA = 30, 0.5
TRUE_GRADIENT, TRUNCATED_GRADIENT = 2198.4937 / HORIZON, 511.7798 / HORIZON  # of the mean loss at theta = 0.5


@pytest.mark.parametrize(("unroll_length", "stagger", "skipped", "used"), [(5, False, 0, 6), (7, True, 5, 7)])
def test_unbiased_on_influence_balancing(
    influence_balancing, successive_gradients, mean_and_error, unroll_length, stagger, skipped, used
):
    estimator = nres(
        influence_balancing,
        num_particles=100,
        unroll_length=unroll_length,
        horizon=truncation.constant(HORIZON),
        std=0.1,
        stagger=stagger,
    )
    samples = successive_gradients(estimator, jnp.asarray(THETA), skipped + used, 200)[:, skipped:].mean(axis=1)
    mean, error = mean_and_error(samples)
    assert abs(mean - TRUE_GRADIENT) < 4 * error
    assert error < 0.015 * TRUE_GRADIENT
    assert abs(mean - TRUNCATED_GRADIENT) > 20 * error


@pytest.mark.parametrize("stagger", [True, False])
def test_every_episode_has_a_perturbation_of_its_own(influence_balancing, stagger):
    """It is there from the first window on, and changes in the windows that an episode begins in, and in no other."""
    estimator = nres(
        influence_balancing, num_particles=8, unroll_length=3, horizon=truncation.constant(10), std=0.1, stagger=stagger
    )
    theta = jnp.asarray(THETA)
    state, estimate = estimator.init(jax.random.key(0), theta), jax.jit(estimator.estimate)
    assert len(set(np.asarray(state.accumulator).tolist())) == 8
    assert 0.03 < np.std(state.accumulator) < 0.3
    for window in range(8):
        _, following, _ = estimate(jax.random.key(1 + window), theta, state, estimator.data)
        begun = np.asarray(state.clock.step) + 3 > 10
        np.testing.assert_array_equal(following.accumulator != state.accumulator, begun)
        state = following


def test_arguments_reach_the_estimator(influence_balancing):
    with pytest.raises(ValueError, match="std must be positive, got -1"):
        nres(influence_balancing, num_particles=1, unroll_length=5, horizon=truncation.constant(30), std=-1.0)
