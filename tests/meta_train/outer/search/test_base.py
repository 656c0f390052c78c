"""How a search makes one loss of a candidate's losses on several tasks."""

import jax.numpy as jnp
import numpy as np
from scipy import stats

from meta_train.outer import search

LOSSES = np.array([[3.0, 1.0, 2.0, 1.0], [1e9, 1e-9, 0.0, 5.0]], np.float32)


def test_mean_losses_are_of_the_tasks():
    np.testing.assert_allclose(search.mean_losses(jnp.asarray(LOSSES)), LOSSES.mean(axis=0))
    assert not np.isfinite(search.mean_losses(jnp.array([[jnp.nan], [1.0]])))


def test_mean_ranks_are_those_of_scipy_on_a_scale_from_0_to_1():
    expected = np.mean([(stats.rankdata(row) - 1.0) / 3.0 for row in LOSSES], axis=0)
    np.testing.assert_allclose(search.mean_ranks(jnp.asarray(LOSSES)), expected, rtol=1e-6)
    np.testing.assert_allclose(search.mean_ranks(jnp.asarray(LOSSES * [[1e-20], [7.0]])), expected, rtol=1e-6)


def test_losses_that_are_not_finite_share_the_last_ranks():
    losses = jnp.array([[1.0, jnp.nan, jnp.inf, 2.0]])
    np.testing.assert_allclose(search.mean_ranks(losses), [0.0, 2.5 / 3.0, 2.5 / 3.0, 1.0 / 3.0], rtol=1e-6)


def test_the_rank_of_a_single_candidate_is_0():
    np.testing.assert_array_equal(search.mean_ranks(jnp.array([[3.0], [4.0]])), [0.0])
