"""The diagonal of the Fisher information of a classifier, by labels that the classifier itself draws."""

from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp
import optax


class ApplyFn(Protocol):
    """A classifier."""

    def __call__(self, params: Any, x: jax.Array, /) -> jax.Array:
        """Computes logits.

        Args:
          params: its parameters.
          x: float[batch, …], the inputs.

        Returns:
          float[batch, classes].
        """
        ...


def diagonal_fisher(apply: ApplyFn, params: Any, x: jax.Array, key: jax.Array, *, chunk: int = 32) -> Any:
    r"""Estimates :math:`E_x E_{y \sim p(y|x)} [(\partial \log p(y|x) / \partial w_i)^2]` by one label for each input.

    Labels are sampled from the model, so that at its minimum this is the curvature of the loss. With the labels of the
    data it would be the "empirical Fisher", which is not.

    Args:
      apply: `(params, x) -> logits`.
      params: parameters of the classifier.
      x: float[examples, …], inputs.
      key: random key, for the labels.
      chunk: so many gradients are in memory at a time.

    Returns:
      Like params: the mean over the inputs.

    Raises:
      ValueError: if there is no input, or chunk is below 1.

    Example: the logits are 0 and w, so p (1 - p) with p = 1 / 2 is expected, whatever the label.
      >>> import jax, jax.numpy as jnp
      >>> apply = lambda w, x: jnp.stack([0 * x, w * x], axis=-1)
      >>> float(diagonal_fisher(apply, jnp.zeros(()), jnp.ones(10), jax.random.key(0)))
      0.25

    References:
      Kirkpatrick et al. 2016, https://arxiv.org/abs/1612.00796
    """
    count = len(x)
    if count < 1 or chunk < 1:
        raise ValueError(f"the Fisher needs an input and a chunk of at least 1, got {count} inputs, chunk={chunk}.")
    chunk = min(chunk, count)

    def square(key, x):
        label = jax.random.categorical(key, apply(params, x[None])[0])
        score = jax.grad(lambda params: jax.nn.log_softmax(apply(params, x[None])[0])[label])(params)
        return jax.tree.map(jnp.square, score)

    def add(total, rows):
        squares = jax.vmap(lambda row: square(jax.random.fold_in(key, row), x[row % count]))(rows)
        real = (rows < count).astype(jnp.float32)  # the last chunk may be filled up
        weigh = lambda total, s: total + jnp.tensordot(real.astype(s.dtype), s, axes=1)
        return jax.tree.map(weigh, total, squares), None

    rows = jnp.arange(-(-count // chunk) * chunk, dtype=jnp.int32).reshape(-1, chunk)
    total, _ = jax.lax.scan(add, optax.tree.zeros_like(params), rows)
    return jax.tree.map(lambda s: s / count, total)
