"""EvoGrad: the gradient through the weights by which perturbed copies of the inner parameters are mixed.

Bohdal, Yang, Hospedales 2021, "EvoGrad: Efficient Gradient-Based Meta-Learning and Hyperparameter Optimization",
https://arxiv.org/abs/2106.10575

Deviations: several particles may be averaged, each with its own inner parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import optax

from meta_train.estimators.base import Estimator
from meta_train.estimators.warm_start import warm_start
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem


def evograd(
    problem: Problem | Bilevel,
    *,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int,
    num_particles: int = 1,
    num_copies: int = 2,
    std: float = 0.001,
    temperature: float = 0.05,
    noise: Callable[[jax.Array, tuple[int, ...], Any], jax.Array] = jax.random.normal,
) -> Estimator:
    r"""Builds the EvoGrad estimator.

    .. math:: w_k = w + \sigma \epsilon_k, \quad
              a = \mathrm{softmax}(-L(w_k, \theta) / \tau), \quad
              \hat g = \nabla_\theta L_V\Big(\sum_{k=1}^{K} a_k w_k\Big)

    where theta acts on the outer loss :math:`L_V` through the weights a alone, and directly. No second derivatives of
    the inner loss L are taken. It looks one step ahead only: for small std the mean estimate tends to
    :math:`-\frac{\sigma^2}{\tau} \frac{K-1}{K} \nabla_w L_V^\top \nabla_\theta \nabla_w L`, so that its scale depends
    on std and temperature; an outer optimizer that normalizes, such as Adam, takes that away.

    Args:
      problem: a `Bilevel`, or a problem that declares one. Theta must enter the inner loss.
      inner_optimizer: an optax transformation with final updates, for the inner parameters.
      inner_steps: its updates in each outer step, made before the copies are drawn. The inner parameters start where
        the last outer step left them.
      num_particles: inner parameters trained side by side, whose gradients are averaged.
      num_copies: K, perturbed copies of the inner parameters; memory is linear in it.
      std: standard deviation of the perturbations, in units of the inner parameters.
      temperature: tau, in units of the inner loss.
      noise: `(key, shape, dtype) -> array` of variance one, such as `jax.random.rademacher` for random signs.

    Returns:
      An `Estimator`. `info.loss` is the outer loss of the mixed parameters, `info.inner_steps` counts the updates of
      the inner parameters.

    Raises:
      ValueError: if the problem declares no `Bilevel`, or an argument is out of range; from `init`, if the inner loss
        does not see theta.

    Example: a penalty theta pulls w = 1 to the 0.5 that the outer loss wants, so the gradient is negative.
      >>> import jax, jax.numpy as jnp, optax
      >>> from meta_train import Bilevel
      >>> bilevel = Bilevel(
      ...     inner_loss=lambda w, theta, key, data: (w - 1) ** 2 + theta * w**2,
      ...     outer_loss=lambda w, theta, key, data: (w - 0.5) ** 2,
      ...     init=lambda key, theta: jnp.ones(()),
      ... )
      >>> estimator = evograd(
      ...     bilevel, inner_optimizer=optax.sgd(0.1), inner_steps=0, num_particles=100, std=0.1, temperature=0.5)
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> bool(gradient < 0)
      True

    References:
      Bohdal et al. 2021, https://arxiv.org/abs/2106.10575
    """
    if num_copies < 2:
        raise ValueError(f"num_copies must be at least 2, for one copy is weighted by 1, got {num_copies}.")
    if not (std > 0 and temperature > 0):
        raise ValueError(f"std and temperature must be positive, got {std} and {temperature}.")

    def hypergradient(bilevel, key, theta, params, data):
        noise_key, inner_key, outer_key = jax.random.split(key, 3)
        flat, unravel = jax.flatten_util.ravel_pytree(params)
        copies = flat + std * noise(noise_key, (num_copies, flat.size), flat.dtype)

        def outer_loss(theta):
            losses = jax.vmap(lambda copy: bilevel.inner_loss(unravel(copy), theta, inner_key, data))(copies)
            mixed = jax.nn.softmax(-losses / temperature) @ copies
            return bilevel.outer_loss(unravel(mixed), theta, outer_key, data)

        return jax.value_and_grad(outer_loss)(theta)

    return warm_start(
        problem,
        hypergradient,
        "evograd",
        inner_optimizer=inner_optimizer,
        inner_steps=inner_steps,
        num_particles=num_particles,
    )
