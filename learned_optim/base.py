"""`LearnedOptimizer`, the type that every architecture returns, and `define`, which makes one of an update rule."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import optax

from learned_optim import checks
from learned_optim.rule import Rule as Rule
from learned_optim.rule import momentum as momentum
from learned_optim.rule import number as number
from learned_optim.rule import per_tensor as per_tensor
from learned_optim.rule import zeros as zeros
from learned_optim.transformation import OptimizerState as OptimizerState
from learned_optim.transformation import transformation

Theta = Any  # pytree of float32 arrays: the meta-parameters


class LearnedOptimizer(NamedTuple):
    """An optimizer whose update rule is a function of meta-parameters theta.

    Fields:
      init: `(key) -> theta`. Draws initial meta-parameters, a pytree of float32 arrays.
      transform: `(theta, *, num_steps=None) -> optax.GradientTransformationExtraArgs`. The returned transformation
        gives *final* updates: sign and step size are included, so nothing follows it in `optax.chain`. It needs
        `params` in `update`; it accepts the loss as `value=` and ignores extra arguments that it does not know.
        `num_steps` is the number of updates that the user plans to make, for architectures that use it: a Python int,
        None if it is not known, or in meta-training a traced integer, of which a value below 1 counts as None.
        Further options, the same for every architecture:
          step_scale: a factor on the updates, a float or an optax schedule `(count) -> factor`.
          weight_decay: decoupled decay; `weight_decay * step_scale * param` is taken off at every step.
          mask: which parameters decay, a tree of bools or a function of params, as in `optax.adamw`.
          moment_dtype: dtype in which averages of gradients are stored: jnp.float32, which None means too, or
            jnp.bfloat16. Second moments and the state of recurrent networks stay float32, for they would not move in
            bfloat16. Momenta of decay above .99 lose precision there.
        Nothing is computed before `init` and `update` are called: building a transformation starts no JAX backend.
      spec: JSON-serialisable dict with `kind`, `feature_version` and the constructor's arguments;
        `learned_optim.optimizers.build(spec)` makes the same optimizer again.

    Example:
      >>> import jax, optax, learned_optim
      >>> optimizer = learned_optim.mlp(hidden_sizes=(4,))
      >>> theta = optimizer.init(jax.random.key(0))
      >>> tx = optax.chain(optax.clip_by_global_norm(1.0), optimizer.transform(theta))
    """

    init: Callable[[jax.Array], Theta]
    transform: Callable[..., optax.GradientTransformationExtraArgs]
    spec: dict[str, Any]


def define(
    spec: dict[str, Any], init: Callable[[jax.Array], Theta], rule: Callable[[Theta, jax.Array], Rule]
) -> LearnedOptimizer:
    """Makes a `LearnedOptimizer` of an architecture's initial theta and its rule, with the options that all share.

    Args:
      spec: `kind`, `feature_version` and the constructor's arguments.
      init: `(key) -> theta`.
      rule: `(theta, horizon) -> Rule`. `horizon` is num_steps as a float32 scalar, 0 if it is not known.
    """

    def transform(
        theta: Theta,
        *,
        num_steps: int | jax.Array | None = None,
        step_scale: float | Callable[[jax.Array], jax.Array] | None = None,
        weight_decay: float | None = None,
        mask: Any | Callable[[Any], Any] | None = None,
        moment_dtype: Any = None,
    ) -> optax.GradientTransformationExtraArgs:
        checks.theta(theta, init, spec["kind"])
        tx = transformation(rule, theta, checks.num_steps(num_steps), checks.moment_dtype(moment_dtype))
        if mask is not None and weight_decay is None:
            raise ValueError("mask says which parameters decay, so it needs weight_decay: pass both or neither.")
        if weight_decay is None and step_scale is None:
            return tx
        parts = [tx]
        if weight_decay is not None:
            parts.append(optax.add_decayed_weights(-weight_decay, mask))
        if step_scale is not None:
            parts.append(optax.scale_by_learning_rate(step_scale, flip_sign=False))
        return optax.chain(*parts)

    return LearnedOptimizer(init, transform, spec)
