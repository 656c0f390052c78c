"""A population of networks in training: what `pbt` needs to train each member by hyperparameters of its own.

Jaderberg et al. 2017, "Population Based Training of Neural Networks", https://arxiv.org/abs/1711.09846

Theta is then a network's parameters and its hyperparameters. The members train side by side, as lanes of one program;
`fit` drives them, with its metrics and checkpoints.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import optax

from meta_train.outer.search.pbt import Member
from meta_train.outer.search.pbt import scale
from meta_train.unroll.problem import Problem


class Trainee(NamedTuple):
    """A network in training: the theta of a member.

    Fields:
      params: the network's parameters.
      hyperparameters: floating-point arrays, such as `{"rate": float32[], "decay": float32[]}`.
    """

    params: Any
    hyperparameters: Any


class NetworkLossFn(Protocol):
    """A network's loss."""

    def __call__(self, params: Any, key: jax.Array, data: Any, /) -> jax.Array:
        """Computes the loss.

        Args:
          params: the network's parameters.
          key: random key that draws the minibatch, if there is one.
          data: the problem's data.

        Returns:
          float[], the loss.
        """
        ...


def network_training(loss: NetworkLossFn, validate: NetworkLossFn, data: Any, *, name: str = "training") -> Problem:
    """Builds the problem whose theta, a `Trainee`, is itself trained by one loss and judged by another.

    Estimate its gradient with windows and episodes of one step:
    `estimators.truncated_backprop(problem, num_particles=1, unroll_length=1, horizon=truncation.constant(1))`.

    Args:
      loss: `(params, key, data) -> scalar`, the training loss. Its gradient is that of theta.params; theta's
        hyperparameters have the gradient zero.
      validate: `(params, key, data) -> scalar`, the loss by which members are compared and that `fit` reports. Have it
        look at examples that loss does not see, and report on others again: the search chooses by it.
      data: pytree of arrays.
      name: of the problem, in metrics.
    """

    def step(key, theta, state, data):
        train_key, validation_key = jax.random.split(key)
        training = loss(theta.params, train_key, data)
        shown = validate(jax.lax.stop_gradient(theta.params), validation_key, data)
        return state, shown + (training - jax.lax.stop_gradient(training))  # zero, with the gradient of training

    return Problem(lambda key, theta, num_steps: (), step, data, name)


def by_own_hyperparameters(
    make: Callable[..., optax.GradientTransformation],
) -> optax.GradientTransformationExtraArgs:
    """Builds the outer optimizer that updates a `Trainee`'s parameters by its own hyperparameters.

    Args:
      make: `(**hyperparameters) -> transformation` with final updates, such as
        `lambda rate, decay: optax.adamw(rate, weight_decay=decay)`. It is called anew at each step, so hyperparameters
        must not change the structure of the transformation's state.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = by_own_hyperparameters(lambda rate: optax.sgd(rate))
      >>> theta = Trainee(jnp.ones(()), {"rate": jnp.float32(0.25)})
      >>> updates, _ = tx.update(Trainee(jnp.float32(2.0), {"rate": jnp.float32(0.0)}), tx.init(theta), theta)
      >>> float(updates.params), float(updates.hyperparameters["rate"])
      (-0.5, 0.0)
    """

    def init(params):
        return make(**params.hyperparameters).init(params.params)

    def update(updates, state, params=None, **extra):
        del extra  # the population's, not the network's
        if params is None:
            raise ValueError("by_own_hyperparameters needs theta: call update(gradient, state, theta).")
        made, state = make(**params.hyperparameters).update(updates.params, state, params.params)
        return Trainee(made, optax.tree.zeros_like(params.hyperparameters)), state

    return optax.GradientTransformationExtraArgs(init, update)


def scale_hyperparameters(key: jax.Array, copied: Member, own: Member) -> Member:
    """The exploration of the paper: copied parameters and optimizer's state, hyperparameters times 0.8 or 1.2."""
    del own
    theta = copied.theta._replace(hyperparameters=scale(key, copied.theta.hyperparameters))
    return copied._replace(theta=theta)
