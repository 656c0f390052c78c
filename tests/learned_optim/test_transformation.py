"""The state of a transformation: where its slots are, and what tensors without elements do."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import base
from learned_optim.transformation import transformation


class Slots(NamedTuple):
    """One slot of each sort."""

    average: Any
    count: Any
    row: Any  # the sum over the last dimension


SLOTS = Slots(base.momentum, base.number, base.TensorSlot(lambda param: jnp.sum(param.astype(jnp.float32), axis=-1)))
PARAMS = {"a": jnp.ones((2, 3)), "empty": jnp.zeros((0, 2)), "z": jnp.full((4,), 2.0)}


def _make(moment_dtype=jnp.float32, num_steps=None):
    def update(grads, params, slots, shared, step, loss):
        new = [slot._replace(count=slot.count + 1.0, average=grad) for slot, grad in zip(slots, grads, strict=True)]
        return [-param for param in params], new, {"horizon": horizons[-1], "step": step, "loss": loss}

    horizons = []

    def make_rule(theta, horizon):
        horizons.append(horizon)
        return base.Rule(SLOTS, update, lambda params: {"horizon": horizon, "step": theta["x"], "loss": theta["x"]})

    return transformation(make_rule, {"x": np.zeros((), np.float32)}, num_steps, jnp.dtype(moment_dtype))


def test_slots_of_parameters_are_trees_and_those_of_tensors_are_vectors():
    state = _make(jnp.bfloat16).init(PARAMS)
    assert jax.tree.map(jnp.shape, state.slots.average) == jax.tree.map(jnp.shape, PARAMS)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.slots.average)} == {"bfloat16"}
    np.testing.assert_array_equal(state.slots.count, np.zeros(2))  # none for the empty tensor
    np.testing.assert_array_equal(state.slots.row, [3.0, 3.0, 8.0])


def test_an_update_steps_and_leaves_empty_tensors_alone():
    tx = _make(num_steps=7)
    grads = jax.tree.map(lambda param: 3.0 * param, PARAMS)
    updates, state = tx.update(grads, tx.init(PARAMS), PARAMS, value=2.5)
    assert updates["empty"].shape == (0, 2)
    np.testing.assert_array_equal(updates["z"], np.full(4, -2.0))
    np.testing.assert_array_equal(state.slots.average["z"], np.full(4, 6.0))
    np.testing.assert_array_equal(state.slots.count, np.ones(2))
    np.testing.assert_array_equal(state.slots.row, [3.0, 3.0, 8.0])
    assert int(state.step) == 1
    assert jax.tree.map(float, state.shared) == {"horizon": 7.0, "loss": 2.5, "step": 0.0}


def test_shapes_in_shapes_out():
    shapes = jax.eval_shape(lambda: PARAMS)
    state = _make().init(shapes)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), _make().init(PARAMS)
    )
