"""The compiled outer step: what it computes, whatever the devices and dispatches, and that it compiles once."""

import collections
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Estimator
from meta_train import Problem
from meta_train import estimators
from meta_train.estimators import Info
from meta_train.outer.search import SearchStrategy
from meta_train.training import engine
from meta_train.unroll import truncation

THETA = {"rate": np.float32(-1.0), "shift": np.array([0.5, -0.5], np.float32)}
TRACES = collections.Counter()


def _init(key, theta, num_steps):
    TRACES["init"] += 1
    return jax.random.normal(key, (2,))


def _step(key, theta, state, data):
    TRACES["step"] += 1
    gradient = state - theta["shift"] + data * jax.random.normal(key, (2,))
    state = state - jnp.exp(theta["rate"]) * gradient
    return state, jnp.sum(state**2)


@functools.cache  # an engine compiles once for several tests
def _real(num_devices, steps_per_dispatch, program_per_task=False):
    """PES with four pairs on a noisy quadratic, and an outer optimizer with a state of its own."""
    estimator = estimators.pes(
        Problem(_init, _step, np.float32(0.1)),
        num_particles=4,
        unroll_length=3,
        horizon=truncation.constant(6),
        std=0.1,
    )
    return engine.build(
        [estimator],
        optax.sgd(0.01, momentum=0.5),
        steps_per_dispatch=steps_per_dispatch,
        devices=jax.devices()[:num_devices],
        program_per_task=program_per_task,
    )


def _run(built, counts, seed=3):
    """The final state after dispatches of so many steps each, and the metrics of all steps."""
    state, rows = built.init(THETA, seed), []
    for count in counts:
        state, metrics = built.run(state, seed, count)
        rows.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], metrics))
    return jax.tree.map(np.asarray, state), jax.tree.map(lambda *x: np.concatenate(x), *rows)


def _fake(gradient, loss=1.0, dropped=0, inner_steps=10, num_particles=2, name="fake", variance=np.nan):
    """An estimator that adds one to each particle's state and returns what `gradient(key, data)` gives."""

    def estimate(key, theta, state, data, axis_name=None):
        counts = jnp.asarray(dropped, jnp.int32), jnp.asarray(inner_steps, jnp.int32)
        info = Info(jnp.asarray(loss), *counts, gradient_variance=jnp.asarray(variance))
        return {"x": gradient(key, data)}, state + 1, info

    init = lambda key, theta: jnp.arange(num_particles, dtype=jnp.float32)
    return Estimator(init, estimate, np.float32(100.0), num_particles, name)


def _record():
    """An outer optimizer that changes nothing and keeps the gradient and the loss that it was given."""
    return optax.GradientTransformationExtraArgs(
        init=lambda params: (optax.tree.zeros_like(params), jnp.zeros(())),
        update=lambda updates, state, params, *, value, **extra: (optax.tree.zeros_like(params), (updates, value)),
    )


