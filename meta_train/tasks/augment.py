"""Augmentations: tasks and optimizers with other scales, noise, delay or precision.

All but `delayed_gradients` turn a `Task` into another, and can be stacked in any order. They change what the inner
optimizer sees, and the results of `evaluate` stay in the units of the task.

Reparametrization: Metz et al. 2022, "VeLO", https://arxiv.org/abs/2211.09760. Random subspaces: Li et al. 2018,
"Measuring the Intrinsic Dimension of Objective Landscapes", https://arxiv.org/abs/1804.08838
"""

from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_optim import LearnedOptimizer
from meta_train.host.renamed import renamed
from meta_train.tasks.base import Task


def reparametrized(task: Task, low: float = 1e-3, high: float = 1e3) -> Task:
    """Parameters in other units: one factor for all of them, drawn log-uniformly for each episode.

    The optimizer sees p / s, the task p: initial parameters are divided by s and the gradient is multiplied by it.

    Raises:
      ValueError: unless 0 < low <= high.

    Example:
      >>> from meta_train import tasks
      >>> reparametrized(tasks.get("quadratic")).name
      'quadratic'
    """

    def draw(key, params):
        factor = _log_uniform(key, (), low, high)
        return jax.tree.map(lambda x: factor, params)

    return _reparametrized(task, low, high, draw)


def reparametrized_per_tensor(task: Task, low: float = 1e-3, high: float = 1e3) -> Task:
    """Like `reparametrized`, with a factor of its own for each tensor."""

    def draw(key, params):
        factors = _log_uniform(key, (len(jax.tree.leaves(params)),), low, high)
        return jax.tree.unflatten(jax.tree.structure(params), list(factors))

    return _reparametrized(task, low, high, draw)


def reparametrized_per_parameter(task: Task, low: float = 1e-3, high: float = 1e3) -> Task:
    """Like `reparametrized`, with a factor of its own for each entry of each tensor."""

    def draw(key, params):
        leaves = [
            _log_uniform(jax.random.fold_in(key, i), leaf.shape, low, high)
            for i, leaf in enumerate(jax.tree.leaves(params))
        ]
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    return _reparametrized(task, low, high, draw)


def noisy_gradients(task: Task, low: float = 1e-3, high: float = 1e-1) -> Task:
    """Normal noise on every gradient; its standard deviation is drawn log-uniformly for each episode.

    Args:
      task: what to augment.
      low, high: range of the standard deviation, in units of the root mean square of the tensor's gradient, so that it
        means the same for every task.

    Returns:
      The `Task`. The loss keeps its value; its derivative has the noise.

    Raises:
      ValueError: unless 0 < low <= high.
    """
    _check_range(low, high)

    def sample(key):
        draw_key, sample_key = jax.random.split(key)
        return _log_uniform(draw_key, (), low, high), task.sample(sample_key)

    def loss(params, key, data, config):
        std, inner = config
        noise_key = jax.random.fold_in(key, 2)
        leaves, structure = jax.tree.flatten(params)
        leaves = [_noisy(jax.random.fold_in(noise_key, i), std, leaf) for i, leaf in enumerate(leaves)]
        return task.loss(jax.tree.unflatten(structure, leaves), key, data, inner)

    return _with_inner_config(task)._replace(sample=sample, loss=loss)


def reduced_precision(task: Task, dtype: jax.typing.DTypeLike = jnp.bfloat16) -> Task:
    """The task's forward and backward pass in another floating-point type.

    Parameters, and the loss and the gradient that the optimizer gets, stay in float32.

    Raises:
      TypeError: if dtype is not a floating-point type.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"a task computes in a floating-point type, got {dtype}: give jnp.bfloat16 or another.")

    def cast(tree):
        return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    def loss(params, key, data, config):  # the derivative of a cast casts the gradient back
        return task.loss(cast(params), key, cast(data), cast(config)).astype(jnp.float32)

    return task._replace(loss=loss)


def random_subspace(task: Task, size: int) -> Task:
    """Training in a random affine subspace through the initial parameters.

    The parameters are {"z": float32[size]}, from zero; the task sees p₀ + P z with a projection P drawn for each
    episode, whose columns have an expected length of 1. The projection is kept in memory, size floats a parameter.

    Args:
      task: what to augment.
      size: dimensions of the subspace.

    Raises:
      ValueError: if size is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")

    def sample(key):
        sample_key, init_key, basis_key = jax.random.split(key, 3)
        config = task.sample(sample_key)
        origin = task.init(init_key, config)
        leaves, structure = jax.tree.flatten(origin)
        length = sum(leaf.size for leaf in leaves) ** 0.5
        basis = [
            jax.random.normal(jax.random.fold_in(basis_key, i), (*leaf.shape, size)) / length
            for i, leaf in enumerate(leaves)
        ]
        return _Subspace(origin, jax.tree.unflatten(structure, basis), config)

    def place(params, config):
        return jax.tree.map(lambda origin, basis: origin + basis @ params["z"], config.origin, config.basis)

    return task._replace(
        sample=sample,
        init=lambda key, config: {"z": jnp.zeros((size,), jnp.float32)},
        loss=lambda params, key, data, config: task.loss(place(params, config), key, data, config.inner),
        evaluate=lambda params, key, data, config: task.evaluate(place(params, config), key, data, config.inner),
        loss_scale=lambda config: task.loss_scale(config.inner),
    )


