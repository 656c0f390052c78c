"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", https://arxiv.org/abs/2409.11321

As in the authors' code, the first gradient only gives the first basis, and nothing moves: in its own eigenbasis a
gradient is diagonal up to rounding errors, which Adam would blow up to steps. Deviation: tensors of more than two axes
are taken as matrices whose columns are their last axis.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

_EXACT = jax.lax.Precision.HIGHEST


class Side(NamedTuple):
    """One side of a matrix, its rows or its columns."""

    average: jax.Array  # float32[n, n], of G Gᵀ or Gᵀ G
    basis: jax.Array  # float32[n, n], about its eigenvectors, one a column


class SoapState(NamedTuple):
    """State of `scale_by_soap`."""

    count: jax.Array  # int32[], steps made; equal in runs that are vectorized
    mu: Any  # like the parameters, average of the gradients
    nu: Any  # float32 matrix for each parameter, average of the squared gradients in the basis
    sides: Any  # for each parameter the sides that have a basis: (rows, columns), each a `Side` or None


def soap(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    refresh: int = 10,
    max_size: int = 2048,
) -> optax.GradientTransformation:
    """SOAP with decoupled weight decay.

    Args:
      learning_rate: step size of a parameter, as of Adam; a number or a schedule.
      b1: decay of the average of gradients.
      b2: decay of the averages of squares, both Adam's and Shampoo's.
      eps: added to the root of the average of squares.
      weight_decay: as of `optax.adamw`, multiplied by the learning rate.
      refresh: steps from one update of the basis to the next, each one step of orthogonal iteration.
      max_size: a side of a matrix that is longer than that keeps the standard basis.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = soap(0.1)
      >>> params = {"w": jnp.ones(3)}
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> updates, state = tx.update(params, state, params)
      >>> updates["w"].round(3)
      Array([-0.1, -0.1, -0.1], dtype=float32)
    """
    return optax.chain(
        scale_by_soap(b1, b2, eps, refresh, max_size),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_soap(
    b1: float = 0.95, b2: float = 0.95, eps: float = 1e-8, refresh: int = 10, max_size: int = 2048
) -> optax.GradientTransformation:
    """The direction of SOAP, without learning rate and decay. The arguments are those of `soap`."""

    def init(params):
        leaves, tree = jax.tree.flatten(params)
        nu = [jnp.zeros(_matrix_shape(leaf.shape), jnp.float32) for leaf in leaves]
        sides = [_first_sides(leaf.ndim, square.shape, max_size) for leaf, square in zip(leaves, nu, strict=True)]
        return SoapState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params), tree.unflatten(nu), sides)

    def update(updates, state, params=None):
        del params
        weight = jnp.where(state.count == 0, 0.0, 1 - b1)
        mu = jax.tree.map(lambda old, g: b1 * old + weight.astype(g.dtype) * g, state.mu, updates)
        grads, tree = jax.tree.flatten(updates)
        moved, squares, sides = [], [], []
        for grad, m, nu, pair in zip(grads, jax.tree.leaves(mu), jax.tree.leaves(state.nu), state.sides, strict=True):
            m, g = (x.reshape(nu.shape).astype(jnp.float32) for x in (m, grad))
            direction, nu, pair = _move(g, m, nu, pair, state.count, (b1, b2, eps, refresh))
            moved.append(direction.reshape(grad.shape).astype(grad.dtype))
            squares.append(nu)
            sides.append(pair)
        return tree.unflatten(moved), SoapState(state.count + 1, mu, tree.unflatten(squares), sides)

    return optax.GradientTransformation(init, update)


def _matrix_shape(shape):
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 1)


def _first_sides(num_axes, shape, max_size):
    has_basis = lambda size: num_axes > 1 and 1 < size <= max_size
    return tuple(Side(jnp.zeros((size, size)), jnp.eye(size)) if has_basis(size) else None for size in shape)


def _move(g, m, nu, sides, count, settings):
    """The direction of one matrix, its new squares and its new sides."""
    b1, b2, eps, refresh = settings
    first = count == 0
    bases = [None if side is None else side.basis for side in sides]
    nu = b2 * nu + jnp.where(first, 0.0, 1 - b2) * jnp.square(_turn(bases, g))
    corrected = lambda average, decay: average / (1 - decay ** jnp.maximum(count, 1).astype(jnp.float32))
    turned = corrected(_turn(bases, m), b1) / (jnp.sqrt(corrected(nu, b2)) + eps)
    direction = jnp.where(first, 0.0, _turn_back(bases, turned))
    observe = lambda side, x: side and _observe(side, _times(x, x.T), count, b2, refresh)
    return direction, nu, tuple(observe(side, x) for side, x in zip(sides, (g, g.T), strict=True))


def _observe(side, product, count, decay, refresh):
    average = decay * side.average + (1 - decay) * product
    count = _shared(count)
    branch = jnp.where(count == 0, 0, jnp.where(count % refresh == 0, 1, 2))
    return Side(
        average, jax.lax.switch(branch, [_eigenvectors, _iterate, lambda average, basis: basis], average, side.basis)
    )


def _eigenvectors(average, basis):
    del basis
    return jnp.linalg.eigh(average)[1]


def _iterate(average, basis):
    """A step of orthogonal iteration."""
    return jnp.linalg.qr(_times(average, basis))[0]


def _turn(bases, x):
    rows, columns = bases
    x = x if rows is None else _times(rows.T, x)
    return x if columns is None else _times(x, columns)


def _turn_back(bases, x):
    rows, columns = bases
    x = x if rows is None else _times(rows, x)
    return x if columns is None else _times(x, columns.T)


def _times(a, b):
    return jnp.matmul(a, b, precision=_EXACT)


@jax.custom_batching.custom_vmap
def _shared(count):
    """A counter. Runs side by side have equal ones, so under vmap it is that of the first.

    A condition on it stays one, where vmap would turn it into a selection and compute both sides at every step.
    """
    return count


@_shared.def_vmap
def _shared_under_vmap(axis_size, in_batched, count):
    del axis_size
    return (count[0] if in_batched[0] else count), False
