"""SGD with schedules: steps by hand, as a problem and as a learned optimizer's transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import problems
from meta_train.tuning.scheduled_sgd import scheduled_sgd

THETA = problems.HyperTheta(jnp.log(jnp.array([0.1, 0.5])), jnp.array([0.0, 2.0]), jnp.log(jnp.array([0.2, 0.01])))


def test_steps_by_hand():
    tx = scheduled_sgd(2).transform(THETA, num_steps=4)
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.asarray(0.5)}
    state, update = tx.init(params), jax.jit(tx.update)
    numbers, velocity = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    values = jax.tree.map(np.asarray, problems.schedules(THETA))
    for step in range(4):
        grads = {"w": jnp.array([1.0, step]), "b": jnp.asarray(-1.0)}
        updates, state = update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        rate, momentum, decay = (leaf[step // 2] for leaf in values)
        velocity = momentum * velocity + np.array([1.0, step, -1.0]) + decay * numbers
        numbers = numbers - rate * velocity
        np.testing.assert_allclose(np.append(params["w"], params["b"]), numbers, rtol=1e-5)


def test_parameters_keep_their_type():
    tx = scheduled_sgd(2).transform(THETA, num_steps=4)
    params = jnp.ones(3, jnp.bfloat16)
    updates, state = tx.update(jnp.ones(3, jnp.bfloat16), tx.init(params), params)
    assert updates.dtype == state.velocity.dtype == jnp.bfloat16


def test_what_it_needs():
    params = jnp.ones(3)
    with pytest.raises(ValueError, match="scheduled_sgd needs params"):
        scheduled_sgd(2).transform(THETA, num_steps=4).update(params, None)
    tx = scheduled_sgd(2).transform(THETA)
    with pytest.raises(ValueError, match="scheduled_sgd needs num_steps"):
        tx.update(params, tx.init(params), params)