def delayed_gradients(optimizer: LearnedOptimizer, delay: int) -> LearnedOptimizer:
    """Gives the optimizer gradients that are `delay` steps old, as with asynchronous workers.

    In the first `delay` steps it gets the first gradient. Give the result to `problems.optimizer_weights`; theta is
    that of the optimizer.

    Args:
      optimizer: the optimizer that gets the old gradients.
      delay: steps, at least 0. As many copies of the gradient are kept.

    Raises:
      ValueError: if delay is below 0.

    Example:
      >>> import learned_optim
      >>> late = delayed_gradients(learned_optim.learned_sgd(), 2)
    """
    if delay < 0:
        raise ValueError(f"delay must be at least 0 steps, got {delay}.")
    return optimizer._replace(
        transform=lambda theta, **options: optax.chain(_delay(delay), optimizer.transform(theta, **options))
    )


class _Subspace(NamedTuple):
    origin: Any  # the parameters at z = 0
    basis: Any  # like them, with a last axis of the subspace's dimensions
    inner: Any  # the task's config


class _DelayState(NamedTuple):
    count: jax.Array  # int32[], gradients seen
    past: Any  # like the gradient with a leading axis of `delay`, the oldest first


def _delay(delay):
    def init(params):
        past = jax.tree.map(lambda x: jnp.zeros((delay, *x.shape), x.dtype), params)
        return _DelayState(jnp.zeros((), jnp.int32), past)

    def update(updates, state, params=None):
        del params
        past = jax.tree.map(lambda x, g: jnp.where(state.count == 0, g, x), state.past, updates)
        queue = jax.tree.map(lambda x, g: jnp.concatenate([x, g[None]]), past, updates)
        oldest = jax.tree.map(lambda x: x[0], queue)
        return oldest, _DelayState(state.count + 1, jax.tree.map(lambda x: x[1:], queue))

    return optax.GradientTransformation(init, update)


def _reparametrized(task: Task, low: float, high: float, draw: Callable[[jax.Array, Any], Any]) -> Task:
    _check_range(low, high)

    def sample(key):
        draw_key, sample_key = jax.random.split(key)
        config = task.sample(sample_key)
        shapes = jax.eval_shape(task.init, jax.random.key(0), config)
        return draw(draw_key, shapes), config

    def init(key, config):
        return jax.tree.map(lambda p, s: p / s, task.init(key, config[1]), config[0])

    def place(params, config):
        return jax.tree.map(lambda p, s: p * s, params, config[0])

    return task._replace(
        sample=sample,
        init=init,
        loss=lambda params, key, data, config: task.loss(place(params, config), key, data, config[1]),
        evaluate=lambda params, key, data, config: task.evaluate(place(params, config), key, data, config[1]),
        loss_scale=lambda config: task.loss_scale(config[1]),
    )


def _with_inner_config(task: Task) -> Task:
    """The task with configs `(anything, config)`."""
    return task._replace(
        init=lambda key, config: task.init(key, config[1]),
        evaluate=lambda params, key, data, config: task.evaluate(params, key, data, config[1]),
        loss_scale=lambda config: task.loss_scale(config[1]),
    )


@jax.custom_vjp
def _noisy(key, std, x):
    """x, with noise in the derivative."""
    del key, std
    return x


def _noisy_forward(key, std, x):
    return x, (key, std)


def _noisy_backward(residual, gradient):
    key, std = residual
    size = jnp.sqrt(jnp.mean(jnp.square(gradient)))
    return None, None, gradient + std * size * jax.random.normal(key, gradient.shape, gradient.dtype)


_noisy.defvjp(_noisy_forward, _noisy_backward)


def _log_uniform(key, shape, low, high):
    return jnp.exp(jax.random.uniform(key, shape, jnp.float32, np.log(low), np.log(high)))


def _check_range(low, high):
    if not 0 < low <= high:
        raise ValueError(f"a range must be 0 < low <= high, got {low} and {high}.")


if not TYPE_CHECKING:  # a checker reports the old names
    __getattr__ = renamed(
        __name__,
        {
            "reparametrised": "reparametrized",
            "reparametrised_per_tensor": "reparametrized_per_tensor",
            "reparametrised_per_parameter": "reparametrized_per_parameter",
        },
    )
