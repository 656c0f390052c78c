"""A pull of the inner parameters towards where they began, for implicit MAML.

Rajeswaran et al. 2019, "Meta-Learning with Implicit Gradients", https://arxiv.org/abs/1909.04630
"""

import jax
import jax.numpy as jnp

from meta_train.unroll.problem import Bilevel


def proximal(bilevel: Bilevel, *, strength: float) -> Bilevel:
    r"""Adds the squared distance from the first inner parameters to the inner loss.

    .. math:: L(w, \theta) + \frac{\lambda}{2} \lVert w - w_0(\theta) \rVert^2

    So the minimum depends on the initial parameters, and the estimator `implicit` can differentiate it with respect to
    them, with `fresh_start=True`. On a quadratic with the matrix A the derivative is λ (A + λ I)⁻¹.

    Args:
      bilevel: the losses. `init` must draw nothing from its key, as where theta is the initial parameters.
      strength: λ, in units of the inner loss's curvature. Adaptation reaches the minimum only if its steps are fit for
        it: the more so, the stronger the pull.

    Returns:
      A `Bilevel` with the same outer loss.

    Raises:
      ValueError: if strength is not positive.

    Example: of (w - 1)^2 / 2 and the pull of strength 3 towards 0.
      >>> loss = lambda w, theta, key, data: 0.5 * (w - 1) ** 2
      >>> pulled = proximal(Bilevel(loss, loss, init=lambda key, theta: theta), strength=3.0)
      >>> float(pulled.inner_loss(jnp.asarray(1.0), jnp.asarray(0.0), jax.random.key(0), ()))
      1.5

    References:
      Rajeswaran et al. 2019, https://arxiv.org/abs/1909.04630
    """
    if not strength > 0:
        raise ValueError(f"strength must be positive, got {strength}.")

    def inner_loss(params, theta, key, data):
        start = bilevel.init(key, theta)
        squares = [
            jnp.sum(jnp.square(w - w0)) for w, w0 in zip(jax.tree.leaves(params), jax.tree.leaves(start), strict=True)
        ]
        return bilevel.inner_loss(params, theta, key, data) + 0.5 * strength * sum(squares)

    return bilevel._replace(inner_loss=inner_loss)
