"""An optimizer in units: gradient descent with a rate for each parameter, and stateful optimizers that see params."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.unroll.units import in_units

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.asarray(3.0)}
UNITS = {"a": jnp.array([0.5, 2.0]), "b": jnp.asarray(1.0)}
GRADS = {"a": jnp.array([0.1, 0.2]), "b": jnp.asarray(-1.0)}


def test_momentum_is_that_of_the_scaled_parameters():
    """With u = w / s: two steps of SGD with momentum on u are -α s (s g), and -α s (1 + μ) (s g)."""
    tx = in_units(optax.sgd(0.1, momentum=0.5), UNITS)
    state = tx.init(PARAMS)
    for factor in (1.0, 1.5):
        updates, state = tx.update(GRADS, state, PARAMS)
        for name, grad in GRADS.items():
            np.testing.assert_allclose(updates[name], -0.1 * factor * UNITS[name] ** 2 * grad, rtol=1e-6)


def test_weight_decay_sees_the_scaled_parameters():
    """-α s (w / s) = -α w, whatever the units."""
    tx = in_units(optax.chain(optax.add_decayed_weights(1.0), optax.sgd(0.1)), UNITS)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, GRADS), tx.init(PARAMS), PARAMS)
    jax.tree.map(lambda u, w: np.testing.assert_allclose(u, -0.1 * w, rtol=1e-6), updates, PARAMS)


def test_the_loss_reaches_the_optimizer():
    tx = in_units(optax.polyak_sgd(max_learning_rate=10.0), UNITS)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, value=jnp.asarray(1.0))
    square = sum(np.sum((UNITS[name] * grad) ** 2) for name, grad in GRADS.items())
    np.testing.assert_allclose(updates["b"], 1.0 / square, rtol=1e-5)


def test_units_may_be_plain_numbers():
    tx = in_units(optax.sgd(0.1), {"a": 0.5, "b": 2})
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["a"], -0.1 * 0.25 * GRADS["a"], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], 0.4, rtol=1e-6)
