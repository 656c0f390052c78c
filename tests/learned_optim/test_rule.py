"""Rules and slots."""

import jax.numpy as jnp
import numpy as np

from learned_optim import rule


def test_per_tensor_passes_each_tensor_its_own_slots():
    def update(grad, param, slots, step):
        return grad * param + step, (slots[0] + grad,)

    made = rule.per_tensor((rule.zeros,), update)
    grads, params, slots = [jnp.ones(2), jnp.ones(3)], [jnp.full(2, 2.0), jnp.full(3, 3.0)], [(1.0,), (10.0,)]
    updates, new_slots, shared = made.update(grads, params, slots, "shared", jnp.asarray(5.0), None)
    assert [float(each[0]) for each in updates] == [7.0, 8.0]
    assert [float(each[0]) for (each,) in new_slots] == [2.0, 11.0]
    assert shared == "shared" and made.shared(params) == ()


def test_slots_are_float32_in_the_shape_of_the_parameter():
    param = jnp.ones((2, 3), jnp.bfloat16)
    for maker in (rule.zeros, rule.momentum):
        made = maker(param)
        assert made.dtype == jnp.float32
        np.testing.assert_array_equal(made, np.zeros((2, 3)))
    assert rule.number.make(param).shape == ()
