"""Self-training: learned optimizers as outer optimizers, of others or of themselves.

Metz, Maheswaranathan, Freeman, Poole, Sohl-Dickstein 2020, "Tasks, stability, architecture, and compute: Training more
effective learned optimizers, and using them to train themselves", https://arxiv.org/abs/2009.11243; Metz, Freeman,
Maheswaranathan, Sohl-Dickstein 2021, "Training Learned Optimizers with Randomly Initialized Learned Optimizers",
https://arxiv.org/abs/2101.07367

Each function gives what `fit` takes as its outer optimizer. `safeguards.safeguarded` wraps the first two.

Deviations: the 2021 paper does not state in full when members of its population are compared. Here that happens at
fixed intervals. A replaced member draws a new trainer half of the time, so that trainers are selected as well.
"""

from collections.abc import Callable
import functools
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from learned_optim import LearnedOptimizer
from meta_train.outer import search
from meta_train.outer.search.base import SearchStrategy
from meta_train.outer.search.pbt import Member
from meta_train.outer.search.pbt import VaryFn

_ITSELF = -1


class LiveState(NamedTuple):
    """State of an outer optimizer that theta defines itself."""

    step: jax.Array  # int32[], outer steps made
    trainer: Any  # theta when it was last refreshed; () if that is at every step
    inner: Any  # the learned optimizer's state


class TrainedState(NamedTuple):
    """State of the outer optimizer of a member of a population."""

    trainer: jax.Array  # int32[], number of the member whose theta trains this one; -1: itself
    inner: Any  # the learned optimizer's state


StepScale: TypeAlias = optax.ScalarOrSchedule | None


def frozen(
    optimizer: LearnedOptimizer, theta: Any, *, num_steps: int | None = None, step_scale: StepScale = None
) -> optax.GradientTransformationExtraArgs:
    """Makes a learned optimizer with a fixed theta the outer optimizer. It gets the meta-loss as `value=`.

    Args:
      optimizer, theta: such as `learned_optim.load_pretrained` gives; it may be of another architecture than what it
        trains.
      num_steps: outer steps of the run, for architectures that use it.
      step_scale: a factor on the outer steps, or a schedule of it. Meta-gradients are noisier than most: steps that
        suit ordinary training are often too large (`docs/self-training.md`).

    Example:
      >>> import learned_optim
      >>> outer_optimizer = frozen(*learned_optim.load_pretrained("default"), num_steps=1000)
    """
    return optimizer.transform(theta, num_steps=num_steps, step_scale=step_scale)


def live(
    optimizer: LearnedOptimizer,
    *,
    num_steps: int | None = None,
    refresh_every: int = 1,
    step_scale: StepScale = None,
) -> optax.GradientTransformationExtraArgs:
    """Lets theta train itself: the current theta defines the outer optimizer.

    Args:
      optimizer: the architecture that is meta-trained.
      num_steps: outer steps of the run, for architectures that use it.
      refresh_every: outer steps for which a theta serves as trainer before the newest takes its place. The outer
        state, such as moments of the meta-gradient, is carried over.
      step_scale: a factor on the outer steps, or a schedule of it, as in `frozen`.

    Raises:
      ValueError: if refresh_every is below 1.

    Example: a logarithmic step size, by a step of that size.
      >>> import jax.numpy as jnp, learned_optim
      >>> optimizer = learned_optim.learned_sgd()
      >>> theta = {"log_learning_rate": jnp.log(jnp.asarray(0.5))}
      >>> tx = live(optimizer)
      >>> updates, state = tx.update({"log_learning_rate": jnp.asarray(2.0)}, tx.init(theta), theta)
      >>> print(updates["log_learning_rate"])
      -1.0
    """
    if refresh_every < 1:
        raise ValueError(f"refresh_every must be at least 1 outer step, got {refresh_every}.")
    keeps = refresh_every > 1
    transform = functools.partial(optimizer.transform, num_steps=num_steps, step_scale=step_scale)

    def init(params):
        trainer = jax.tree.map(jnp.copy, params) if keeps else ()
        return LiveState(jnp.zeros((), jnp.int32), trainer, transform(params).init(params))

    def update(updates, state, params=None, **extra):
        trainer = params
        if keeps:
            refresh = state.step % refresh_every == 0
            trainer = jax.tree.map(lambda new, old: jnp.where(refresh, new, old), params, state.trainer)
        updates, inner = transform(trainer).update(updates, state.inner, params, **extra)
        return updates, LiveState(state.step + 1, trainer if keeps else (), inner)

    return optax.GradientTransformationExtraArgs(init, update)


