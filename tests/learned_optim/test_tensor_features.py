"""Features of the run: what they say of known losses, and that no loss makes them anything but finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import tensor_features

UNKNOWN = {"progress": jnp.full((9,), 7.0), "loss": jnp.full((9,), 8.0)}


@jax.jit
def _schedule(averages, step, horizon, loss):
    return tensor_features.schedule(step, horizon, loss, averages, UNKNOWN)


def _features(losses, horizon):
    """Features at each step: [steps, 18], and the last averages."""
    averages, rows = tensor_features.init_loss_averages(), []
    for step, loss in enumerate(losses):
        loss = None if loss is None else jnp.float32(loss)
        row, averages = _schedule(averages, jnp.float32(step), jnp.float32(horizon), loss)
        rows.append(row)
    return np.stack(rows), averages


def test_a_falling_loss_is_minus_one_and_a_risen_one_is_above():
    """At a falling loss every average is at its lowest; after a rise the quick averages lead the slow ones."""
    rows, _ = _features([5.0, 4.0, 3.0, 2.0], 1000)
    np.testing.assert_array_equal(rows[:2, 9:], 0.0)
    np.testing.assert_array_equal(rows[2:, 9:], -1.0)
    rows, _ = _features([5.0, 1.0, 1.0, 1.0, 2.0, 2.0], 1000)
    assert np.all(rows[-1, 9:] > -1.0)


@pytest.mark.parametrize("loss", [0.0, 2.5, -3.0, 1e11, -1e38, 1e-30])
def test_a_constant_loss_says_minus_one_whatever_it_is(loss):
    """Not a quotient of rounding errors."""
    rows, averages = _features([loss] * 20, 100)
    np.testing.assert_array_equal(rows[2:, 9:], -1.0)
    assert all(np.all(np.isfinite(leaf)) for leaf in averages)


@functools.partial(jax.jit, static_argnums=1)
def _means(losses, plain_bound):
    """The averages of the loss after these losses."""
    averages, one = tensor_features.init_loss_averages(plain_bound=plain_bound), jnp.ones(())
    for loss in losses:
        averages = tensor_features.schedule(one, 100.0 * one, loss, averages, UNKNOWN, plain_bound=plain_bound)[1]
    return averages.mean


@pytest.mark.parametrize("plain", [False, True])
def test_an_outlier_counts_as_twice_the_largest_average(plain):
    """By default averages of two losses are corrected for three. That over 10 steps is then the largest."""
    bound = 2.0 if plain else 2.0 * (1 - np.exp(-0.2)) / (1 - np.exp(-0.3))
    third = lambda loss: _means([jnp.float32(x) for x in (1.0, 1.0, loss)], plain)
    np.testing.assert_allclose(third(1e30), third(bound), rtol=1e-5)
    assert np.all(third(1e30) > third(0.99 * bound))


@pytest.mark.parametrize("equal", [False, True])
def test_averages_of_one_time_constant_do_not_differ(equal):
    averages, one = tensor_features.init_loss_averages(), jnp.ones(())
    for loss in (3.0, 1.0):
        _, averages = tensor_features.schedule(
            one, 100.0 * one, jnp.float32(loss), averages, UNKNOWN, equal_averages=equal
        )
    assert (np.ptp(averages.mean) < 1e-6) == equal


def test_long_runs_keep_their_precision():
    """An average over 200 000 steps is at first the plain mean, though each loss has but 5e-6 of its final weight."""
    _, averages = _features([3.0, 2.0, 2.5], 200_000)
    np.testing.assert_allclose(averages.mean[-1], 2.5, rtol=1e-5)


def test_losses_beyond_a_million_millions_are_as_in_the_released_code():
    """There the lowest average starts at 999999999999, so that no larger one is the lowest."""
    rows, averages = _features([1e38] * 4, 100)
    np.testing.assert_array_equal(rows[:, 9:], 0.0)
    np.testing.assert_array_equal(averages.lowest, np.float32(999999999999.0))


def test_constants_stand_in_where_loss_or_horizon_is_not_known():
    """Without a horizon the averages do not move."""
    rows, _ = _features([None, None], 100)
    np.testing.assert_array_equal(rows[:, 9:], 8.0)
    assert np.all(np.abs(rows[:, :9]) <= 1)
    rows, averages = _features([1.0, 2.0], 0)
    np.testing.assert_array_equal(rows, [[7.0] * 9 + [8.0] * 9] * 2)
    jax.tree.map(np.testing.assert_array_equal, averages, tensor_features.init_loss_averages())
