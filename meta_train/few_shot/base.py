"""The types of few-shot learning: an episode's support and query set, a distribution of episodes, and a network."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax


class Batch(NamedTuple):
    """Examples."""

    inputs: jax.Array  # float32[n, ...]: pictures [n, height, width, channels], or [n, columns]
    targets: jax.Array  # labels int32[n], 0 … ways - 1, or float32[n, outputs] to predict


class Episode(NamedTuple):
    """A small learning problem: learn from `support`, be judged on `query`."""

    support: Batch
    query: Batch


class SampleEpisodeFn(Protocol):
    """Draws an episode."""

    def __call__(self, key: jax.Array, data: Any, /) -> Episode:
        """Draws it.

        Args:
          key: random key; all randomness comes from it.
          data: `Episodes.train`, or `Episodes.test` for an episode of classes that training never sees.

        Returns:
          The episode. Its shapes do not depend on the key.
        """
        ...


class EpisodeLossFn(Protocol):
    """Compares a network's outputs with targets."""

    def __call__(self, outputs: jax.Array, targets: jax.Array, /) -> jax.Array:
        """Computes the loss.

        Args:
          outputs: float[n, outputs].
          targets: as in `Batch`.

        Returns:
          float[], the mean loss of the examples.
        """
        ...


class Episodes(NamedTuple):
    """A distribution of episodes.

    Fields:
      name: what to call it in metrics.
      train: pytree of arrays from which `sample` draws episodes to meta-train on.
      test: likewise, for held-out episodes: other classes, or () where episodes come from a formula.
      sample: `(key, data) -> Episode`. Pure, and meant to be called inside compiled programs.
      loss: `(outputs, targets) -> float[]`: cross-entropy, or half or whole mean squared error, as the maker says.
      num_outputs: outputs that a network needs: the number of ways, or of columns to predict.
      input_shape: shape of an example's inputs, without the batch axis.
      classifies: whether targets are labels, so that accuracies can be told.
    """

    name: str
    train: Any
    test: Any
    sample: SampleEpisodeFn
    loss: EpisodeLossFn
    num_outputs: int
    input_shape: tuple[int, ...]
    classifies: bool


class Network(NamedTuple):
    """A network as two pure functions.

    Fields:
      init: `(key, inputs) -> params`; inputs float32[n, ...] are an example batch.
      apply: `(params, inputs) -> outputs` float32[n, num_outputs].
      head: name of the top-level entry of params that holds the last layer, for methods that adapt it alone.
    """

    init: Any
    apply: Any
    head: str
