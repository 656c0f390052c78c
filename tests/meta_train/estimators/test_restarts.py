"""Restarts from a buffer: what is drawn was kept, with its perturbations; without restarts nothing changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.unroll import truncation


def _walk():
    """The loss at step t is t * theta, plus what the episode's key draws: random keys are part of the state."""

    def step(key, theta, state, data):
        total, episode_key = state
        total = total + theta
        return (total, episode_key), total + jax.random.normal(episode_key)

    return Problem(lambda key, theta, num_steps: (jnp.zeros(()), key), step)


def _numbers(state):
    """A state's leaves as NumPy arrays, keys as numbers."""
    plain = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return jax.tree.map(lambda x: np.asarray(plain(x)), state)


def _record(estimator, plain, num_windows):
    """Of successive windows: `(before, now, after)`, where now is what the plain estimator makes of before."""

    @jax.jit
    def run(key):
        def window(state, key):
            theta = jnp.ones(())
            results = [e.estimate(key, theta, s, e.data) for e, s in ((estimator, state), (plain, state.inner))]
            (gradient, after, info), (plain_gradient, now, plain_info) = results
            return after, ((state, now, after), (gradient, info), (plain_gradient, plain_info))

        init_key, key = jax.random.split(key)
        return jax.lax.scan(window, estimator.init(init_key, jnp.ones(())), jax.random.split(key, num_windows))[1]

    return run(jax.random.key(0))


def _pes(num_particles=4, horizon=None, **options):
    horizon = truncation.growing(6, 12, num_steps=20) if horizon is None else horizon
    return estimators.pes(_walk(), num_particles=num_particles, unroll_length=3, horizon=horizon, std=0.1, **options)


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_every_exchange(share):
    """Estimates are those of the estimator. What a particle goes on with is what it has, or all of one kept state."""
    plain = _pes()
    size, num_windows = 2, 120
    estimator = estimators.restarts(plain, share=share, size=size, keep=0.3)
    (before, now, after), estimate, plain_estimate = _record(estimator, plain, num_windows)
    jax.tree.map(np.testing.assert_array_equal, estimate, plain_estimate)
    before, now, after = _numbers(before), _numbers(now), _numbers(after)
    if share == 0:
        jax.tree.map(np.testing.assert_array_equal, after.inner, now)

    ends = restarted = 0
    for window, particle in np.ndindex(num_windows, 4):
        at = lambda tree, *place, window=window, particle=particle: jax.tree.map(
            lambda x: x[window, particle][place], tree
        )
        old, made, new = at(before.inner), at(now), at(after.inner)
        same = lambda a, b: all(
            np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        )
        in_window = old.clock.step < old.clock.horizon < old.clock.step + 3
        ended = in_window or made.clock.step == made.clock.horizon
        count = int(before.count[window, particle])

        places = [at(before.kept, i) for i in range(min(count, size))]
        drawn = [
            same(new, p._replace(index=made.index, clock=p.clock._replace(outer_step=made.clock.outer_step)))
            for p in places
        ]
        if not same(new, made):
            assert ended and any(drawn)
            assert 0 < new.clock.step < new.clock.horizon
            restarted += 1
        ends += ended and count > 0
        assert new.clock.outer_step == window + 1 and new.index == particle

        stored = int(after.count[window, particle]) - count
        assert stored in (0, 1) and not (stored and ended)
        for i in range(size):
            written = stored and i == count % size
            assert same(at(after.kept, i), made if written else at(before.kept, i))
    windows_kept = after.count[-1].sum()
    assert ends > 60
    assert abs(restarted - share * ends) <= 4 * np.sqrt(share * (1 - share) * ends)
    lasted = num_windows * 4 - ends
    assert abs(windows_kept - 0.3 * lasted) < 4 * np.sqrt(0.3 * 0.7 * lasted) + 0.3 * 16  # ends before the first kept


@pytest.mark.optimized
def test_each_step_of_the_clock_has_its_unbiased_gradient():
    """The slope of the loss at step t is t. Late steps are seen more often, and their whole past counts.

    Windows of 2 in episodes of 8 have slopes 1.5, 3.5, 5.5 and 7.5. An episode that restarts without its perturbations
    would lack the slope's part from before, 2 to 6.
    """
    plain = estimators.pes(
        _walk(), num_particles=50, unroll_length=2, horizon=truncation.constant(8), std=0.1, stagger=False
    )
    estimator = estimators.restarts(plain, share=0.7, size=2, keep=0.5)
    theta = jnp.zeros(())

    def batch(key):
        def window(state, key):
            clock = state.inner.clock
            begin = jnp.where(clock.step == clock.horizon, 0, clock.step)
            slopes = jnp.mean(begin.astype(jnp.float32) + 1.5)
            gradient, state, _ = estimator.estimate(key, theta, state, estimator.data)
            return state, (gradient, slopes)

        init_key, key = jax.random.split(key)
        return jax.lax.scan(window, estimator.init(init_key, theta), jax.random.split(key, 24))[1]

    keys = jax.random.split(jax.random.key(0), 200)
    gradients, slopes = jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(batch, keys))(keys))
    residuals = (gradients - slopes).mean(axis=1)
    error = residuals.std() / np.sqrt(len(residuals))
    assert error < 0.1
    assert abs(residuals.mean()) < 4 * error
    assert slopes[:, :4].mean() == 4.5  # the first episode is whole
    assert gradients[:, 8:].mean() > 4.5 + 10 * error  # the known bias: late steps count more


def test_a_run_on_several_devices_resumes_bit_for_bit(tmp_path):
    """Inside of a sum, as with imitation: the buffer is part of the checkpoint."""

    def estimator():
        part = estimators.restarts(_pes(horizon=truncation.constant(6)), share=0.8, size=1, keep=0.5)
        backprop = estimators.truncated_backprop(
            _walk(), num_particles=2, unroll_length=2, horizon=truncation.constant(4)
        )
        return estimators.weighted_sum([part, backprop], [1.0, optax.linear_schedule(1.0, 0.0, 4)])

    def run(num_steps, **arguments):
        arguments = {"steps_per_dispatch": 4, "progress": False} | arguments
        return fit(estimator(), jnp.ones(()), optax.sgd(0.01), num_steps=num_steps, **arguments)

    whole = run(12)
    run(8, run_dir=tmp_path)
    resumed = run(12, run_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    assert [row["loss"] for row in resumed.metrics] == [row["loss"] for row in whole.metrics]


def test_what_does_not_fit():
    plain = _pes()
    for name in ("share", "keep"):
        with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1, got 1.1"):
            estimators.restarts(plain, **{name: 1.1})
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        estimators.restarts(plain, size=0)
    whole_episodes = estimators.full_es(_walk(), num_particles=2, horizon=truncation.constant(4))
    with pytest.raises(TypeError, match="the fields index, clock and states, got a EpisodesState"):
        jax.eval_shape(estimators.restarts(whole_episodes).init, jax.random.key(0), jnp.zeros(()))
