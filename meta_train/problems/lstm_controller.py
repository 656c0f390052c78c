"""A controller that makes one choice after another by an LSTM.

Zoph, Le 2017, "Neural Architecture Search with Reinforcement Learning", https://arxiv.org/abs/1611.01578

Deviations: one layer; each place has an output layer of its own, and the choice before enters by a learned vector.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from meta_train.problems.controller import Controller
from meta_train.problems.controller import allowed_options
from meta_train.problems.controller import log_probabilities


def lstm_controller(num_options: Sequence[int], *, hidden_size: int = 16) -> Controller:
    """Builds the controller whose choice at a place depends on all choices before, by an LSTM.

    Args:
      num_options: options of each place.
      hidden_size: units of the LSTM.

    Raises:
      ValueError: if there is no place, a place without an option, or no unit.

    Example: the probabilities of all sequences sum to one.
      >>> from meta_train.problems import every_choice
      >>> controller = lstm_controller([2, 3])
      >>> theta = controller.init(jax.random.key(0))
      >>> choices = jnp.asarray(every_choice(controller))
      >>> p = jax.vmap(lambda choices: jnp.exp(controller.log_probability(theta, choices)))(choices)
      >>> round(float(jnp.sum(p)), 4)
      1.0

    References:
      Zoph and Le 2017, https://arxiv.org/abs/1611.01578
    """
    allowed = allowed_options(num_options)
    if hidden_size < 1:
        raise ValueError(f"hidden_size must be at least 1, got {hidden_size}.")
    places, most = allowed.shape

    def init(key):
        shapes = {
            "embedding": (1 + most, hidden_size),  # of the choice before; row 0 for the first place
            "gates": (2 * hidden_size, 4 * hidden_size),
            "bias": (4 * hidden_size,),
            "outputs": (places, hidden_size, most),
        }
        keys = jax.random.split(key, len(shapes))
        uniform = lambda key, shape: jax.random.uniform(key, shape, minval=-0.1, maxval=0.1)
        return {name: uniform(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}

    def run(theta, choose):
        """Goes from place to place; `choose(place, log-probabilities) -> choice`."""
        theta = jax.tree.map(jnp.asarray, theta)

        def step(carry, place):
            hidden, memory, before = carry
            both = jnp.concatenate([theta["embedding"][before], hidden])
            i, f, o, g = jnp.split(both @ theta["gates"] + theta["bias"], 4)
            memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
            found = log_probabilities(hidden @ theta["outputs"][place], jnp.asarray(allowed)[place])
            choice = choose(place, found)
            return (hidden, memory, 1 + choice), (choice, found[choice])

        zeros = jnp.zeros(hidden_size, theta["bias"].dtype)
        start = (zeros, zeros, jnp.zeros((), jnp.int32))
        return jax.lax.scan(step, start, jnp.arange(places, dtype=jnp.int32))[1]

    def sample(key, theta):
        keys = jax.random.split(key, places)
        draw = lambda place, found: jax.random.categorical(keys[place], found).astype(jnp.int32)
        return run(theta, draw)[0]

    def log_probability(theta, choices):
        return jnp.sum(run(theta, lambda place, _: choices[place].astype(jnp.int32))[1])

    return Controller(init, sample, log_probability, tuple(num_options))
