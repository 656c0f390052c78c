"""RNNprop for a thousand steps: one vector gives the updates of separate tensors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim.optimizers.rnnprop import by_units
from meta_train.recipes import rnnprop_general_v1


@pytest.mark.optax_promotion
def test_one_vector_gives_the_updates_of_separate_tensors():
    optimizer = learned_optim.rnnprop(3, 1)
    theta = optimizer.init(jax.random.key(0))
    params = {"b": jnp.ones(2), "w": jnp.ones((2, 3))}
    grads = [
        jax.tree.map(lambda leaf, seed=seed: jax.random.normal(jax.random.key(seed), leaf.shape), params)
        for seed in (1, 2)
    ]

    def updates(optimizer):
        tx = optimizer.transform(theta, num_steps=2)
        state, made = tx.init(params), []
        for grad in grads:
            update, state = tx.update(grad, state, params)
            made.append(update)
        return made

    joined = rnnprop_general_v1.in_one_vector(by_units(optimizer))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), updates(joined), updates(optimizer)
    )