def population(
    optimizer: LearnedOptimizer,
    *,
    num_members: int = 10,
    interval: int = 20,
    share: float = 0.2,
    noise: float = 0.1,
    num_steps: int | None = None,
    step_scale: StepScale = None,
    start: VaryFn | None = None,
    safeguard: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda tx: tx,
) -> SearchStrategy:
    """Builds a population of learned optimizers that train each other, with population based training on top.

    Every member begins with weights of its own and trains itself. Every `interval` outer steps the worst members are
    replaced: each copies theta, the outer state and the trainer of one of the best; then noise is added to theta, and
    half of them draw another member as their trainer. A trainer serves with the weights that it has at the moment. No
    hand-designed optimizer takes part.

    Args:
      optimizer: the architecture that is meta-trained, and trains.
      num_members: members of the population. An outer step costs as many times that of a single theta.
      interval: outer steps between two comparisons.
      share: share of the members that are replaced, and of those that are copied; at least one of each.
      noise: standard deviation of the noise, as a share of the root mean square of each tensor of theta.
      num_steps: outer steps of the run, for architectures that use it.
      step_scale: a factor on the outer steps, or a schedule of it, as in `frozen`.
      start: `(key, index, theta) -> theta`. What member number index begins with. By default a draw of
        `optimizer.init`: the theta that `fit` is given then counts for its structure only.
      safeguard: what wraps the members' outer optimizers, such as `safeguards.safeguarded`.

    Returns:
      A `SearchStrategy` whose answer is the member that had the lowest loss in the last outer step.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> import learned_optim
      >>> population(learned_optim.mlp((4,)), num_members=5).num_candidates
      5
    """
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, got {noise}.")
    transform = functools.partial(optimizer.transform, num_steps=num_steps, step_scale=step_scale)

    def init(params):
        return TrainedState(jnp.asarray(_ITSELF, jnp.int32), transform(params).init(params))

    def update(updates, state, params=None, **extra):
        members = extra.pop("members")  # the thetas of all members, which `pbt` passes
        pick = lambda own, all: jnp.where(state.trainer == _ITSELF, own, all[jnp.maximum(state.trainer, 0)])
        trainer = jax.tree.map(pick, params, members)
        updates, inner = transform(trainer).update(updates, state.inner, params, **extra)
        return updates, TrainedState(state.trainer, inner)

    def explore(key, copied, own):
        del own
        noise_key, coin_key, trainer_key = jax.random.split(key, 3)
        is_trained = lambda node: isinstance(node, TrainedState)  # a safeguard may hold two: now, and at its best
        old = next(filter(is_trained, jax.tree.leaves(copied.outer_state, is_leaf=is_trained))).trainer
        another = jax.random.randint(trainer_key, (), 0, num_members, jnp.int32)
        trainer = jnp.where(jax.random.bernoulli(coin_key), another, old)
        redirect = lambda node: node._replace(trainer=trainer) if is_trained(node) else node
        outer_state = jax.tree.map(redirect, copied.outer_state, is_leaf=is_trained)
        return Member(_perturb(noise_key, copied.theta, noise), outer_state)

    return search.pbt(
        safeguard(optax.GradientTransformationExtraArgs(init, update)),
        num_candidates=num_members,
        interval=interval,
        share=share,
        explore=explore,
        vary=start or (lambda key, index, theta: optimizer.init(key)),
    )


def _perturb(key, tree, noise):
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    add = lambda k, x: x + noise * jnp.sqrt(jnp.mean(jnp.square(x))) * jax.random.normal(k, x.shape, x.dtype)
    return structure.unflatten([add(k, x) for k, x in zip(keys, leaves, strict=True)])
