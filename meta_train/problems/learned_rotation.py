"""An angle as theta, by which training pictures are turned before a network sees them.

Bohdal, Yang, Hospedales 2021, "EvoGrad: Efficient Gradient-Based Meta-Learning and Hyperparameter Optimization",
https://arxiv.org/abs/2106.10575, section 3.2: the trusted pictures are turned by 30°, those to train on are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from meta_train.few_shot.base import Network
from meta_train.problems.trusted_data import TrustedData
from meta_train.problems.trusted_data import judged_by_trusted
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll.problem import Bilevel

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


def learned_rotation(data: TrustedData, network: Network, *, batch_size: int = 128) -> Bilevel:
    """Builds the problem of the angle by which to turn the training pictures, so that trusted ones are recognized.

    Args:
      data: pictures float[n, height, width, channels] with labels; the trusted ones are turned, such as by `rotate`.
      network: for their inputs.
      batch_size: of both losses, drawn with replacement.

    Returns:
      A `Bilevel` whose theta is the angle, float[] in radians.

    Raises:
      ValueError: if batch_size is below 1, or from its functions if the inputs are no pictures.

    Example: trusted pictures lie on their side.
      >>> import jax
      >>> from meta_train import data, few_shot
      >>> from meta_train.problems import trusted_data
      >>> digits = trusted_data(data.load("digits"), num_trusted=100)
      >>> turned = digits._replace(trusted_x=rotate(jnp.asarray(digits.trusted_x), jnp.pi / 2))
      >>> bilevel = learned_rotation(turned, few_shot.perceptron(10, ()))
      >>> params = bilevel.init(jax.random.key(0), jnp.zeros(()))
      >>> bool(2 < bilevel.inner_loss(params, jnp.zeros(()), jax.random.key(1), bilevel.data) < 3)  # about log 10
      True

    References:
      Bohdal et al. 2021, https://arxiv.org/abs/2106.10575
    """

    def training_loss(theta, apply, rows, inputs, targets):
        del rows
        return jnp.mean(cross_entropy(apply(rotate(inputs, theta)), targets))

    return judged_by_trusted(data, network, training_loss, name="learned-rotation", batch_size=batch_size)


def rotate(
    pictures: Float[Array, "n height width channels"], angle: float | Float[Array, ""]
) -> Float[Array, "n height width channels"]:
    """Turns pictures around their centre, counterclockwise, with bilinear interpolation and zeros beyond the border.

    Args:
      pictures: to turn.
      angle: in radians; differentiable.

    Raises:
      ValueError: if the inputs are no pictures.

    Example: a quarter.
      >>> picture = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
      >>> jnp.round(rotate(picture, jnp.pi / 2)[0, :, :, 0]).tolist()
      [[2.0, 4.0], [1.0, 3.0]]
    """
    if pictures.ndim != 4:
        raise ValueError(f"rotate needs pictures, float[n, height, width, channels], got {pictures.shape}.")
    n, height, width, channels = pictures.shape
    angle = jnp.asarray(angle, pictures.dtype)
    down = jnp.arange(height, dtype=pictures.dtype)[:, None] - (height - 1) / 2
    right = jnp.arange(width, dtype=pictures.dtype)[None, :] - (width - 1) / 2
    rows = jnp.sin(angle) * right + jnp.cos(angle) * down + (height - 1) / 2  # where each new pixel comes from
    columns = jnp.cos(angle) * right - jnp.sin(angle) * down + (width - 1) / 2
    top, left = jnp.floor(rows), jnp.floor(columns)
    flat = pictures.reshape(n, height * width, channels)
    turned = jnp.zeros_like(flat)
    for i in (0, 1):
        for j in (0, 1):
            row, column = top + i, left + j
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = (1 - jnp.abs(rows - row)) * (1 - jnp.abs(columns - column))
            place = jnp.where(inside, row * width + column, 0).astype(jnp.int32)
            turned = turned + jnp.where(inside, share, 0).reshape(-1, 1) * flat[:, place.reshape(-1)]
    return turned.reshape(pictures.shape)
