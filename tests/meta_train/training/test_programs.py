"""The programs of a run, for an outer rule of known results: sums over shards, a recurrence, random keys, metrics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import Info
from meta_train.training import programs
from meta_train.training.outer_step import Carried
from meta_train.training.outer_step import OuterRule

PARTICLES, LENGTH = 4, 5
DATA = np.float32(3.0)


def _begin(key, theta):
    outer_state = {"drawn": jax.random.normal(key), "weak": jnp.asarray(1.0)}  # the latter of a weak type
    return Carried(theta, outer_state, (jnp.arange(PARTICLES, dtype=jnp.float32),))


def _estimate(key, asked, particles, data):
    """Each particle p becomes p + 1; the gradient is the sum of all particles, and theta + data beside it."""
    gradient = {"x": jax.lax.psum(jnp.sum(particles), programs.AXIS) * jnp.array([0.6, 0.8])}
    counts = jnp.asarray(1, jnp.int32), jnp.asarray(10, jnp.int32)
    draw = Info(jax.random.normal(key), *counts, gradient_variance=jnp.asarray(6.0))
    return {**gradient, "theta": jax.tree.map(lambda x: x + data, asked)}, particles + 1, draw


def _tell(key, carried, asked, results):
    """Theta becomes 2 theta + data."""
    ((gradient, particles, draw),) = results
    infos = [
        draw._replace(loss=jnp.asarray(1.0), gradient_variance=jnp.asarray(3.0)),
        draw._replace(loss=jnp.asarray(5.0), gradient_variance=jnp.asarray(9.0)),
        draw,
    ]
    theta = jax.tree.map(jnp.add, gradient["theta"], carried.theta)
    return Carried(theta, carried.outer_state, (particles,)), {"x": gradient["x"]}, infos


RULE = OuterRule(_begin, lambda key, carried: carried.theta, (_estimate,), _tell)


@functools.cache  # compiled once for several tests
def _built(num_devices, by_task=False):
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:num_devices]), (programs.AXIS,))
    return programs.build(RULE, mesh, LENGTH, by_task)


def _theta():
    return {"x": np.array([1.0, -1.0], np.float32)}


def _run(num_devices, counts, seed=0):
    """The state after dispatches of so many steps each, and the metrics of all steps made."""
    built, rows = _built(num_devices), []
    state = built.start(_theta(), np.uint32(seed))
    for count in counts:
        state, metrics = built.dispatch(state, np.uint32(seed), np.int32(count), (DATA,))
        rows.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], metrics))
    return jax.tree.map(np.asarray, state), jax.tree.map(lambda *x: np.concatenate(x), *rows)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_recurrence_and_sums_over_all_shards(num_devices):
    """theta_n = 2^n (theta + data) - data; after n steps the particles add up to 0 + 1 + 2 + 3 + 4 n."""
    state, metrics = _run(num_devices, [4])
    np.testing.assert_array_equal(state.theta["x"], 2**4 * (_theta()["x"] + DATA) - DATA)
    np.testing.assert_array_equal(state.estimator_states[0], np.arange(PARTICLES) + 4)
    np.testing.assert_allclose(metrics.grad_norm, 6 + 4 * np.arange(4), rtol=1e-6)
    assert int(state.step) == 4


def test_metrics_of_a_mean_of_independent_estimates():
    """The variance is (3 + 9 + 6) / 3^2, the signal-to-noise ratio the squared norm over it."""
    _, metrics = _run(2, [3])
    np.testing.assert_allclose(metrics.gradient_variance, 2.0, rtol=1e-6)
    np.testing.assert_allclose(metrics.snr, (6 + 4 * np.arange(3)) ** 2 / 2, rtol=1e-6)
    np.testing.assert_array_equal(metrics.dropped, 3)
    np.testing.assert_array_equal(metrics.inner_steps, 30)
    np.testing.assert_array_equal(metrics.task_losses[:, :2], [[1, 5]] * 3)
    np.testing.assert_allclose(metrics.loss, metrics.task_losses.mean(axis=1), rtol=1e-6)
    assert metrics.outer == {}


def test_rows_of_steps_that_were_not_made_are_zero():
    built = _built(1)
    state, metrics = built.dispatch(built.start(_theta(), np.uint32(0)), np.uint32(0), np.int32(2), (DATA,))
    assert int(state.step) == 2
    for row in jax.tree.leaves(metrics):
        assert len(row) == LENGTH
        assert np.all(np.asarray(row)[:2] != 0)
        assert not np.any(np.asarray(row)[2:])


def test_random_numbers_depend_on_the_seed_and_the_step_alone():
    """Not on devices or dispatches. They are those of `fold_in`; the first state draws others than the steps."""
    state, metrics = _run(1, [5])
    for num_devices, counts in ((2, [5]), (1, [1, 4]), (2, [2, 1, 2])):
        jax.tree.map(np.testing.assert_array_equal, _run(num_devices, counts), (state, metrics))
    of_start, of_steps = (jax.random.fold_in(jax.random.key(0), i) for i in (0, 1))
    steps = [float(jax.random.normal(jax.random.fold_in(of_steps, i))) for i in range(5)]
    np.testing.assert_allclose(metrics.task_losses[:, 2], steps, rtol=1e-6)
    np.testing.assert_allclose(state.outer_state["drawn"], jax.random.normal(of_start), rtol=1e-6)
    other, other_metrics = _run(1, [5], seed=1)
    assert other.outer_state["drawn"] != state.outer_state["drawn"]
    assert not set(other_metrics.task_losses[:, 2].tolist()) & set(metrics.task_losses[:, 2].tolist())


@pytest.mark.parametrize("num_devices", [1, 2])
def test_the_abstract_state_is_that_of_start(num_devices):
    """So that a dispatch that was compiled for it is the one that the state runs."""
    built = _built(num_devices)
    abstract, state = built.placed_state(_theta(), np.uint32(0)), built.start(_theta(), np.uint32(0))
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    for shape, leaf in zip(jax.tree.leaves(abstract), jax.tree.leaves(state), strict=True):
        assert (shape.shape, shape.dtype, shape.weak_type) == (leaf.shape, leaf.dtype, leaf.weak_type)
        assert shape.sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
    assert len(state.estimator_states[0].addressable_shards[0].data) == PARTICLES // num_devices


def test_dispatch_takes_the_memory_of_the_state_and_start_leaves_theta_alone():
    built = _built(1)
    theta = jax.device_put(_theta(), jax.tree.leaves(built.placed_state(_theta(), np.uint32(0)).theta)[0].sharding)
    state = built.start(theta, np.uint32(0))
    built.dispatch(state, np.uint32(0), np.int32(1), (DATA,))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    np.testing.assert_array_equal(theta["x"], _theta()["x"])


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_program_for_each_task_makes_the_same_steps(num_devices):
    whole, rows = _run(num_devices, [3])
    built = _built(num_devices, by_task=True)
    state = built.start(_theta(), np.uint32(0))
    for i in range(3):
        state, metrics = built.dispatch(state, np.uint32(0), np.int32(1), (DATA,))
        jax.tree.map(lambda row, rows, i=i: np.testing.assert_allclose(row[0], rows[i], rtol=1e-6), metrics, rows)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, state), whole)
    assert len(state.estimator_states[0].addressable_shards[0].data) == PARTICLES // num_devices


def test_put_copies_to_all_devices():
    given = ({"x": np.arange(3.0)}, (np.int32(4),))
    placed = _built(2).put(given)
    jax.tree.map(np.testing.assert_array_equal, placed, given)
    assert all(leaf.sharding.device_set == set(jax.devices()[:2]) for leaf in jax.tree.leaves(placed))
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(placed))


def test_wide_vectors_unless_the_user_chooses_a_width_or_xla_knows_none(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert programs.wide_vectors() == {"xla_cpu_prefer_vector_width": 512}
    monkeypatch.setattr(programs, "_WIDTH", "xla_cpu_no_such_option")
    assert programs.wide_vectors() is None
    monkeypatch.undo()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=128")
    assert programs.wide_vectors() is None
