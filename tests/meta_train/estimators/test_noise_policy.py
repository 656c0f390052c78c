"""When perturbations change, and what pairs keep of them: step by step through episodes, and as random numbers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import noise_policy

THETA = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(())}
POLICIES = {
    "every_window": noise_policy.every_window(),
    "several_windows": noise_policy.several_windows(0.5, 6, 3),
    "whole_episode": noise_policy.whole_episode(0.5),
}


def _spans(policy, unroll_length, made, num_windows):
    """How many inner steps each perturbation lasts in an episode of which `made` steps were made in its first window.

    Perturbations are numbered. The last one is left out: it may go on.
    """
    noise, spans = jnp.asarray(0.0), [made] if made else [0]
    for window in range(num_windows):
        drawn = jnp.asarray(float(window + 1))
        noise, renewed = policy.at_window(jnp.asarray(made + window * unroll_length), jnp.asarray(0.0), noise, drawn)
        if spans[-1] and float(noise) == window + 1:
            assert bool(renewed)
            spans.append(0)
        spans[-1] += unroll_length
    return spans[:-1]


@pytest.mark.parametrize("windows", [1, 2, 3])
@pytest.mark.parametrize("made", [0, 1, 2, 4])
def test_several_windows_change_after_the_period(windows, made):
    """All last it, but the first of an episode that began inside of a window: the window's steps before it count."""
    unroll_length, period = 5, 5 * windows
    spans = _spans(noise_policy.several_windows(0.1, period, unroll_length), unroll_length, made, 10)
    assert spans[0] == (period if made == 0 else period - (unroll_length - made))
    assert set(spans[1:]) == {period}


def test_every_window_and_whole_episode_are_the_ends_of_the_scale():
    """A period of one window is a perturbation for each; one beyond the episode is a perturbation for all of it."""
    for made in (0, 1, 2):
        one = _spans(noise_policy.several_windows(0.1, 3, 3), 3, made, 8)
        assert one == _spans(noise_policy.every_window(), 3, made, 8)
        assert set(one[1:]) == {3}
        assert _spans(noise_policy.several_windows(0.1, 300, 3), 3, made, 8) == []
        assert _spans(noise_policy.whole_episode(0.1), 3, made, 8) == []


def test_a_window_of_the_whole_episode_runs_under_the_accumulator():
    accumulator, noise, drawn = ({"a": jnp.full((2, 3), x), "b": jnp.asarray(x)} for x in (1.0, 2.0, 3.0))
    for step, policy in itertools.product((0, 1, 7), (POLICIES["whole_episode"], POLICIES["every_window"])):
        chosen, renewed = policy.at_window(jnp.asarray(step), accumulator, noise, drawn)
        expected = accumulator if policy is POLICIES["whole_episode"] else drawn
        assert bool(renewed) == (expected is drawn)
        jax.tree.map(np.testing.assert_array_equal, chosen, expected)


@pytest.mark.parametrize("name", ["several_windows", "whole_episode"])
def test_first_perturbations_are_normal_with_the_given_deviation(name):
    """Mean, variance and fourth moment of 7 x 4,000 numbers, within four standard errors; no correlation of leaves."""
    first = jax.vmap(lambda key: POLICIES[name].first(key, THETA))(jax.random.split(jax.random.key(0), 4000))
    noise = np.concatenate([np.asarray(x, np.float64).reshape(4000, -1) for x in jax.tree.leaves(first.accumulator)], 1)
    assert noise.shape == (4000, 7)
    count, unit = noise.size, noise / 0.5
    assert abs(unit.mean()) < 4 / np.sqrt(count)
    assert abs((unit**2).mean() - 1) < 4 * np.sqrt(2 / count)
    assert abs((unit**4).mean() - 3) < 4 * np.sqrt(96 / count)
    correlations = unit.T @ unit / 4000 - np.eye(7)
    assert np.max(np.abs(correlations[~np.eye(7, dtype=bool)])) < 5 / np.sqrt(4000)


@pytest.mark.parametrize("name", POLICIES)
def test_what_a_pair_begins_with(name):
    """Two pairs share no key, state and clock neither. The first perturbation is counted once: at the start, or as one
    that the first window draws."""
    policy = POLICIES[name]
    made = [policy.first(jax.random.key(seed), THETA) for seed in (0, 1)]
    keys = [tuple(jax.random.key_data(key).tolist()) for each in made for key in (each.state_key, each.clock_key)]
    assert len(set(keys)) == 4
    nonzero = any(np.any(leaf != 0) for leaf in jax.tree.leaves(made[0].accumulator))
    drawn = jax.tree.map(jnp.ones_like, THETA)
    _, renewed = policy.at_window(jnp.asarray(0), made[0].accumulator, made[0].noise, drawn)
    assert (nonzero, bool(renewed)) == ((False, True) if name == "every_window" else (True, False))
    assert jax.tree.structure(made[0].accumulator) == jax.tree.structure(THETA)
    assert jax.tree.structure(policy.keep(made[0].accumulator)) == jax.tree.structure(made[0].noise)


@pytest.mark.parametrize("name", POLICIES)
def test_what_changes_where_an_episode_ends_inside_of_a_window(name):
    """The thetas of the next episode take over, except under PES: its window has one perturbation."""
    policy, now, following = POLICIES[name], {"x": jnp.ones(2)}, {"x": jnp.full(2, 2.0)}
    before, after = (policy.in_use(now, policy.carry(thetas))["x"] for thetas in (now, following))
    np.testing.assert_array_equal(before, 1.0)
    np.testing.assert_array_equal(after, 1.0 if name == "every_window" else 2.0)
