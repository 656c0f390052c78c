"""Weights of examples, where the minimum is a weighted mean."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Network
from meta_train.problems import TrustedData

Y, TRUSTED = np.array([1.0, -2.0, 4.0, 0.5]), np.array([0.0, 1.0])
DATA = TrustedData(np.zeros((4, 1)), Y, np.zeros((2, 1)), TRUSTED)
CONSTANT = Network(lambda key, inputs: jnp.zeros(()), lambda params, inputs: jnp.broadcast_to(params, len(inputs)), "")
THETA = np.array([0.3, -1.0, 0.0, 2.0])


def test_the_hypergradient_is_that_of_a_weighted_mean():
    """With s = sigmoid(theta), w = sum(s y) / sum(s) and dw/dtheta_i = s_i (1 - s_i) (y_i - w) / sum(s)."""
    with jax.enable_x64(True):
        bilevel = problems.data_weights(
            DATA, CONSTANT, batch_size=4, losses=lambda outputs, y: 0.5 * jnp.square(outputs - y)
        )
        estimator = estimators.implicit(bilevel, inner_optimizer=optax.sgd(1.0), inner_steps=2)
        theta, data = jnp.asarray(THETA), jax.tree.map(jnp.asarray, estimator.data)
        state = estimator.init(jax.random.key(0), theta)
        gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, data)
        s = 1 / (1 + np.exp(-THETA))
        w = s @ Y / s.sum()
        np.testing.assert_allclose(state.inner.params[0], w, rtol=1e-12)
        np.testing.assert_allclose(gradient, (w - TRUSTED.mean()) * s * (1 - s) * (Y - w) / s.sum(), rtol=1e-9)
        np.testing.assert_allclose(info.loss, np.mean((w - TRUSTED) ** 2) / 2, rtol=1e-12)
