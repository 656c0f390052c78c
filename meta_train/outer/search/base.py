"""`SearchStrategy`: what every search over theta returns."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


class SearchInitFn(Protocol):
    """Begins a search."""

    def __call__(self, key: jax.Array, theta: Any, /) -> Any:
        """Makes the first state.

        Args:
          key: random key.
          theta: where the search begins.

        Returns:
          The state, a pytree of arrays.
        """
        ...


class AskFn(Protocol):
    """Asks for a generation of candidates."""

    def __call__(self, key: jax.Array, state: Any, /) -> Any:
        """Gives the candidates.

        Args:
          key: random key of the outer step.
          state: the search's state.

        Returns:
          The candidates: like theta, with the leading axis `num_candidates`.
        """
        ...


class TellFn(Protocol):
    """Tells a search how its candidates did."""

    def __call__(self, key: jax.Array, state: Any, candidates: Any, losses: jax.Array, gradients: Any, /) -> Any:
        """Updates the search.

        Args:
          key: random key of the outer step.
          state: the search's state.
          candidates: what `ask` gave for that state.
          losses: float[num_candidates], not finite for a candidate that diverged.
          gradients: like candidates, the estimators' gradients; zero where all estimators give losses only.

        Returns:
          The next state.
        """
        ...


class BestFn(Protocol):
    """Reads a search's answer."""

    def __call__(self, state: Any, /) -> Any:
        """Gives the answer so far.

        Args:
          state: the search's state.

        Returns:
          A theta.
        """
        ...


class OnHostFn(Protocol):
    """The part of a search that cannot be compiled."""

    def __call__(self, state: Any, /) -> Any:
        """Updates the search on the host.

        Args:
          state: the search's state, as NumPy arrays.

        Returns:
          The next state, as NumPy arrays of the same structure, shapes and dtypes.
        """
        ...


class CombineFn(Protocol):
    """Makes one loss of a candidate's losses on all tasks."""

    def __call__(self, losses: jax.Array, /) -> jax.Array:
        """Combines them.

        Args:
          losses: float[tasks, candidates], not finite where a candidate diverged.

        Returns:
          float[candidates].
        """
        ...


def mean_losses(losses: Float[Array, "tasks candidates"]) -> Float[Array, " candidates"]:
    """The mean over the tasks; a candidate that diverged on one has a loss that is not finite."""
    return jnp.mean(losses, axis=0)


def mean_ranks(losses: Float[Array, "tasks candidates"]) -> Float[Array, " candidates"]:
    """The mean over the tasks of each candidate's rank on the task, from 0 for the lowest loss to 1 for the highest.

    All tasks have equal say, whatever the units and the spread of their losses. Losses that are not finite share the
    last ranks of their task, and equal losses share a rank.

    Example:
      >>> import jax.numpy as jnp
      >>> mean_ranks(jnp.array([[1.0, 2.0, 3.0], [100.0, jnp.inf, 300.0]]))
      Array([0.  , 0.75, 0.75], dtype=float32)
    """
    losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    below = jnp.sum(losses[:, None, :] < losses[:, :, None], axis=2)
    equal = jnp.sum(losses[:, None, :] == losses[:, :, None], axis=2) - 1  # without the candidate itself
    ranks = below.astype(losses.dtype) + 0.5 * equal.astype(losses.dtype)
    return jnp.mean(ranks / max(1, losses.shape[1] - 1), axis=0)


class SearchStrategy(NamedTuple):
    """A search for a theta of low loss: it asks for candidates and is told their losses.

    `fit` takes one in place of an outer optimizer. Each outer step is one generation.

    Fields:
      init: `(key, theta) -> state`. Begins at theta.
      ask: `(key, state) -> candidates`, like theta with leading axis num_candidates.
      tell: `(key, state, candidates, losses, gradients) -> state`. The losses float[num_candidates] are not finite for
        a candidate that diverged. The gradients, like candidates, are those of the estimators, and zero where all
        of these give losses only; strategies may ignore them.
      best: `(state) -> theta`. The search's answer so far.
      num_candidates: how many candidates a generation has.
      on_host: `(state) -> state` on NumPy arrays, for a strategy that cannot be compiled as a whole. It is called
        after init and after each tell. All other functions are compiled.
      combine: `(losses) -> losses`, from float[tasks, candidates] to float[candidates]: what `tell` gets of several
        tasks. `mean_losses`, or `mean_ranks` for tasks whose losses do not compare:
        `search.cma_es(...)._replace(combine=search.mean_ranks)`.
    """

    init: SearchInitFn
    ask: AskFn
    tell: TellFn
    best: BestFn
    num_candidates: int
    on_host: OnHostFn | None = None
    combine: CombineFn = mean_losses
