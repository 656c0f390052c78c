"""`Problem`, an unrolled computation that meta-parameters theta steer, and `Bilevel`, an inner and an outer loss."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax


class ParamsInitFn(Protocol):
    """Draws inner parameters."""

    def __call__(self, key: jax.Array, theta: Any, /) -> Any:
        """Draws the parameters.

        Args:
          key: random key.
          theta: meta-parameters.

        Returns:
          The initial inner parameters, a pytree of floating-point arrays.
        """
        ...


class BilevelLossFn(Protocol):
    """An inner or an outer loss."""

    def __call__(self, params: Any, theta: Any, key: jax.Array, data: Any, /) -> jax.Array:
        """Computes the loss.

        Args:
          params: the inner parameters.
          theta: meta-parameters.
          key: random key that draws the minibatch, if there is one.
          data: `Bilevel.data`, or what `Bilevel.sample` drew from it.

        Returns:
          float[], the loss.
        """
        ...


class SampleFn(Protocol):
    """Draws an episode's data, such as a few classes of a data set and their examples."""

    def __call__(self, key: jax.Array, data: Any, /) -> Any:
        """Draws it.

        Args:
          key: random key of the episode. The same key gives the same data: a step may draw it again.
          data: `Bilevel.data`.

        Returns:
          What the losses get in place of data: a pytree of arrays whose shapes do not depend on the key.
        """
        ...


class RatesFn(Protocol):
    """The rates of SGD with momentum at a step."""

    def __call__(self, theta: Any, step: jax.Array, /) -> tuple[Any, ...]:
        """Reads the rates.

        Args:
          theta: meta-parameters.
          step: int32[], inner steps made so far.

        Returns:
          `(learning_rate, decay)`, or `(learning_rate, decay, weight_decay)`, scalars.
        """
        ...


class FlowFieldFn(Protocol):
    """The right-hand side of a differential equation."""

    def __call__(self, time: Any, params: Any, theta: Any, key: jax.Array, data: Any, /) -> Any:
        """Computes the derivative of the inner parameters with respect to time.

        Args:
          time: float[], the time; None where a field that does not depend on it is evaluated on its own.
          params: the inner parameters.
          theta: meta-parameters.
          key: random key that draws the minibatch, if there is one.
          data: `Problem.data`, or what `Flow.sample` drew from it.

        Returns:
          The derivative, with the structure of params.
        """
        ...


class ProblemInitFn(Protocol):
    """Starts an episode."""

    def __call__(self, key: jax.Array, theta: Any, num_steps: jax.Array, /) -> Any:
        """Makes the first state.

        Args:
          key: random key of the episode.
          theta: meta-parameters.
          num_steps: int32[], the episode's length in inner steps; traced in compiled programs.

        Returns:
          The state, a pytree of arrays.
        """
        ...


class ProblemStepFn(Protocol):
    """Makes one inner step."""

    def __call__(self, key: jax.Array, theta: Any, state: Any, data: Any, /) -> tuple[Any, jax.Array]:
        """Makes the step.

        Args:
          key: random key of the step. All randomness comes from it, so that two values of theta can be compared on
            the same draw.
          theta: meta-parameters.
          state: what `init` or the step before returned.
          data: `Problem.data`.

        Returns:
          `(state, loss)`: the next state with the structure and shapes of state, and float[], the step's loss.
        """
        ...


class Bilevel(NamedTuple):
    """Minimize an outer loss over theta, where the inner parameters minimize an inner loss that theta enters.

    Fields:
      inner_loss: `(params, theta, key, data) -> scalar`. Theta must influence its gradient with respect to params.
      outer_loss: `(params, theta, key, data) -> scalar`. It need not depend on theta.
      init: `(key, theta) -> params`. The inner parameters at the beginning.
      data: pytree of arrays that the losses read; they draw their minibatches with key.
      name: what to call the problem in metrics.
      sample: `(key, data) -> data of an episode`, drawn once an episode, for a distribution of inner problems. Both
        losses get it in place of data. None: they get data.

    Example: theta is the weight of a penalty.
      >>> problem = Bilevel(
      ...     inner_loss=lambda w, theta, key, data: (w - 1) ** 2 + theta * w**2,
      ...     outer_loss=lambda w, theta, key, data: (w - 0.5) ** 2,
      ...     init=lambda key, theta: 0.0,
      ... )
    """

    inner_loss: BilevelLossFn
    outer_loss: BilevelLossFn
    init: ParamsInitFn
    data: Any = ()
    name: str = "bilevel"
    sample: SampleFn | None = None


class Momentum(NamedTuple):
    """SGD with momentum: `v = decay * v - push * gradient` and `params = params + learning_rate * v` from v = 0.

    A weight decay adds `weight_decay * params` to the gradient.

    Fields:
      bilevel: the inner loss whose gradient it follows, and the outer loss after each step.
      rates: `(theta, step) -> (learning_rate, decay)`, or with a weight decay as a third number; scalars.
      dampened: whether push is `1 - decay`; else it is 1.
      num_steps: length of the episodes, of which only the last `num_counted` losses count. None: all losses count.
      num_counted: how many losses count; the mean of these is the mean of an episode.
    """

    bilevel: Bilevel
    rates: RatesFn
    dampened: bool = True
    num_steps: int | None = None
    num_counted: int = 1


class Flow(NamedTuple):
    """An ordinary differential equation that the inner parameters follow from time 0 on, and a loss at its end.

    Fields:
      init: `(key, theta) -> params`.
      field: `(time, params, theta, key, data) -> derivative` of the params with respect to time.
      loss: `(params, theta, key, data) -> scalar`.
      duration: the time at which it ends.
      sample: `(key, data) -> data of an episode`, which field and loss get in place of data; None: they get data.
    """

    init: ParamsInitFn
    field: FlowFieldFn
    loss: BilevelLossFn
    duration: float
    sample: SampleFn | None = None


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
      flow: the differential equation that the steps discretize.

    Example: theta is the rate of a decay, the loss the remaining value.
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: 1.0,
      ...     step=lambda key, theta, state, data: (state * (1 - theta), state * (1 - theta)),
      ...     name="decay",
      ... )
    """

    init: ProblemInitFn
    step: ProblemStepFn
    data: Any = ()
    name: str = "problem"
    bilevel: Bilevel | None = None
    momentum: Momentum | None = None
    flow: Flow | None = None
