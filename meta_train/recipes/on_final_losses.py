"""The recipe that those of `secant_muon` share: backpropagation from final losses on many kinds of episodes."""

from typing import Any
from typing import NamedTuple

import jax
import optax

from learned_optim import LearnedOptimizer
from meta_train.recipes import Recipe
from meta_train.recipes import parts
from meta_train.unroll import truncation


class Episodes(NamedTuple):
    """The episodes of a task in an outer step."""

    task: str
    number: int
    longest: int  # in inner steps
    held_out: bool  # whether held-out losses count
    floor: float  # the loss, relative to that of an untrained model, below which differences count less and less


def backprop_on(episodes: tuple[Episodes, ...], optimizer: LearnedOptimizer, num_steps: int, seed: int) -> Recipe:
    """The recipe of backpropagation from final losses, a quarter of the episodes of unknown length.

    Args:
      episodes: those of an outer step.
      optimizer: a `secant_muon`.
      num_steps, seed: fields of the recipe.
    """
    theta = optimizer.init(jax.random.key(seed))
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(
            parts.backprop_on_final_losses(
                optimizer,
                each.task,
                num_particles=each.number,
                horizon=truncation.power_law(100, each.longest, 1.3),
                horizon_dropout=0.25,
                held_out=each.held_out,
                floor=each.floor,
            )
            for each in episodes
        ),
        outer_optimizer=_two_rates(theta, num_steps),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
        program_per_task=True,
    )


def _two_rates(theta: Any, num_steps: int) -> optax.GradientTransformation:
    """Adam, at a third of the rate for the weights of networks: they are many, and begin without effect."""
    adam = lambda peak: optax.chain(
        optax.scale_by_adam(b2=0.99),
        optax.scale_by_learning_rate(parts.warm_up_and_cosine(num_steps, peak, peak / 20)),
    )
    labels = {name: "networks" if name.endswith("_network") else "rest" for name in theta}
    return optax.multi_transform({"networks": adam(3e-3), "rest": adam(1e-2)}, labels)
