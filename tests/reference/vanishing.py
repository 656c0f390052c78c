"""Derivatives of trainings with respect to theta where gradients or parameters vanish, for optimizers that use them."""

import jax
import jax.numpy as jnp

SCALES = (1.0, 0.0, 1e-8, 1e-12, 1e-20, 1e-35, 1e10)  # of all gradients


def derivatives(optimizer, theta):
    """`{scale: (derivative of theta, of the gradients)}` of the sum of all parameters after three steps.

    A row and a column of zeros, as behind dead units; a matrix at zero; a vector and a matrix without gradient. The
    gradients depend on the parameters, so that derivatives pass through all that is computed from them.
    """
    mask = {"w": jnp.ones((3, 2)).at[0].set(0.0).at[:, 1].set(0.0), "b": jnp.zeros(2), "k": jnp.zeros((40, 60))}

    def total(theta, shift, scale):
        tx = optimizer.transform(theta, num_steps=2)

        def step(carry, _):
            params, state = carry
            grads = jax.tree.map(lambda m, p, s: scale * (m * (p - 1.0) + s), mask, params, shift)
            updates, state = tx.update(grads, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        params = jax.tree.map(jnp.zeros_like, mask) | {"b": jnp.ones(2)}
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), None, length=3)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))

    derivative = jax.jit(jax.grad(total, argnums=(0, 1)))
    zeros = jax.tree.map(jnp.zeros_like, mask)
    return {scale: derivative(theta, zeros, scale) for scale in SCALES}