def test_one_device_and_two_make_the_same_steps():
    assert (_real(1, 10).mesh.size, _real(2, 10).mesh.size) == (1, 2)
    (one, one_metrics), (two, two_metrics) = (_run(_real(num_devices, 10), [10]) for num_devices in (1, 2))
    for a, b in zip(jax.tree.leaves((one, one_metrics)), jax.tree.leaves((two, two_metrics)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    moved = jax.tree.map(lambda a, b: np.min(abs(a - b)), one.theta, THETA)
    assert min(jax.tree.leaves(moved)) > 1e-3


def test_the_number_of_steps_in_a_dispatch_changes_no_bit():
    expected = _run(_real(2, 10), [10])
    for built, counts in ((_real(2, 10), [1, 7, 2]), (_real(2, 7), [7, 3]), (_real(2, 1), [1] * 10)):
        jax.tree.map(np.testing.assert_array_equal, _run(built, counts), expected)
    assert expected[0].step == 10
    assert len(set(expected[1].loss.tolist())) == 10


def test_a_program_for_each_task_makes_the_same_steps():
    """Up to rounding, and to the bit whatever the dispatches."""
    expected, made = _run(_real(2, 10), [10]), _run(_real(2, 10, program_per_task=True), [10])
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    again = _run(_real(2, 10, program_per_task=True), [3, 7])
    jax.tree.map(np.testing.assert_array_equal, again, made)


def test_the_seed_changes_everything_random():
    (first, first_metrics), (second, second_metrics) = (_run(_real(2, 10), [1], seed) for seed in (3, 4))
    assert first.theta["rate"] != second.theta["rate"]
    assert first_metrics.loss != second_metrics.loss


def test_particles_stay_spread_over_the_devices():
    built = _real(2, 10)
    state = built.init(THETA, 0)
    for _ in range(2):
        leaves = jax.tree.leaves(state.estimator_states)
        assert len(leaves) == 6  # index, clock, states, accumulators
        for leaf in leaves:
            assert [shard.data.shape[0] for shard in leaf.addressable_shards] == [2, 2]
            assert {shard.device for shard in leaf.addressable_shards} == set(jax.devices()[:2])
        for leaf in jax.tree.leaves((state.step, state.theta, state.outer_state)):
            assert leaf.sharding.is_fully_replicated
            assert leaf.sharding.device_set == set(jax.devices()[:2])
        state, _ = built.run(state, 0, 2)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_run_takes_the_memory_of_its_state_but_not_of_the_first_theta(num_devices):
    built = _real(num_devices, 10)
    theta = jax.tree.map(jnp.asarray, THETA)
    state = built.init(theta, 0)
    built.run(state, 0, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    np.testing.assert_array_equal(theta["shift"], THETA["shift"])
    built.init(theta, 0)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_state_cannot_be_used_again(num_devices):
    built = _real(num_devices, 10)
    state = built.init(THETA, 0)
    built.run(state, 0, 1)
    with pytest.raises(ValueError, match="go on with the state that it returned"):
        built.run(state, 0, 1)


def test_compiles_once_for_all_seeds_and_numbers_of_steps():
    built = _real(2, 10)
    built.run(built.init(THETA, 0), 0, 1)
    before = dict(TRACES)
    assert min(before.values()) > 0
    for seed, num_steps in ((1, 1), (2, 10), (2**32 - 1, 5)):
        state = built.init(THETA, seed)
        state, _ = built.run(state, seed, num_steps)
        built.run(state, seed + 1 if seed < 10 else 0, 3)
    assert dict(TRACES) == before


@pytest.mark.parametrize("program_per_task", [False, True])
def test_run_is_compiled_beside_init_and_not_again(caplog, program_per_task):
    name = "estimate_task" if program_per_task else "dispatch"
    count = lambda: sum(f"Finished XLA compilation of jit({name})" in message for message in caplog.messages)
    jax.config.update("jax_log_compiles", True)
    try:
        built = _real(2, 3, program_per_task)
        built.init(THETA, 0, ahead=False)
        built.ready()
        assert count() == 0
        state = built.init(THETA, 0)
        built.init(THETA, 1)
        built.ready()
        assert count() == 1
        built.run(state, 0, 2)
        assert count() == 1
    finally:
        jax.config.update("jax_log_compiles", False)


def test_an_error_of_the_compilation_surfaces_where_it_is_waited_for(capfd, monkeypatch):
    def fail(lowered):
        raise RuntimeError("the compiler gave up")

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    built = engine.build([_fake(lambda key, data: data)], optax.sgd(0.1), steps_per_dispatch=1)
    state = built.init({"x": np.float32(7.0)}, 0)
    for wait in (built.ready, lambda: built.run(state, 0, 1)):
        with pytest.raises(RuntimeError, match="the compiler gave up"):
            wait()
    assert capfd.readouterr().err == ""


def test_python_ends_as_usual_while_run_is_being_compiled():
    """It waits for the compilation. It used to abort, with status 134, and hide the error."""
    code = """
import jax, jax.numpy as jnp, numpy as np, optax
from meta_train import Problem, estimators, truncation
from meta_train.host import parallel
from meta_train.training import engine

def step(key, theta, state, data):
    for i in range(8):  # long to compile
        state = jnp.sin(state @ state.T) * theta + jax.random.normal(jax.random.fold_in(key, i), state.shape)
    return state, jnp.mean(state)

problem = Problem(lambda key, theta, num_steps: jnp.ones((4, 4)), step)
horizon = truncation.constant(4)
estimator = estimators.truncated_backprop(problem, num_particles=2, unroll_length=2, horizon=horizon)
built = engine.build([estimator], optax.sgd(0.1), steps_per_dispatch=1)
built.init(np.float32(1.0), 0)
assert any(thread.name.startswith("aside") for thread in parallel.threading.enumerate())
raise KeyError("the error")
"""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 'the error'\n"), done.stderr


@pytest.mark.parametrize("program_per_task", [False, True])
def test_an_outer_step_averages_the_estimators(program_per_task):
    tasks = [
        _fake(lambda key, data: 1 + data, loss=5.0, dropped=1, inner_steps=10, variance=10.0),
        _fake(lambda key, data: 3 + data, loss=8.0, dropped=2, inner_steps=30, num_particles=4, variance=6.0),
    ]
    built = engine.build(tasks, _record(), steps_per_dispatch=4, program_per_task=program_per_task)
    state, metrics = built.run(built.init({"x": np.float32(7.0)}, 0), 0, 3)
    gradient, value = state.outer_state
    assert float(gradient["x"]) == 102.0
    assert float(value) == 6.5
    assert float(state.theta["x"]) == 7.0
    assert int(state.step) == 3
    np.testing.assert_array_equal(metrics.loss, [6.5, 6.5, 6.5, 0])
    np.testing.assert_array_equal(metrics.task_losses, [[5, 8], [5, 8], [5, 8], [0, 0]])
    np.testing.assert_array_equal(metrics.grad_norm, [102, 102, 102, 0])
    np.testing.assert_array_equal(metrics.dropped, [3, 3, 3, 0])
    np.testing.assert_array_equal(metrics.inner_steps, [40, 40, 40, 0])
    np.testing.assert_array_equal(metrics.gradient_variance, [4, 4, 4, 0])  # of the mean of two
    np.testing.assert_array_equal(metrics.snr, [102**2 / 4, 102**2 / 4, 102**2 / 4, 0])
    np.testing.assert_array_equal(state.estimator_states[0], [3, 4])
    np.testing.assert_array_equal(state.estimator_states[1], [3, 4, 5, 6])


def test_data_that_tasks_share_are_on_the_devices_once():
    shared = np.zeros(12_347, np.float32)
    tasks = [
        estimators.pes(
            Problem(_init, _step, (shared, np.float32(i)), f"task {i}"),
            num_particles=2,
            unroll_length=3,
            horizon=truncation.constant(6),
        )
        for i in range(2)
    ]
    built = engine.build(tasks, optax.sgd(0.1), steps_per_dispatch=1)
    assert sum(array.shape == shared.shape for array in jax.live_arrays()) == 1
    del built


def test_the_outer_optimizer_s_updates_are_added():
    built = engine.build([_fake(lambda key, data: data)], optax.sgd(0.25), steps_per_dispatch=2)
    state, _ = built.run(built.init({"x": np.float32(7.0)}, 0), 0, 2)
    assert float(state.theta["x"]) == 7.0 - 2 * 0.25 * 100


def test_estimators_steps_and_seeds_draw_different_numbers():
    draw = lambda key, data: jax.random.normal(key)
    built = engine.build([_fake(draw)] * 2, _record(), steps_per_dispatch=1)
    single = engine.build([_fake(draw)], _record(), steps_per_dispatch=1)
    means = []
    for seed in (0, 1):
        state = built.init({"x": np.float32(0.0)}, seed)
        for _ in range(3):
            state, _ = built.run(state, seed, 1)
            means.append(float(state.outer_state[0]["x"]))
    assert len(set(means)) == 6
    state, _ = single.run(single.init({"x": np.float32(0.0)}, 0), 0, 1)
    assert abs(float(state.outer_state[0]["x"]) - means[0]) > 1e-3  # the second of the two does not repeat the first


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="at least one estimator, got none"):
        engine.build([], optax.sgd(0.1), steps_per_dispatch=1)
    with pytest.raises(ValueError, match="steps_per_dispatch must be at least 1, got 0"):
        engine.build([_fake(lambda key, data: data)], optax.sgd(0.1), steps_per_dispatch=0)
    built = _real(2, 10)
    state = built.init(THETA, 0)
    for num_steps in (0, 11):
        with pytest.raises(ValueError, match=f"num_steps must lie between 1 and 10, got {num_steps}"):
            built.run(state, 0, num_steps)


@pytest.mark.parametrize("program_per_task", [False, True])
def test_a_search_that_runs_on_the_host(program_per_task):
    """Its state goes to the host after init and after each generation, and comes back for the next one."""
    calls = []

    def on_host(state):
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
        calls.append(float(state["told"].sum()))
        return {"candidates": {"x": state["candidates"]["x"] + np.float32(1)}, "told": state["told"]}

    strategy = SearchStrategy(
        init=lambda key, theta: {"candidates": {"x": jnp.stack([theta["x"], -theta["x"]])}, "told": jnp.zeros(2)},
        ask=lambda key, state: state["candidates"],
        tell=lambda key, state, candidates, losses, gradients: {**state, "told": losses + candidates["x"]},
        best=lambda state: {"x": state["candidates"]["x"][0]},
        num_candidates=2,
        on_host=on_host,
    )
    task = _fake(lambda key, data: data, loss=0.5)
    built = engine.build([task], strategy, steps_per_dispatch=4, program_per_task=program_per_task)
    state = built.init({"x": np.float32(7.0)}, 0)
    assert (float(state.theta["x"]), calls) == (8.0, [0.0])
    state, metrics = built.run(state, 0, 3)
    assert (float(state.theta["x"]), int(state.step)) == (11.0, 3)
    assert calls == [0.0, 3.0, 5.0, 7.0]  # the sums of 8 and -6, 9 and -5, 10 and -4, each with a loss of 0.5
    np.testing.assert_array_equal(metrics.loss, [0.5, 0.5, 0.5, 0])
    np.testing.assert_array_equal(metrics.inner_steps, [20, 20, 20, 0])
    state, _ = built.run(state, 0, 1)
    assert float(state.theta["x"]) == 12.0
