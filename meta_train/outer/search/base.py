"""`SearchStrategy`: what every search over theta returns."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax


class SearchStrategy(NamedTuple):
    """A search for a theta of low loss by asking for candidates and being told their losses.

    `fit` takes one in place of an outer optimizer: an outer step is one generation.

    Fields:
      init: `(key, theta) -> state`. Begins at theta.
      ask: `(key, state) -> candidates`, like theta with leading axis num_candidates.
      tell: `(key, state, candidates, losses, gradients) -> state`. The losses float[num_candidates] are not finite for
        a candidate that diverged. The gradients, like candidates, are those of the estimators, and zero where all
        of these give losses only; strategies may ignore them.
      best: `(state) -> theta`. The search's answer so far.
      num_candidates: how many candidates a generation has.
      on_host: `(state) -> state` on NumPy arrays, for a strategy that cannot be compiled as a whole: made after init
        and after each tell. All other functions are compiled.
    """

    init: Callable[[jax.Array, Any], Any]
    ask: Callable[[jax.Array, Any], Any]
    tell: Callable[[jax.Array, Any, Any, jax.Array, Any], Any]
    best: Callable[[Any], Any]
    num_candidates: int
    on_host: Callable[[Any], Any] | None = None
