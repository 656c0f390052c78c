"""Population based training: the toy of the paper, what is copied, and when."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.outer import search
from meta_train.outer.search.pbt import Member
from meta_train.outer.search.pbt import scale
from meta_train.unroll import truncation


def _toy_step(key, theta, state, data):
    """The loss is |x|^2 - 1.2, but its derivative that of sum(h x^2): each member sees one coordinate only."""
    surrogate = jnp.sum(jax.lax.stop_gradient(theta["h"]) * theta["x"] ** 2)
    loss = jax.lax.stop_gradient(jnp.sum(theta["x"] ** 2) - 1.2)
    return state, loss + surrogate - jax.lax.stop_gradient(surrogate)


def _toy(interval, **arguments):
    """Two members with h = (1, 0) and (0, 1), whose x begins at (0.9, 0.9). Who is behind copies x and scales its h."""
    problem = Problem(lambda key, theta, num_steps: (), _toy_step)
    estimator = estimators.truncated_backprop(problem, num_particles=1, unroll_length=1, horizon=truncation.constant(1))

    def explore(key, copied, own):
        return copied._replace(theta={"x": copied.theta["x"], "h": scale(key, own.theta["h"])})

    strategy = search.pbt(
        optax.sgd(0.01),
        num_candidates=2,
        interval=interval,
        explore=explore,
        vary=lambda key, index, theta: {**theta, "h": jax.nn.one_hot(index, 2)},
    )
    theta = {"x": np.array([0.9, 0.9], np.float32), "h": np.zeros(2, np.float32)}
    arguments = {"num_steps": 600, "steps_per_dispatch": 50, "progress": False} | arguments
    return fit(estimator, theta, strategy, **arguments)


def test_the_toy_of_the_paper_and_resume(tmp_path):
    """A fixed grid ends at 0.39, a population at 1.2."""
    quality = lambda result: 1.2 - np.sum(result.theta["x"] ** 2)
    np.testing.assert_allclose(quality(_toy(interval=10_000)), 0.39, atol=1e-4)
    whole = _toy(interval=10)
    assert quality(whole) >= 1.1999
    _toy(interval=10, num_steps=333, run_dir=tmp_path)
    resumed = _toy(interval=10, run_dir=tmp_path, resume=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.theta, whole.theta)
    assert [r["loss"] for r in resumed.metrics] == [r["loss"] for r in whole.metrics]


def _population(explore, interval=2):
    """Five members whose theta is 1 … 5, with momentum."""
    strategy = search.pbt(
        optax.sgd(0.1, momentum=0.5),
        num_candidates=5,
        interval=interval,
        share=0.4,
        explore=explore,
        vary=lambda key, index, theta: theta * (index + 1).astype(jnp.float32),
    )
    return strategy, jax.jit(strategy.init)(jax.random.key(0), jnp.ones(()))


def _tell(strategy, state, losses, gradients, seed=0):
    return jax.jit(strategy.tell)(
        jax.random.key(seed), state, strategy.ask(jax.random.key(0), state), jnp.array(losses), jnp.array(gradients)
    )


def test_members_learn_by_themselves_and_the_worst_copy_the_best_with_their_optimizer_s_state():
    strategy, state = _population(explore=lambda key, copied, own: Member(copied.theta + 100, copied.outer_state))
    np.testing.assert_array_equal(strategy.ask(jax.random.key(0), state), [1, 2, 3, 4, 5])
    gradients = np.array([1.0, 2.0, 3.0, 4.0, 5.0], np.float32)
    state = _tell(strategy, state, [0.0, 20.0, 2.0, 9.0, 1.5], gradients)
    thetas = np.arange(1, 6) - 0.1 * gradients
    np.testing.assert_allclose(state.members.theta, thetas, rtol=1e-6)  # the second step compares
    assert float(strategy.best(state)) == state.members.theta[0]

    state = _tell(strategy, state, [9.0, -1.0, jnp.nan, 0.0, 1.0], 0 * gradients)  # sums 9, 19, NaN, 9, 2.5
    momentum, thetas = 0.5 * gradients, thetas - 0.05 * gradients
    trace = np.asarray(jax.tree.leaves(state.members.outer_state)[0])
    np.testing.assert_allclose(np.asarray(state.members.theta)[[0, 3, 4]], thetas[[0, 3, 4]], rtol=1e-6)
    np.testing.assert_allclose(trace[[0, 3, 4]], momentum[[0, 3, 4]], rtol=1e-6)
    for replaced in (1, 2):
        sources = np.flatnonzero(np.isclose(thetas + 100, state.members.theta[replaced]))
        assert sources.size == 1 and sources[0] in (0, 4)
        np.testing.assert_allclose(trace[replaced], momentum[sources[0]], rtol=1e-6)
    assert float(strategy.best(state)) == state.members.theta[3]  # 0 in the last step, the lowest of those still there
    np.testing.assert_array_equal(state.total_losses, np.zeros(5))


def test_exploration_sees_what_is_copied_and_what_is_replaced():
    strategy, state = _population(interval=1, explore=lambda key, copied, own: own._replace(theta=own.theta * 10))
    state = _tell(strategy, state, [1.0, 2.0, 3.0, 5.0, 4.0], np.zeros(5, np.float32))
    np.testing.assert_array_equal(state.members.theta, [1, 2, 3, 40, 50])
    assert float(strategy.best(state)) == 1.0


def test_both_of_the_best_are_copied():
    strategy, state = _population(interval=1, explore=lambda key, copied, own: copied)
    copies = set()
    for seed in range(10):
        after = _tell(strategy, state, [1.0, 2.0, 3.0, 5.0, 4.0], np.zeros(5, np.float32), seed)
        copies |= set(np.asarray(after.members.theta[3:]).tolist())
    assert copies == {1.0, 2.0}


def test_by_default_each_number_is_scaled_up_or_down():
    strategy = search.pbt(optax.set_to_zero(), num_candidates=200, interval=1)
    theta = {"a": jnp.full(2, 10.0), "b": jnp.asarray(-10.0)}
    members = jax.jit(strategy.init)(jax.random.key(0), theta).members.theta
    numbers = np.concatenate([members["a"], -members["b"][:, None]], axis=1)
    np.testing.assert_array_equal(numbers[0], [10, 10, 10])
    assert set(np.unique(numbers[1:]).tolist()) == {8.0, 12.0}
    assert len(np.unique(numbers[1:], axis=0)) == 8  # each by a coin of its own
    assert 0.4 < np.mean(numbers[1:] == 8.0) < 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.0}, "share must lie above 0 and not above a half, got 0.0"),
        ({"share": 0.6}, "share must lie above 0 and not above a half, got 0.6"),
        ({"num_candidates": 1}, "num_candidates must be at least 2, .* got 1"),
        ({"interval": 0}, "interval must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        search.pbt(optax.sgd(0.1), **{"num_candidates": 4, "interval": 1} | arguments)
