"""The factored features: their number and order, and the step that VeLO and Celo make of them (`factored_step`)."""

import functools

import jax
import numpy as np
import pytest

from learned_optim import factored_features
from learned_optim import factored_moments
from learned_optim import factored_step
from learned_optim import networks


def _observed(shape, extended):
    random = np.random.RandomState(0)
    grad, param = (jax.device_put(np.asarray(random.standard_normal(shape), np.float32)) for _ in range(2))

    @jax.jit
    def observe(grad, param):
        make = lambda slot: slot.make(param) if isinstance(slot, factored_moments.TensorSlot) else slot(param)
        slots = jax.tree.map(make, factored_moments.SLOTS)
        observed = factored_features.observe(grad, param, slots, extended=extended)
        return slots, observed, factored_features.inputs(observed[0], extended=extended)

    return grad, param, *observe(grad, param)


@pytest.mark.parametrize(("extended", "count"), [(False, 28), (True, 30)])
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 4)])
def test_mean_squares_are_those_of_the_features(shape, extended, count):
    _, _, _, (observed, mean_squares, _), inputs = _observed(shape, extended)
    arrays = [np.broadcast_to(x, shape) for x in jax.tree.leaves(inputs)]
    assert len(arrays) == len(jax.tree.leaves(mean_squares)) == count
    for array, mean_square in zip(arrays, jax.tree.leaves(mean_squares), strict=True):
        np.testing.assert_allclose(mean_square, np.mean(np.square(array)), rtol=1e-4)
    np.testing.assert_array_equal(inputs.grad, observed.grad)
    assert factored_features.normalizers(mean_squares).shape == (count,)


def test_a_relative_step_is_in_units_of_the_tensor():
    grad, param, slots, _, _ = _observed((4, 3), extended=True)
    network = networks.per_parameter_mlp((2,), num_outputs=2)
    theta = jax.eval_shape(lambda key: factored_features.init_network(network, key, extended=True), jax.random.key(0))
    zero = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), theta)
    (last,) = (name for name, layer in theta.items() if layer["b"].shape == (2,) and layer["w"].shape == (2, 2))
    zero[last]["b"] = np.array([1.0, 0.5], np.float32)  # direction and magnitude of every coordinate
    step = functools.partial(factored_step.relative_step, network, multiplier=0.1, magnitude_multiplier=2.0, widest=2)
    update, _ = jax.jit(step)(zero, grad, param, slots)
    size = np.sqrt(np.mean(np.square(param)) + 1e-9)
    np.testing.assert_allclose(update, np.full((4, 3), -0.1 * size * np.exp(1.0)), rtol=1e-5)
