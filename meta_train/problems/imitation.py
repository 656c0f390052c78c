"""Imitation of an expert: theta whose updates go where an optimizer with better gradients goes.

ELO trains learned optimizers with such a loss beside the meta-loss: https://arxiv.org/abs/2607.06772. Following one's
own path and asking the expert at each of its states: Ross, Gordon, Bagnell 2011, "A Reduction of Imitation Learning and
Structured Prediction to No-Regret Online Learning", https://arxiv.org/abs/1011.0686

Deviations from ELO, of which the abstract and the README were at hand: the expert averages minibatches and may look
several steps ahead, and the loss of the magnitude is a squared logarithm.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_optim import LearnedOptimizer
from meta_train.problems.optimizer_weights import InnerState
from meta_train.problems.optimizer_weights import optimizer_weights
from meta_train.tasks.base import Task
from meta_train.unroll.problem import Problem

_FLOOR = 1e-3  # of the ratio of lengths: an update of zero has a finite loss


class ImitationState(NamedTuple):
    """State of a run along which an optimizer imitates an expert."""

    inner: InnerState  # the task's parameters and the learned optimizer's state
    expert_state: Any  # the expert's state: it has seen the same parameters, and better gradients
    led: jax.Array  # bool[], whether the parameters follow the expert in this episode


def imitation(
    optimizer: LearnedOptimizer,
    task: Task,
    expert: optax.GradientTransformation,
    *,
    expert_steps: int = 10,
    expert_batches: int = 8,
    magnitude: float = 0.3,
    led_share: float = 0.0,
    horizon_dropout: float = 0.0,
) -> Problem:
    """Builds the problem of imitating an expert along training runs of `task`.

    At each step the expert starts from the run's parameters and makes `expert_steps` steps. What it moves by, over
    their number, is the target of the update that the learned optimizer makes. The loss is `imitation_loss`. The
    expert's own state goes along with the run: after its first step from the parameters, it is kept for the next ones.

    All but this one update is constant: no derivative goes through the gradient, the features, the parameters or the
    optimizer's state. So `truncated_backprop` gives the exact derivative of a window's mean loss, whatever its length,
    with memory for a few updates. Derivatives do not explode, and what a gradient step costs does not depend on the
    horizon. There is no gradient of how theta changes the states that are visited: theta learns to do the expert's
    next step, not to end low. A learned optimizer cannot become better by it than the expert.

    A step costs 1 + expert_steps × expert_batches gradients of the task's loss.

    Args:
      optimizer: the architecture; theta is what its `init` gives.
      task: what to train.
      expert: any optax transformation with final updates, such as `optax.contrib.muon(0.02)`. It gets the loss as
        `value=`.
      expert_steps: steps that the expert looks ahead, at least 1.
      expert_batches: minibatches that the expert averages at each of its steps, at least 1. The first of its first
        step is the one that the learned optimizer sees.
      magnitude: weight of the length's loss, from 0 to 1; 1 - magnitude is that of the direction's.
      led_share: share of the episodes whose parameters follow the expert instead of the learned optimizer. An
        untrained optimizer leads to states that no good run visits.
      horizon_dropout: share of the episodes in which num_steps is hidden from the optimizer.

    Returns:
      A `Problem` whose loss at a step is that of the update from the parameters before it.

    Raises:
      ValueError: if an argument is out of range.

    Example: gradient descent imitates gradient descent of twice its rate; the direction is right already.
      >>> import learned_optim
      >>> from meta_train import tasks
      >>> optimizer = learned_optim.learned_sgd(0.05)
      >>> problem = imitation(
      ...     optimizer, tasks.get("quadratic"), optax.sgd(0.1), expert_steps=1, expert_batches=1, magnitude=1.0)
      >>> theta = optimizer.init(jax.random.key(0))
      >>> state = problem.init(jax.random.key(0), theta, jnp.asarray(100))
      >>> _, loss = problem.step(jax.random.key(1), theta, state, problem.data)
      >>> print(f"{loss:.3f}")  # log(2)²
      0.480

    References:
      ELO, https://arxiv.org/abs/2607.06772
    """
    for name, count in (("expert_steps", expert_steps), ("expert_batches", expert_batches)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")
    _check_share("magnitude", magnitude)
    _check_share("led_share", led_share)
    run = optimizer_weights(optimizer, task, horizon_dropout=horizon_dropout)
    look_ahead = _look_ahead(task, optax.with_extra_args_support(expert), expert_steps, expert_batches)

    def init(key, theta, num_steps):
        key, led_key = jax.random.split(key)
        inner = run.init(key, theta, num_steps)
        return ImitationState(inner, expert.init(inner.params), jax.random.bernoulli(led_key, led_share))

    def step(key, theta, state, data):
        inner, expert_state, led = jax.lax.stop_gradient(state)
        loss = lambda params: task.loss(params, key, data, inner.config)
        value, grads = jax.value_and_grad(loss)(inner.params)
        tx = optax.with_extra_args_support(optimizer.transform(theta, num_steps=inner.num_steps))
        updates, opt_state = tx.update(grads, inner.opt_state, inner.params, value=value)

        expert_params, expert_state, target = look_ahead(key, inner.params, expert_state, data, inner.config)
        own_params = optax.apply_updates(inner.params, updates)
        params = jax.tree.map(lambda own, other: jnp.where(led, other, own), own_params, expert_params)
        inner = inner._replace(params=params, opt_state=opt_state)
        following = jax.lax.stop_gradient(ImitationState(inner, expert_state, led))
        return following, imitation_loss(updates, target, magnitude=magnitude)

    return Problem(init, step, task.data, task.name)


def imitation_loss(updates: Any, target: Any, *, magnitude: float = 0.3) -> jax.Array:
    r"""Compares updates with a target, tensor by tensor, by direction and by length.

    .. math:: (1 - m) (1 - \cos(u, d)) + m \left(\log \frac{\|u\|}{\|d\|}\right)^2

    averaged over the tensors whose target is not zero. A tensor counts the same whatever its size and scale.

    Args:
      updates: pytree of floating-point arrays, u.
      target: likewise, d.
      magnitude: m, from 0 to 1. 0 looks at directions alone.

    Returns:
      float[], 0 if the target is zero everywhere. The ratio of lengths has a smooth floor of 0.001, so that an update
      of zero has a finite loss. The cosine with an update of zero counts as 0.

    Raises:
      ValueError: if magnitude is not between 0 and 1.

    Example: one tensor has the right direction and twice the length, the other is orthogonal to its target.
      >>> loss = imitation_loss(
      ...     {"a": jnp.array([2.0, 4.0]), "b": jnp.array([0.0, 1.0])},
      ...     {"a": jnp.array([1.0, 2.0]), "b": jnp.array([1.0, 0.0])}, magnitude=0.0)
      >>> print(loss)
      0.5
    """
    _check_share("magnitude", magnitude)
    pairs = zip(jax.tree.leaves(updates), jax.tree.leaves(target), strict=True)
    losses, counts = zip(*(_tensor_loss(*pair, magnitude) for pair in pairs), strict=True)
    count = sum(counts)
    return sum(losses) / jnp.maximum(count, 1).astype(losses[0].dtype)


def _tensor_loss(update, target, magnitude):
    """`(loss, counts)` of one tensor, (0, 0) if its target is zero."""
    unit = jnp.max(jnp.abs(target), initial=0)
    counts = unit != 0
    unit = jnp.where(counts, unit, 1)
    update, target = update / unit, jnp.where(counts, target / unit, 1)  # squares neither over- nor underflow
    square, target_square = jnp.sum(jnp.square(update)), jnp.sum(jnp.square(target))
    length = jnp.sqrt(jnp.where(square > 0, square, 1))
    cosine = jnp.sum(update * target) / (length * jnp.sqrt(target_square))
    ratio = (square / target_square + _FLOOR**2) / (1 + _FLOOR**2)
    loss = (1 - magnitude) * (1 - cosine) + magnitude * jnp.square(0.5 * jnp.log(ratio))
    return jnp.where(counts, loss, 0), counts.astype(jnp.int32)


def _look_ahead(task, expert, num_steps, num_batches):
    """`(key, params, state, data, config) -> (params, state, target)`: the first two after the expert's first step."""

    def run(key, params, state, data, config):
        keys = jax.random.split(key, (num_steps, num_batches)).at[0, 0].set(key)

        def advance(params, state, keys):
            loss = lambda params: jnp.mean(jax.vmap(lambda key: task.loss(params, key, data, config))(keys))
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = expert.update(grads, state, params, value=value)
            return optax.apply_updates(params, updates), state

        def body(carry, at):
            index, keys = at
            now, first = carry
            now = advance(*now, keys)
            return (now, jax.tree.map(lambda old, new: jnp.where(index == 0, new, old), first, now)), None

        if num_steps == 1:
            last = first = advance(params, state, keys[0])
        else:
            begin = ((params, state), (params, state))
            (last, first), _ = jax.lax.scan(body, begin, (jnp.arange(num_steps), keys))
        target = jax.tree.map(lambda end, start: (end - start) / num_steps, last[0], params)
        return *first, target

    return run


def _check_share(name, share):
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {share}.")
