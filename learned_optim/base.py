"""`LearnedOptimizer`, the type that every architecture returns, and `define`, which makes one from an update rule.

The parts of a rule are exported here as well, so that an architecture imports all that it needs from this module.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.typing
import optax

from learned_optim import checks
from learned_optim.rule import InitShared as InitShared
from learned_optim.rule import MakeRule as MakeRule
from learned_optim.rule import Rule as Rule
from learned_optim.rule import SlotMaker as SlotMaker
from learned_optim.rule import TensorSlot as TensorSlot
from learned_optim.rule import Theta as Theta
from learned_optim.rule import UpdateTensor as UpdateTensor
from learned_optim.rule import UpdateTensors as UpdateTensors
from learned_optim.rule import momentum as momentum
from learned_optim.rule import number as number
from learned_optim.rule import per_tensor as per_tensor
from learned_optim.rule import zeros as zeros
from learned_optim.transformation import OptimizerState as OptimizerState
from learned_optim.transformation import transformation


class InitTheta(Protocol):
    """Draws initial meta-parameters."""

    def __call__(self, key: jax.Array) -> Theta:
        """Returns a pytree of float32 arrays. Its structure and shapes do not depend on the key."""
        ...


class Transform(Protocol):
    """Makes an optax transformation from meta-parameters."""

    def __call__(
        self,
        theta: Theta,
        *,
        num_steps: int | jax.Array | None = None,
        step_scale: optax.ScalarOrSchedule | None = None,
        weight_decay: float | jax.Array | None = None,
        mask: Any | Callable[[Any], Any] | None = None,
        moment_dtype: jax.typing.DTypeLike | None = None,
        mu_dtype: jax.typing.DTypeLike | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """Returns a transformation of gradients to *final* updates: they include sign and step size.

        Its `update` needs `params`. It accepts the loss as `value=` and ignores extra arguments that it does not know.
        Nothing is computed before `init` and `update` are called: building a transformation starts no JAX backend.

        Args:
          theta: meta-parameters, as `LearnedOptimizer.init` returns them.
          num_steps: the planned number of updates, for architectures that use it: a Python int, None if it is not
            known, or, in meta-training, a traced integer. A traced value below 1 means None.
          step_scale: a factor on the updates, a number or an optax schedule `(count) -> factor`.
          weight_decay: decoupled weight decay: every update subtracts `weight_decay * step_scale * param`.
          mask: which parameters decay, a tree of bools or a function of params, as in `optax.adamw`.
          moment_dtype: dtype of stored averages of gradients: jnp.float32 (also meant by None) or jnp.bfloat16. Second
            moments and recurrent state stay float32, because their small increments would be lost in bfloat16. In
            momenta with a decay above .99, bfloat16 loses precision.
          mu_dtype: deprecated alias of `moment_dtype`.
        """
        ...


class LearnedOptimizer(NamedTuple):
    """An optimizer whose update rule is a function of meta-parameters theta.

    Fields:
      init: `(key) -> theta`. Draws initial meta-parameters, a pytree of float32 arrays.
      transform: `(theta, *, num_steps=None, …) -> optax.GradientTransformationExtraArgs`. The returned transformation
        gives *final* updates: they include sign and step size, so nothing needs to follow it in `optax.chain`. Its
        `update` needs `params`. All options, the same for every architecture, are documented at `Transform`.
      spec: JSON-serializable dict with `kind`, `feature_version` and the constructor's arguments;
        `learned_optim.optimizers.build(spec)` makes the same optimizer again.

    Example:
      >>> import jax, optax, learned_optim
      >>> optimizer = learned_optim.mlp(hidden_sizes=(4,))
      >>> theta = optimizer.init(jax.random.key(0))
      >>> tx = optax.chain(optax.clip_by_global_norm(1.0), optimizer.transform(theta))
    """

    init: InitTheta
    transform: Transform
    spec: dict[str, Any]


def define(spec: dict[str, Any], init: InitTheta, rule: MakeRule) -> LearnedOptimizer:
    """Makes a `LearnedOptimizer` from an architecture's initial theta and its rule.

    This adds the options of `transform` that all architectures share.

    Args:
      spec: `kind`, `feature_version` and the constructor's arguments.
      init: `(key) -> theta`.
      rule: `(theta, horizon) -> Rule`. `horizon` is num_steps as a float32 scalar, 0 if it is not known.

    Raises:
      ValueError: if spec lacks `kind` or `feature_version`.
    """
    if not isinstance(spec.get("kind"), str) or "feature_version" not in spec:
        raise ValueError(f"a spec needs a string 'kind' and a 'feature_version', got {spec}.")

    def transform(
        theta: Theta,
        *,
        num_steps: int | jax.Array | None = None,
        step_scale: optax.ScalarOrSchedule | None = None,
        weight_decay: float | jax.Array | None = None,
        mask: Any | Callable[[Any], Any] | None = None,
        moment_dtype: jax.typing.DTypeLike | None = None,
        mu_dtype: jax.typing.DTypeLike | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        checks.theta(theta, init, spec["kind"])
        dtype = checks.moment_dtype(moment_dtype, mu_dtype)
        tx = transformation(rule, theta, checks.num_steps(num_steps), dtype)
        if mask is not None and weight_decay is None:
            raise ValueError("mask says which parameters decay, so it needs weight_decay: pass both or neither.")
        if weight_decay is None and step_scale is None:
            return tx
        parts: list[optax.GradientTransformation] = [tx]
        if weight_decay is not None:
            decay = checks.factor("weight_decay", weight_decay, "A schedule as step_scale scales the decay, too.")
            parts.append(optax.add_decayed_weights(-decay, mask))
        if step_scale is not None:
            scale = step_scale if callable(step_scale) else checks.factor("step_scale", step_scale)
            parts.append(optax.scale_by_learning_rate(scale, flip_sign=False))
        return optax.chain(*parts)

    return LearnedOptimizer(init, transform, spec)
