"""Sinusoids: regression on a wave of unknown amplitude and phase, from a few of its points.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
https://arxiv.org/abs/1703.03400, section 5.1.
"""

import math

import jax
import jax.numpy as jnp

from meta_train.few_shot.base import Batch
from meta_train.few_shot.base import Episode
from meta_train.few_shot.base import Episodes

_AMPLITUDES, _PHASES, _INPUTS = (0.1, 5.0), (0.0, math.pi), (-5.0, 5.0)


def sinusoids(shots: int = 10, queries: int = 10) -> Episodes:
    r"""Builds the distribution of :math:`y = a \sin(x - p)` with a in [0.1, 5], p in [0, π] and x in [-5, 5], uniform.

    Args:
      shots: points of the support set.
      queries: points of the query set, drawn anew; 10 to train with, as MAML has it, and more to judge with.

    Returns:
      An `Episodes` whose loss is the mean squared error. Its data are empty: every episode is a new one.

    Raises:
      ValueError: if shots or queries is below 1.

    Example:
      >>> episodes = sinusoids(shots=5)
      >>> support, query = episodes.sample(jax.random.key(0), episodes.train)
      >>> support.inputs.shape, bool(jnp.abs(query.targets).max() <= 5)
      ((5, 1), True)
    """
    if min(shots, queries) < 1:
        raise ValueError(f"shots and queries must be at least 1, got {shots} and {queries}.")

    def sample(key, data):
        del data
        amplitude_key, phase_key, inputs_key = jax.random.split(key, 3)
        amplitude = jax.random.uniform(amplitude_key, (), jnp.float32, *_AMPLITUDES)
        phase = jax.random.uniform(phase_key, (), jnp.float32, *_PHASES)
        inputs = jax.random.uniform(inputs_key, (shots + queries, 1), jnp.float32, *_INPUTS)
        targets = amplitude * jnp.sin(inputs - phase)
        return Episode(Batch(inputs[:shots], targets[:shots]), Batch(inputs[shots:], targets[shots:]))

    return Episodes(
        name=f"sinusoids-{shots}-shot",
        train=(),
        test=(),
        sample=sample,
        loss=lambda outputs, targets: jnp.mean(jnp.square(outputs - targets)),
        num_outputs=1,
        input_shape=(1,),
        classifies=False,
    )
