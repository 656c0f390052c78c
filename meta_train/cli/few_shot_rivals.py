"""What few-shot methods are compared with, beside the nearest neighbour: training from scratch, and pretraining."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train.few_shot import Batch
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot import AdaptFn

SCRATCH_RATE = 1e-2  # of Adam
PRETRAINING_RATE = 1e-3  # of Adam
RATES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0)  # among which gradient descent from pretrained parameters is tuned


def from_scratch(episodes: Episodes, network: Network) -> AdaptFn:
    """Builds training from random parameters on the support set alone, by Adam at the rate `SCRATCH_RATE`."""

    def adapt(theta: Any, key: jax.Array, support: Batch, query_inputs: jax.Array, num_steps: int, /) -> jax.Array:
        del theta
        params = network.init(key, support.inputs)
        params = _descend(episodes, network, optax.adam(SCRATCH_RATE), params, support, num_steps)
        return network.apply(params, query_inputs)

    return adapt


def fine_tuning(episodes: Episodes, network: Network) -> AdaptFn:
    """Builds gradient descent on the support set from `theta = (params, rate)`."""

    def adapt(theta: Any, key: jax.Array, support: Batch, query_inputs: jax.Array, num_steps: int, /) -> jax.Array:
        del key
        params, rate = theta
        params = _descend(episodes, network, optax.sgd(rate), params, support, num_steps)
        return network.apply(params, query_inputs)

    return adapt


def pretrained(
    episodes: Episodes,
    network: Network,
    key: jax.Array,
    *,
    num_steps: int,
    num_episodes: int,
    adaptation: Sequence[int],
) -> dict[int, Any]:
    """Trains one network on all episodes at once, and tunes the rate at which it adapts, on training episodes.

    Args:
      episodes: what to learn from; from their `train` alone.
      network: what learns.
      key: random key.
      num_steps: steps of Adam.
      num_episodes: episodes in a step's batch, support and query set together.
      adaptation: the numbers of inner steps to tune a rate for, among `RATES`.

    Returns:
      `{inner steps: (params, rate)}`, each a theta for `fine_tuning`.
    """
    init_key, train_key, tune_key = jax.random.split(key, 3)
    tx = optax.adam(PRETRAINING_RATE)
    example = jax.eval_shape(episodes.sample, key, episodes.train).support.inputs
    params = network.init(init_key, jnp.zeros(example.shape, example.dtype))

    def loss(params, key, data):
        def of_episode(key):
            support, query = episodes.sample(key, data)
            inputs = jnp.concatenate([support.inputs, query.inputs])
            return episodes.loss(network.apply(params, inputs), jnp.concatenate([support.targets, query.targets]))

        return jnp.mean(jax.vmap(of_episode)(jax.random.split(key, num_episodes)))

    @jax.jit
    def train(params, data):
        def step(carried, number):
            params, state = carried
            gradient = jax.grad(loss)(params, jax.random.fold_in(train_key, number), data)
            updates, state = tx.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(num_steps, dtype=jnp.int32))[0][0]

    params = train(params, episodes.train)
    return {steps: (params, _tuned_rate(episodes, network, params, tune_key, steps)) for steps in adaptation}


def _tuned_rate(episodes, network, params, key, num_steps, num_episodes=500):
    """The rate with the lowest mean query loss on training episodes."""
    adapt = fine_tuning(episodes, network)

    def loss(rate, key, data):
        support, query = episodes.sample(key, data)
        return episodes.loss(adapt((params, rate), key, support, query.inputs, num_steps), query.targets)

    @jax.jit
    def losses(rates, keys, data):
        of_rate = lambda rate: jnp.mean(jax.vmap(lambda key: loss(rate, key, data))(keys))
        return jax.vmap(of_rate)(rates)

    rates = jnp.asarray(RATES, jnp.float32)
    found = losses(rates, jax.random.split(key, num_episodes), episodes.train)
    return rates[jnp.argmin(jnp.where(jnp.isfinite(found), found, jnp.inf))]


def _descend(episodes, network, tx, params, support, num_steps):
    """Parameters after so many steps on the support set."""
    gradient = jax.grad(lambda params: episodes.loss(network.apply(params, support.inputs), support.targets))

    def step(carried, _):
        params, state = carried
        updates, state = tx.update(gradient(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=num_steps)[0][0]
