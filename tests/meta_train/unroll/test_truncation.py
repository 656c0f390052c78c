"""Horizons, clocks and windows, against a plain Python loop."""

import functools

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.unroll import truncation
from meta_train.unroll.truncation import Clock

NUM_DRAWS = 20_000


def _draw(sample):
    return np.asarray(jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(0), NUM_DRAWS)))


def _shares(draws, values):
    """How often each value was drawn."""
    return np.array([np.mean(draws == value) for value in values])


def test_constant():
    horizon = truncation.constant(30)
    draws = _draw(horizon.sample)
    assert draws.dtype == np.int32
    assert set(draws) == {30}
    assert (horizon.low, horizon.high) == (30, 30)


@pytest.mark.parametrize(("low", "high"), [(1, 6), (3, 3), (10, 13)])
def test_log_uniform_gives_every_length_its_probability(low, high):
    """The logarithm is uniform on log(low - 1/2) … log(high + 1/2) and rounded to a whole length."""
    horizon = truncation.log_uniform(low, high)
    draws, lengths = _draw(horizon.sample), np.arange(low, high + 1)
    assert draws.dtype == np.int32
    assert set(draws) == set(lengths)
    assert (horizon.low, horizon.high) == (low, high)
    expected = np.log((lengths + 0.5) / (lengths - 0.5)) / np.log((high + 0.5) / (low - 0.5))
    error = np.sqrt(expected * (1 - expected) / NUM_DRAWS)
    np.testing.assert_array_less(abs(_shares(draws, lengths) - expected), 4 * error + 1e-9)


def test_log_uniform_over_decades():
    """A third of the lengths falls into each of three decades, and both bounds hold."""
    draws = _draw(truncation.log_uniform(100, 100_000).sample)
    assert 100 <= draws.min() < 110
    assert 90_000 < draws.max() <= 100_000
    shares = np.histogram(np.log10(draws), bins=[2, 3, 4, 5.001])[0] / NUM_DRAWS
    np.testing.assert_allclose(shares, 1 / 3, atol=4 * np.sqrt(2 / 9 / NUM_DRAWS))


@pytest.mark.parametrize(("low", "high"), [(0, 5), (-1, 5), (6, 5)])
def test_log_uniform_refuses_bad_bounds(low, high):
    with pytest.raises(ValueError, match=f"1 <= low <= high, got low={low} and high={high}"):
        truncation.log_uniform(low, high)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.5, 2.0])
def test_power_law_has_its_quantiles(exponent):
    """P(T < t) is (t^r - low^r) / (high^r - low^r) with r = 1 - exponent."""
    horizon, rest = truncation.power_law(100, 2000, exponent), 1 - exponent
    draws = _draw(horizon.sample)
    assert draws.dtype == np.int32
    assert (horizon.low, horizon.high) == (100, 2000)
    assert 100 <= draws.min() < 200 and 1800 < draws.max() <= 2000
    for length in (150.5, 400.5, 1000.5):
        expected = (length**rest - 100**rest) / (2000**rest - 100**rest)
        error = np.sqrt(expected * (1 - expected) / NUM_DRAWS)
        np.testing.assert_allclose(np.mean(draws < length), expected, atol=4 * error + 1e-3)


def test_power_law_of_one_is_log_uniform_and_bad_arguments_are_errors():
    np.testing.assert_array_equal(
        _draw(truncation.power_law(4, 36, 1.0).sample), _draw(truncation.log_uniform(4, 36).sample)
    )
    with pytest.raises(ValueError, match="1 <= low <= high, got low=6 and high=5"):
        truncation.power_law(6, 5, 2.0)
    with pytest.raises(ValueError, match=r"exponent must be at least 0, got -1\.0"):
        truncation.power_law(4, 5, -1.0)


@pytest.mark.parametrize(("outer_step", "cap"), [(0, 4), (5, 12), (10, 36), (1000, 36)])
def test_growing_is_log_uniform_up_to_its_cap(outer_step, cap):
    """The cap goes from 4 to 36 in 10 outer steps, and half-way up to their geometric mean."""
    horizon = truncation.growing(4, 36, num_steps=10)
    assert (horizon.low, horizon.high, horizon.grows) == (4, 36, True)
    step = jnp.asarray(outer_step, jnp.int32)
    draws, expected = _draw(lambda key: horizon.sample(key, step)), _draw(truncation.log_uniform(4, cap).sample)
    assert draws.dtype == np.int32
    np.testing.assert_allclose(_shares(draws, range(37)), _shares(expected, range(37)), atol=1e-3)


def test_growing_refuses_bad_arguments():
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        truncation.growing(4, 36, num_steps=0)
    with pytest.raises(ValueError, match="1 <= low <= high, got low=6 and high=5"):
        truncation.growing(6, 5, num_steps=1)


