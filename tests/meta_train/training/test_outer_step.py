"""Searches in the engine: what each candidate is evaluated on, what the strategy is told, what the metrics say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Estimator
from meta_train.estimators import Info
from meta_train.outer.search import SearchStrategy
from meta_train.outer.search import mean_ranks
from meta_train.training import engine

CANDIDATES = np.array([1.0, 5.0, 2.0], np.float32)


def _ledger():
    """A strategy that always asks for the same candidates, and keeps what it was told."""

    def init(key, theta):
        return {"theta": theta, "losses": jnp.zeros(3), "gradients": jnp.zeros(3)}

    def tell(key, state, candidates, losses, gradients):
        return {"theta": {"x": state["theta"]["x"] + 1}, "losses": losses, "gradients": gradients["x"]}

    ask = lambda key, state: {"x": jnp.asarray(CANDIDATES)}
    return SearchStrategy(init, ask, tell, lambda state: {"x": state["theta"]["x"] * 10}, 3)


def _fake(scale, name):
    """An estimator with loss scale * theta (NaN for the candidate 5), gradient scale, and a sum of thetas for state."""

    def estimate(key, theta, state, data, axis_name=None):
        noise = jax.random.normal(key)
        loss = jnp.where(theta["x"] == 5, jnp.nan, scale * theta["x"])
        info = Info(loss, jnp.asarray(1, jnp.int32), jnp.asarray(10, jnp.int32))
        return {"x": jnp.asarray(scale)}, {"sum": state["sum"] + theta["x"], "noise": 0 * state["noise"] + noise}, info

    init = lambda key, theta: {"sum": jnp.arange(2, dtype=jnp.float32), "noise": jnp.zeros(2)}
    return Estimator(init, estimate, (), 2, name)


@pytest.mark.parametrize("program_per_task", [False, True])
def test_candidates_in_the_engine(program_per_task):
    tasks = [_fake(2.0, "a"), _fake(4.0, "b")]
    built = engine.build(tasks, _ledger(), steps_per_dispatch=2, program_per_task=program_per_task)
    assert built.mesh.size == 2
    state = built.init({"x": np.float32(7.0)}, 0)
    assert float(state.theta["x"]) == 7.0
    state, metrics = built.run(state, 0, 2)
    assert float(state.theta["x"]) == 90.0  # the strategy's answer after two generations
    np.testing.assert_array_equal(state.outer_state["losses"], [3, np.nan, 6])  # means over the tasks
    np.testing.assert_array_equal(state.outer_state["gradients"], [3, 3, 3])
    for task, losses in ((0, 3.0), (1, 6.0)):
        np.testing.assert_array_equal(metrics.task_losses[:, task], [losses, losses])  # of those that are numbers
        sums = np.arange(2)[:, None] + 2 * CANDIDATES  # particles times candidates
        np.testing.assert_array_equal(state.estimator_states[task]["sum"], sums)
    np.testing.assert_array_equal(metrics.loss, [4.5, 4.5])
    np.testing.assert_allclose(metrics.grad_norm, [3, 3], rtol=1e-6)
    np.testing.assert_array_equal(metrics.dropped, [6, 6])
    np.testing.assert_array_equal(metrics.inner_steps, [60, 60])
    noise = [np.asarray(s["noise"]) for s in state.estimator_states]
    assert len({*noise[0].ravel().tolist()}) == 1  # all candidates see the same numbers
    assert noise[0][0, 0] != noise[1][0, 0]


def test_a_strategy_combines_the_losses_of_the_tasks():
    built = engine.build(
        [_fake(2.0, "a"), _fake(4.0, "b")], _ledger()._replace(combine=mean_ranks), steps_per_dispatch=1
    )
    state, _ = built.run(built.init({"x": np.float32(7.0)}, 0), 0, 1)
    np.testing.assert_array_equal(state.outer_state["losses"], [0.0, 1.0, 0.5])


def _losses_only(estimator):
    """The estimator without its gradient."""

    def estimate(*args, **kwargs):
        return None, *estimator.estimate(*args, **kwargs)[1:]

    return estimator._replace(estimate=estimate)


@pytest.mark.parametrize("program_per_task", [False, True])
def test_estimators_of_losses_only(program_per_task):
    """They count as a gradient of zero to a search, and an outer optimizer refuses them."""
    blind = _losses_only(_fake(2.0, "a"))
    build = functools.partial(engine.build, steps_per_dispatch=1, program_per_task=program_per_task)
    built = build([blind, _fake(4.0, "b")], _ledger())
    state, _ = built.run(built.init({"x": np.float32(7.0)}, 0), 0, 1)
    np.testing.assert_array_equal(state.outer_state["losses"], [3, np.nan, 6])
    np.testing.assert_array_equal(state.outer_state["gradients"], [2, 2, 2])
    built = build([blind], optax.sgd(0.1))
    with pytest.raises(ValueError, match="needs estimators of the gradient, got one that gives losses only"):
        built.init({"x": np.float32(7.0)}, 0)  # before the work begins
