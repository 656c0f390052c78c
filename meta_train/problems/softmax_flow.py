r"""The gradient flow of a linear softmax layer, with its derivatives carried forward beside it.

Deleu et al. 2022, "Continuous-Time Meta-Learning with Forward Mode Differentiation", https://arxiv.org/abs/2203.01443

The weights W(t) of M examples with features X (M × d) and N classes stay in the span of the features:
W(t) = W(0) - X's(t). So s (M × N) is all that moves, and with it its derivatives B by the first logits (M²N² numbers)
and z by the Gram matrix G = XX' (M³N):

.. math:: \dot s_i = (p_i - y_i) / M, \qquad p = \mathrm{softmax}(\mathrm{logits}_0 - G s), \qquad
          A_i = (\mathrm{diag}\, p_i - p_i p_i^\top) / M

.. math:: \dot B_{ij} = A_i \Big(1_{i=j} I - \sum_m G_{im} B_{mj}\Big), \qquad
          \dot z_{ikl} = -A_i \Big(1_{i=k} s_l + \sum_m G_{im} z_{mkl}\Big)

Deviation: Runge's and Kutta's method of fourth order in equal steps, where the paper takes a solver that adapts its
steps. No eigenvalue of any A_i exceeds 1/2M, so the length of a step that is stable and accurate is known beforehand;
it needs no other package and compiles fast.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float
    from jaxtyping import Int32


class _Carried(NamedTuple):
    """What flows."""

    s: jax.Array  # float[M, N]
    by_logits: jax.Array  # B: float[M, N, M, N], derivative of s by the first logits
    by_gram: jax.Array  # z: float[M, N, M, M], derivative of s by the Gram matrix


def softmax_flow(
    logits: Float[Array, "examples classes"],
    gram: Float[Array, "examples examples"],
    labels: Int32[Array, " examples"],
    time: Float[Array, ""],
    *,
    step_share: float = 0.5,
    max_steps: int = 10_000,
) -> Float[Array, "examples classes"]:
    """Computes how far the flow of the mean cross-entropy takes a linear layer in a given time.

    Args:
      logits: of the examples at time 0.
      gram: inner products of the examples' features; with 1 added to each if the layer has a bias.
      labels: 0 … classes - 1.
      time: when the flow ends, not negative.
      step_share: length of the solver's steps, in units of 1/(the largest rate of change of the flow). The error falls
        with its fourth power; above 2.7 the solver is unstable.
      max_steps: the most steps of the solver. If more were needed, the result is NaN.

    Returns:
      s: the weights at the end are `weights - features.T @ s`, the bias is `bias - sum(s, axis=0)`. Its derivatives, in
      reverse mode, are those of the flow and not those of the solver's steps. They take memory that does not grow with
      time: M²N² + M³N numbers.

    Raises:
      ValueError: if step_share is not positive or max_steps is below 1.

    Example: one example, two classes, no preference at first; it moves towards label 0.
      >>> s = softmax_flow(jnp.zeros((1, 2)), jnp.ones((1, 1)), jnp.zeros(1, jnp.int32), jnp.asarray(0.1))
      >>> [round(float(x), 3) for x in s[0]]
      [-0.049, 0.049]

    References:
      Deleu et al. 2022, https://arxiv.org/abs/2203.01443
    """
    if not step_share > 0:
        raise ValueError(f"step_share must be positive, got {step_share}.")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
    return _flow(logits, gram, labels, time, step_share, max_steps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _flow(logits, gram, labels, time, step_share, max_steps):
    speed = lambda s: _speed(logits, gram, labels, s)
    return _integrate(speed, jnp.zeros_like(logits), gram, time, step_share, max_steps)


def _forward(logits, gram, labels, time, step_share, max_steps):
    """The flow with its derivatives."""
    examples, classes = logits.shape
    eye = jnp.eye(examples, dtype=logits.dtype)
    by_itself = eye[:, None, :, None] * jnp.eye(classes, dtype=logits.dtype)[:, None, :]  # of the logits by themselves

    def field(carried):
        s, by_logits, by_gram = carried
        p = jax.nn.softmax(logits - gram @ s)[..., None, None]  # float[M, N, 1, 1]
        pull_logits = by_itself - jnp.einsum("im,mnjc->injc", gram, by_logits)
        pull_gram = -eye[:, None, :, None] * s.T[None, :, None, :] - jnp.einsum("im,mnkl->inkl", gram, by_gram)
        curve = lambda v: p * (v - jnp.sum(p * v, axis=1, keepdims=True)) / examples  # A_i v
        return _Carried(_speed(logits, gram, labels, s), curve(pull_logits), curve(pull_gram))

    zeros = lambda *shape: jnp.zeros(shape, logits.dtype)
    start = _Carried(
        zeros(examples, classes),
        zeros(examples, classes, examples, classes),
        zeros(examples, classes, examples, examples),
    )
    end = _integrate(field, start, gram, time, step_share, max_steps)
    return end.s, (end, _speed(logits, gram, labels, end.s))


def _backward(step_share, max_steps, kept, cotangent):
    del step_share, max_steps
    end, speed = kept
    by_logits = jnp.einsum("in,injc->jc", cotangent, end.by_logits)
    by_gram = jnp.einsum("in,inkl->kl", cotangent, end.by_gram)
    return by_logits, by_gram, None, jnp.sum(cotangent * speed)


_flow.defvjp(_forward, _backward)


def _speed(logits, gram, labels, s):
    """The derivative of s with respect to time."""
    examples, classes = logits.shape
    return (jax.nn.softmax(logits - gram @ s) - jax.nn.one_hot(labels, classes, dtype=logits.dtype)) / examples


def _integrate(field: Callable[[Any], Any], state, gram, time, step_share, max_steps):
    """Follows the field from 0 to time; NaN if that takes too many steps."""
    fastest = jnp.max(jnp.sum(jnp.abs(gram), axis=1)) / (2 * gram.shape[0])
    needed = jnp.ceil(time * fastest / step_share)
    possible = needed <= max_steps  # false for NaN
    num_steps = jnp.maximum(jnp.where(possible, needed, 1), 1).astype(jnp.int32)
    length = time / num_steps.astype(time.dtype)
    ahead = lambda state, share, slope: jax.tree.map(lambda x, d: x + share * length * d, state, slope)

    def step(_, state):
        first = field(state)
        second = field(ahead(state, 0.5, first))
        third = field(ahead(state, 0.5, second))
        fourth = field(ahead(state, 1.0, third))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth)
        return ahead(state, 1.0, mean)

    state = jax.lax.fori_loop(0, num_steps, step, state)
    return jax.tree.map(lambda x: jnp.where(possible, x, jnp.nan), state)
