"""The weights of a coordinatewise optimizer, with derivatives through a sample of the coordinates.

A coordinatewise optimizer makes the update of a parameter from the gradients of that parameter alone. Without second
derivatives (Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474) the derivative of a loss with respect to theta
is then a sum over the coordinates of the inner parameters, each of which can be computed by itself. Here the sum over
the coordinates of a large tensor is estimated from a regular sample of them, which takes a fraction of the time. All
coordinates are updated, so the losses are exact. The derivative is unbiased: it has the expectation of
`optimizer_weights` with `second_derivatives=False`.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import LearnedOptimizer
from meta_train.tasks.base import Task
from meta_train.tasks.base import normalized_loss
from meta_train.unroll.problem import Problem


class SampledState(NamedTuple):
    """State of an inner training run."""

    config: Any  # what the task drew for this episode
    params: tuple[jax.Array, jax.Array]  # float32[sample] and float32[rest]: all tensors end to end, in two groups
    opt_states: tuple[Any, Any]  # the learned optimizer's state for each group
    num_steps: jax.Array  # int32[], the episode's length
    shifts: jax.Array  # int32[tensors], where the sample of each tensor begins


class _Tensor(NamedTuple):
    """Where the coordinates of a tensor lie in the two groups."""

    size: int
    start: int  # of the tensor among all coordinates
    sampled_start: int  # of its sample among those of all tensors
    rest_start: int  # of its other coordinates
    order: np.ndarray  # int32[size], coordinates of the tensor, those of the sample first, for a shift of 0
    num_sampled: int


def sampled_coordinates(
    optimizer: LearnedOptimizer, task: Task, *, every: int, at_least: int = 1000, separate_kernels: bool = False
) -> Problem:
    """Builds the problem of training `task` with a coordinatewise `optimizer` under theta.

    Args:
      optimizer: an architecture that makes the update of each coordinate from its own gradients alone, such as
        `learned_optim.coordinatewise_lstm`. Others would get updates that they do not make elsewhere.
      task: what to train, with parameters in float32.
      every: derivatives pass through one of so many coordinates of a tensor, and count that many times. Each episode
        draws where the sample begins. 1 takes all coordinates.
      at_least: all coordinates of tensors with fewer coordinates count.
      separate_kernels: whether the optimizer is to see the coordinates of tensors with three dimensions or more, the
        kernels of convolutions, as a tensor of three dimensions, and those of all others as a vector: for a
        `coordinatewise_lstm` with `separate_kernels`. False: all coordinates are one vector.

    Returns:
      A `Problem` for estimators that differentiate. The loss is the task's normalized loss, of the parameters before
      the update.

    Raises:
      ValueError: if `every` or `at_least` is below 1.

    Example:
      >>> import learned_optim, meta_train
      >>> task = meta_train.tasks.get("digits-mlp-sigmoid")
      >>> problem = sampled_coordinates(learned_optim.coordinatewise_lstm(), task, every=8)

    References:
      Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474
    """
    if every < 1 or at_least < 1:
        raise ValueError(f"every and at_least must be at least 1, got every={every} and at_least={at_least}.")
    skeleton = jax.eval_shape(lambda key: task.init(key, task.sample(key)), jax.random.key(0))
    leaves, structure = jax.tree.flatten(skeleton)
    places = list(range(len(leaves)))  # of the tensors in the tree
    if separate_kernels:
        places.sort(key=lambda i: leaves[i].ndim < 3)  # kernels first; otherwise in the order of the tree
    leaves = [leaves[i] for i in places]
    num_kernels = sum(leaf.ndim > 2 for leaf in leaves) if separate_kernels else 0
    tensors = _tensors([leaf.size for leaf in leaves], every, at_least)
    num_sampled = sum(tensor.num_sampled for tensor in tensors)
    weights = np.concatenate([np.full(t.num_sampled, t.size / t.num_sampled, np.float32) for t in tensors])
    sizes = np.array([tensor.size for tensor in tensors], np.int32)
    in_kernels = sum(t.num_sampled for t in tensors[:num_kernels])
    cuts = in_kernels, sum(t.size for t in tensors[:num_kernels]) - in_kernels  # where the kernels of a group end

    def join(groups, shifts):
        flat = jnp.concatenate(groups)[_places(tensors, num_sampled, shifts)]
        parts = [flat[t.start : t.start + t.size].reshape(leaf.shape) for t, leaf in zip(tensors, leaves, strict=True)]
        return structure.unflatten([parts[places.index(i)] for i in range(len(parts))])

    def split(tree, shifts):
        unsorted = jax.tree.leaves(tree)
        flat = jnp.concatenate([unsorted[i].reshape(-1) for i in places])
        order = _order(tensors, shifts)
        return flat[order[:num_sampled]], flat[order[num_sampled:]]

    def seen(group, cut):
        """A group as the optimizer sees it."""
        return (group[:cut][None, None], group[cut:]) if separate_kernels else group

    def init(key, theta, num_steps):
        sample_key, init_key = jax.random.split(key)  # as in `optimizer_weights`
        config = task.sample(sample_key)
        shifts = jax.random.randint(jax.random.fold_in(key, 2), sizes.shape, 0, sizes, jnp.int32)
        params = split(task.init(init_key, config), shifts)
        tx = optimizer.transform(theta, num_steps=num_steps)
        opt_states = (tx.init(seen(params[0], cuts[0])), tx.init(seen(params[1], cuts[1])))
        return SampledState(config, params, opt_states, num_steps, shifts)

    def step(key, theta, state, data):
        params = jax.lax.stop_gradient(state.params)
        loss = lambda groups: task.loss(join(groups, state.shifts), key, data, state.config)
        value, grads = jax.lax.stop_gradient(jax.value_and_grad(loss)(params))
        new_params, new_states = [], []
        for theta_of, grad, param, opt_state, cut in zip(
            (theta, jax.lax.stop_gradient(theta)), grads, state.params, state.opt_states, cuts, strict=True
        ):
            tx = optimizer.transform(theta_of, num_steps=state.num_steps)
            updates, opt_state = tx.update(seen(grad, cut), opt_state, seen(param, cut), value=value)
            flat = jnp.concatenate([part.reshape(-1) for part in jax.tree.leaves(updates)])
            new_params.append(param + flat)
            new_states.append(opt_state)
        # The derivative with respect to the parameters is known: it is the gradient.
        value = value + jnp.vdot(grads[0] * weights, state.params[0] - params[0])
        state = state._replace(params=tuple(new_params), opt_states=tuple(new_states))
        return state, normalized_loss(task, value, state.config)

    return Problem(init, step, task.data, task.name)


def _tensors(sizes, every, at_least):
    """Lays out the samples of tensors of these sizes."""
    made, start, sampled_start = [], 0, 0
    for size in sizes:
        num_sampled = size if size < at_least else max(1, size // every)
        step = size // num_sampled
        chosen = np.arange(num_sampled) * step
        order = np.concatenate([chosen, np.setdiff1d(np.arange(size), chosen)]).astype(np.int32)
        made.append(_Tensor(size, start, sampled_start, start - sampled_start, order, num_sampled))
        start, sampled_start = start + size, sampled_start + num_sampled
    return made


def _order(tensors, shifts):
    """Numbers of the coordinates in the order of the two groups, int32[coordinates]."""
    shifted = [t.start + (t.order + shifts[i]) % t.size for i, t in enumerate(tensors)]
    sampled = [x[: t.num_sampled] for x, t in zip(shifted, tensors, strict=True)]
    return jnp.concatenate(sampled + [x[t.num_sampled :] for x, t in zip(shifted, tensors, strict=True)])


def _places(tensors, num_sampled, shifts):
    """The inverse of `_order`: where each coordinate lies in the two groups, int32[coordinates]."""
    made = []
    for i, tensor in enumerate(tensors):
        place = np.argsort(tensor.order).astype(np.int32)
        rest = num_sampled + tensor.rest_start - tensor.num_sampled
        place = np.where(place < tensor.num_sampled, place + tensor.sampled_start, place + rest).astype(np.int32)
        made.append(jnp.asarray(place)[(np.arange(tensor.size, dtype=np.int32) - shifts[i]) % tensor.size])
    return jnp.concatenate(made)
