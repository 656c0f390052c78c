"""Population based training: each member learns on its own, and from time to time the worst copy the best.

Jaderberg et al. 2017, "Population Based Training of Neural Networks", https://arxiv.org/abs/1711.09846

Deviations: members are compared by their mean loss since the last comparison, all of them at the same outer step.
"""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from meta_train.outer.outer_metrics import reported
from meta_train.outer.search.base import SearchStrategy


class Member(NamedTuple):
    """One member of the population."""

    theta: Any
    outer_state: Any  # of its own outer optimizer


class PBTState(NamedTuple):
    """State of the population."""

    step: jax.Array  # int32[], outer steps made
    members: Member  # leaves [members, …]
    total_losses: jax.Array  # float[members], sum of the losses since the last comparison
    last_losses: jax.Array  # float[members], of the last outer step; infinite for a member that was replaced since

    def report(self) -> dict[str, jax.Array]:
        """Numbers for the metrics of a run, by member: `member_loss`, and what their optimizers report."""
        return {"member_loss": self.last_losses} | reported(self.members.outer_state)


class ExploreFn(Protocol):
    """Makes a replaced member anew."""

    def __call__(self, key: jax.Array, copied: Member, own: Member, /) -> Member:
        """Returns the new member.

        Args:
          key: random key.
          copied: the better member that it copies.
          own: the member as it was.
        """
        ...


class VaryFn(Protocol):
    """Gives each member its first theta."""

    def __call__(self, key: jax.Array, index: jax.Array, theta: Any, /) -> Any:
        """Returns the member's theta.

        Args:
          key: random key of the member.
          index: int32[], the member's number.
          theta: what the search begins with.
        """
        ...


def scale(key: jax.Array, tree: Any, *, low: float = 0.8, high: float = 1.2) -> Any:
    """Multiplies each number of a pytree by `low` or by `high`, at random.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> sorted(set(scale(jax.random.key(0), jnp.full(100, 10.0)).tolist()))
      [8.0, 12.0]
    """
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    coins = (jax.random.bernoulli(k, 0.5, jnp.shape(x)) for k, x in zip(keys, leaves, strict=True))
    return structure.unflatten([jnp.where(c, high * x, low * x) for c, x in zip(coins, leaves, strict=True)])


def scale_theta(key: jax.Array, copied: Member, own: Member) -> Member:
    """The usual exploration: what was copied, with `scale` on theta."""
    del own
    return copied._replace(theta=scale(key, copied.theta))


def scale_all_but_first(key: jax.Array, index: jax.Array, theta: Any) -> Any:
    """The usual beginning: theta for member 0, and `scale` of it for the others."""
    return jax.tree.map(lambda first, other: jnp.where(index == 0, first, other), theta, scale(key, theta))


def pbt(
    outer_optimizer: optax.GradientTransformation,
    *,
    num_candidates: int,
    interval: int,
    share: float = 0.2,
    explore: ExploreFn = scale_theta,
    vary: VaryFn = scale_all_but_first,
) -> SearchStrategy:
    """Builds population based training over theta.

    Each member follows the gradients of the estimators with an outer optimizer of its own. Every `interval` outer
    steps the worst members are replaced: each copies theta and the outer optimizer's state of a random one of the
    best, and explores from there.

    Args:
      outer_optimizer: any optax transformation with final updates; it gets the member's loss as `value=`, and the
        theta of all, leaves [members, …], as `members=`.
        `optax.set_to_zero()` searches without gradients. `fit` does not clip the members' gradients: chain
        `optax.clip_by_global_norm` to it.
      num_candidates: members of the population.
      interval: outer steps between two comparisons.
      share: share of the members that are replaced, and of those that are copied; at least one of each.
      explore: `(key, copied, own) -> Member`. What a replaced member becomes, given what it copies and what it was
        itself. By default each number of theta is multiplied by 0.8 or 1.2, which suits hyperparameters. To vary those
        of the outer optimizer, build it with `optax.inject_hyperparams` and scale them in `copied.outer_state`.
      vary: `(key, index, theta) -> theta`. What member number index begins with. By default the first with the given
        theta, the others with one that is scaled as above.

    Returns:
      A `SearchStrategy` whose answer is the member that had the lowest loss in the last outer step.

    Raises:
      ValueError: if an argument is out of range.

    Example: a search without gradients for the theta nearest to 3.
      >>> import jax, jax.numpy as jnp, optax
      >>> strategy = pbt(optax.set_to_zero(), num_candidates=10, interval=1)
      >>> state = strategy.init(jax.random.key(0), jnp.ones(()))
      >>> tell = jax.jit(strategy.tell)
      >>> for step in range(50):
      ...     candidates = strategy.ask(None, state)
      ...     state = tell(jax.random.key(step), state, candidates, abs(candidates - 3), jnp.zeros(10))
      >>> bool(abs(strategy.best(state) - 3) < 0.2)
      True

    References:
      Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share must lie above 0 and not above a half, got {share}.")
    if num_candidates < 2:
        raise ValueError(f"num_candidates must be at least 2, to copy one to the other, got {num_candidates}.")
    if interval < 1:
        raise ValueError(f"interval must be at least 1, got {interval}.")
    num_replaced = max(1, int(share * num_candidates + 1e-6))  # a product of 2.9999999 is 3
    tx = optax.with_extra_args_support(outer_optimizer)

    def init(key, theta):
        index = jnp.arange(num_candidates, dtype=jnp.int32)
        thetas = jax.vmap(lambda i: vary(jax.random.fold_in(key, i), i, theta))(index)
        losses = jnp.zeros(num_candidates, jnp.float32)
        return PBTState(jnp.zeros((), jnp.int32), Member(thetas, jax.vmap(tx.init)(thetas)), losses, losses)

    def learn(member, gradient, loss, members):
        extra = {"value": loss, "members": members}
        updates, outer_state = tx.update(gradient, member.outer_state, member.theta, **extra)
        return Member(optax.apply_updates(member.theta, updates), outer_state)

    def replace(key, members, losses):
        order = jnp.argsort(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
        choice_key, explore_key = jax.random.split(key)
        worst = order[num_candidates - num_replaced :]
        best = jax.random.choice(choice_key, order[:num_replaced], (num_replaced,))
        copied, own = (jax.tree.map(lambda x, i=i: x[i], members) for i in (best, worst))
        explored = jax.vmap(explore)(jax.random.split(explore_key, num_replaced), copied, own)
        return jax.tree.map(lambda x, new: x.at[worst].set(new), members, explored), worst

    def tell(key, state, candidates, losses, gradients):
        del candidates
        losses = losses.astype(jnp.float32)
        step, totals = state.step + 1, state.total_losses + losses
        members = jax.vmap(learn, in_axes=(0, 0, 0, None))(state.members, gradients, losses, state.members.theta)
        compare = step % interval == 0
        replaced, worst = replace(key, members, totals)
        members = jax.tree.map(lambda new, old: jnp.where(compare, new, old), replaced, members)
        last = jnp.where(compare, losses.at[worst].set(jnp.inf), losses)
        return PBTState(step, members, jnp.where(compare, 0.0, totals), last)

    def best(state):
        index = jnp.argmin(jnp.where(jnp.isfinite(state.last_losses), state.last_losses, jnp.inf))
        return jax.tree.map(lambda x: x[index], state.members.theta)

    return SearchStrategy(init, lambda key, state: state.members.theta, tell, best, num_candidates)
