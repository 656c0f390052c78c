"""`SearchStrategy`: what every search over theta returns."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax


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
    """

    init: SearchInitFn
    ask: AskFn
    tell: TellFn
    best: BestFn
    num_candidates: int
    on_host: OnHostFn | None = None
