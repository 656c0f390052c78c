"""Learned optimizers in the training loops of Haiku, Flax NNX and Equinox, each written as that library's users do."""

import equinox as eqx
from flax import nnx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_optim import learned_optimizer
from learned_optim import optimizers

NUM_STEPS = 100

_random = np.random.RandomState(0)
X = jnp.asarray(_random.standard_normal((64, 8)), jnp.float32)
Y = jnp.asarray(np.sin(_random.standard_normal((8, 2)).T @ np.asarray(X).T).T, jnp.float32)


def _released():
    return learned_optimizer()


def _untrained():
    """An architecture that uses the horizon and starts as something like Adam."""
    optimizer = optimizers.KINDS["adam_residual"]()
    return optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=NUM_STEPS)


@pytest.fixture(params=[_released, _untrained])
def tx(request):
    return optax.chain(optax.clip_by_global_norm(1.0), request.param())


def _mean_square(predictions):
    return jnp.mean(jnp.square(predictions - Y))


@pytest.mark.optax_promotion
def test_haiku(tx):
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([16, 2])(x)))
    params = network.init(jax.random.key(0), X)
    state = tx.init(params)

    @jax.jit
    def train_step(params, state):
        loss, grads = jax.value_and_grad(lambda params: _mean_square(network.apply(params, X)))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    for _ in range(NUM_STEPS):
        params, state, loss = train_step(params, state)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.optax_promotion
def test_flax_nnx(tx):
    """A module with batch statistics, which are no parameters and must not reach the optimizer."""

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(8, 16, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.output = nnx.Linear(16, 2, rngs=rngs)

        def __call__(self, x):
            return self.output(nnx.relu(self.norm(self.hidden(x))))

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: _mean_square(model(X)))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(train_step(model, optimizer)) for _ in range(NUM_STEPS)]
    assert losses[-1] < 0.8 * losses[0]
    assert int(optimizer.step[...]) == NUM_STEPS


@pytest.mark.optax_promotion
def test_equinox(tx):
    """A module whose leaves include functions: the filtered tree has None in their place."""
    model = eqx.nn.MLP(8, 2, 16, 1, key=jax.random.key(0))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def train_step(model, state):
        loss, grads = eqx.filter_value_and_grad(lambda model: _mean_square(jax.vmap(model)(X)))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for _ in range(NUM_STEPS):
        model, state, loss = train_step(model, state)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