def test_outer_steps_are_counted_where_the_horizon_grows():
    grows, still = truncation.growing(4, 36, num_steps=3), truncation.constant(4)
    keys, state = jax.random.split(jax.random.key(0), 2), {"count": jnp.asarray(0), "total": jnp.asarray(0)}
    clock = truncation.start_clock(jax.random.key(1), grows, False)
    assert (int(clock.outer_step), int(clock.horizon)) == (0, 4)
    for count in (1, 2, 3):
        _, clock, _, _ = truncation.unroll(_step, state, clock, state, jnp.asarray(9, jnp.int32), keys)
        clock = truncation.end_unless(jnp.asarray(True), clock)
        assert (int(clock.outer_step), int(clock.horizon)) == (count, 9 if count > 2 else 4)
    lengths = jax.vmap(lambda key: truncation.draw(key, grows, clock.outer_step))(jax.random.split(keys[0], 100))
    assert np.max(lengths) > 18
    assert truncation.start_clock(jax.random.key(1), still, False).outer_step == ()
    assert int(truncation.draw(keys[0], still, ())) == 4


def test_constant_refuses_an_empty_episode():
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        truncation.constant(0)


def test_a_window_fits_into_every_episode():
    horizon = truncation.log_uniform(10, 100)
    truncation.check_window(horizon, 1)
    truncation.check_window(horizon, 10)
    for unroll_length in (0, 11, 50):
        with pytest.raises(ValueError, match=f"the shortest episode, 10 steps, got {unroll_length}"):
            truncation.check_window(horizon, unroll_length)


def test_staggered_clocks_start_anywhere():
    clocks = jax.jit(jax.vmap(lambda key: truncation.start_clock(key, truncation.constant(5), True)))(
        jax.random.split(jax.random.key(0), NUM_DRAWS)
    )
    assert clocks.step.dtype == clocks.horizon.dtype == jnp.int32
    assert set(np.asarray(clocks.step)) == set(range(5))
    np.testing.assert_allclose(_shares(clocks.step, range(5)), 0.2, atol=4 * np.sqrt(0.16 / NUM_DRAWS))


def test_clocks_start_inside_of_their_own_horizon():
    start = jax.jit(
        jax.vmap(lambda key, stagger: truncation.start_clock(key, truncation.log_uniform(1, 50), stagger), (0, None)),
        static_argnums=1,
    )
    keys = jax.random.split(jax.random.key(0), 2_000)
    staggered, aligned = start(keys, True), start(keys, False)
    assert np.all(staggered.step < staggered.horizon)
    assert np.max(staggered.step) > 30
    assert len(set(np.asarray(staggered.horizon))) == 50
    np.testing.assert_array_equal(aligned.step, 0)
    np.testing.assert_array_equal(aligned.horizon, staggered.horizon)
    lengths = np.asarray(staggered.horizon)
    excess = (np.asarray(staggered.step) - (lengths - 1) / 2) / lengths  # mean 0, variance at most 1 / 12
    assert abs(excess.mean()) < 4 * np.sqrt(1 / 12 / len(excess))


def test_end_unless_ends_the_others():
    clock = Clock(jnp.array([1, 2, 3], jnp.int32), jnp.array([7, 8, 9], jnp.int32))
    ended = truncation.end_unless(jnp.array([True, False, True]), clock)
    np.testing.assert_array_equal(ended.step, [1, 8, 3])
    np.testing.assert_array_equal(ended.horizon, [7, 8, 9])


def _step(key, state):
    """Counts the steps of the episode and adds up the draws: every number shows where it comes from."""
    count, total = state["count"] + 1, state["total"] + jax.random.randint(key, (), 1, 1000, jnp.int32)
    return {"count": count, "total": total}, (1000 * count + total).astype(jnp.float32)


_unroll = jax.jit(functools.partial(truncation.unroll, _step))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=strategies.data())
def test_unroll_equals_a_loop(data):
    """Over windows of every length up to that of the shortest episode, from every step of the episode."""
    window = data.draw(strategies.integers(1, 5), "window")
    horizon = data.draw(strategies.integers(window, 9), "horizon")
    next_horizon = data.draw(strategies.integers(window, 9), "next horizon")
    begin = data.draw(strategies.integers(0, horizon), "begin")  # horizon: the episode ended with the last window
    keys = jax.random.split(jax.random.key(data.draw(strategies.integers(0, 99), "seed")), window)
    numbers = np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 1, 1000, jnp.int32))(keys))

    integers = functools.partial(jnp.asarray, dtype=jnp.int32)
    state = {"count": integers(begin), "total": integers(5)}
    fresh = {"count": integers(0), "total": integers(70)}
    result = _unroll(state, Clock(integers(begin), integers(horizon)), fresh, integers(next_horizon), keys)

    count, total, step, losses, restarted = begin, 5, begin, [], []
    for number in numbers:
        if step == horizon and not any(restarted):
            count, total, step, horizon = 0, 70, 0, next_horizon
            restarted.append(True)
        else:
            restarted.append(any(restarted))
        count, total, step = count + 1, total + number, step + 1
        losses.append(1000 * count + total)

    after, clock, actual_losses, actual_restarted = result
    assert (int(after["count"]), int(after["total"])) == (count, total)
    assert (int(clock.step), int(clock.horizon)) == (step, horizon)
    np.testing.assert_array_equal(actual_losses, losses)
    np.testing.assert_array_equal(actual_restarted, restarted)
