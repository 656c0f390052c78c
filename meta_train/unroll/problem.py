"""`Problem`, an unrolled computation that meta-parameters theta steer, and `Bilevel`, an inner and an outer loss."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple


class Bilevel(NamedTuple):
    """Minimise an outer loss over theta, where the inner parameters minimise an inner loss that theta enters.

    Fields:
      inner_loss: `(params, theta, key, data) -> scalar`. Theta must influence its gradient with respect to params.
      outer_loss: `(params, theta, key, data) -> scalar`. It need not depend on theta.
      init: `(key, theta) -> params`. The inner parameters at the beginning.
      data: pytree of arrays that the losses read; they draw their minibatches with key.
      name: what to call the problem in metrics.

    Example: theta is the weight of a penalty.
      >>> problem = Bilevel(
      ...     inner_loss=lambda w, theta, key, data: (w - 1) ** 2 + theta * w**2,
      ...     outer_loss=lambda w, theta, key, data: (w - 0.5) ** 2,
      ...     init=lambda key, theta: 0.0,
      ... )
    """

    inner_loss: Callable[[Any, Any, Any, Any], Any]
    outer_loss: Callable[[Any, Any, Any, Any], Any]
    init: Callable[[Any, Any], Any]
    data: Any = ()
    name: str = "bilevel"


class Momentum(NamedTuple):
    """SGD with momentum: `v = decay * v - (1 - decay) * gradient` and `params = params + learning_rate * v` from v = 0.

    Fields:
      bilevel: the inner loss whose gradient it follows, and the outer loss after each step.
      rates: `(theta, step) -> (learning_rate, decay)`, scalars.
    """

    bilevel: Bilevel
    rates: Callable[[Any, Any], tuple[Any, Any]]


class Flow(NamedTuple):
    """An ordinary differential equation that the inner parameters follow from time 0 on, and a loss at its end.

    Fields:
      init: `(key, theta) -> params`.
      field: `(time, params, theta, key, data) -> derivative` of the params with respect to time.
      loss: `(params, theta, key, data) -> scalar`.
      duration: the time at which it ends.
    """

    init: Callable[[Any, Any], Any]
    field: Callable[[Any, Any, Any, Any, Any], Any]
    loss: Callable[[Any, Any, Any, Any], Any]
    duration: float


class Problem(NamedTuple):
    """A computation that is repeated step by step, with a loss at every step.

    Fields:
      init: `(key, theta, num_steps) -> state`. Starts an episode of `num_steps` (int32 scalar, possibly traced) steps.
      step: `(key, theta, state, data) -> (state, loss)`. One step; loss is a float scalar. All randomness comes from
        key, so that two values of theta can be compared on the same draw.
      data: pytree of arrays that `step` reads. They are arguments of the compiled program, never constants in it.
      name: what to call the problem in metrics.

    Structure that some estimators need, None where a problem has none:
      bilevel: the losses behind the steps, if theta acts through them and not through the steps alone.
      momentum: the SGD with momentum that the steps are.
      flow: the differential equation that the steps discretise.

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
    bilevel: Bilevel | None = None
    momentum: Momentum | None = None
    flow: Flow | None = None
