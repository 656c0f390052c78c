"""`Problem`: an unrolled computation that meta-parameters theta steer, and that estimators differentiate."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple


class Problem(NamedTuple):
    """A computation that is repeated step by step, with a loss at every step.

    Fields:
      init: `(key, theta, num_steps) -> state`. Starts an episode of `num_steps` (int32 scalar, possibly traced) steps.
      step: `(key, theta, state, data) -> (state, loss)`. One step; loss is a float scalar. All randomness comes from
        key, so that two values of theta can be compared on the same draw.
      data: pytree of arrays that `step` reads. They are arguments of the compiled program, never constants in it.
      name: what to call the problem in metrics.

    Example: theta is the rate of a decay, the loss the remaining value.
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: 1.0,
      ...     step=lambda key, theta, state, data: (state * (1 - theta), state * (1 - theta)),
      ...     name="decay",
      ... )
    """

    init: Callable[[Any, Any, Any], Any]
    step: Callable[[Any, Any, Any, Any], tuple[Any, Any]]
    data: Any = ()
    name: str = "problem"
