"""`secant-muon-general-v1`: `adaptive_muon` with secants and two networks, 605 weights; by backpropagation.

A third of the tasks draw model and data anew in each episode. Without them the networks learn what holds for a few
tasks alone (docs/lab-log.md). `benchmarks/network_gain.py` compares them with the sibling that has no networks. The
results are in pretrained/secant-muon-general-v1/card.md. It needs Fashion-MNIST, see docs/data.md.
"""

from typing import Any
from typing import NamedTuple

import jax
import optax

import learned_optim
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


EPISODES = (
    Episodes("broad-perceptron-small", 4, 600, False, 0.01),
    Episodes("broad-perceptron-small", 4, 600, True, 1e-5),
    Episodes("broad-linear", 8, 1000, False, 1e-3),
    Episodes("digits-conv", 2, 400, True, 1e-5),
    Episodes("docs-gru-small", 2, 400, False, 1e-5),
    Episodes("diabetes-mlp", 6, 1000, True, 1e-5),
    Episodes("quadratic-ill-conditioned", 8, 1000, False, 1e-5),
    Episodes("digits-mlp", 4, 1000, False, 0.01),
    Episodes("fashion-mlp", 3, 600, True, 1e-5),
)


def recipe(num_steps: int = 64, seed: int = 0, hidden_size: int = 8, step_hidden_size: int = 16) -> Recipe:
    """Episodes of 100 to 1,000 steps of nine kinds. A quarter of the way holds for tasks that it was not trained on.

    Args:
      num_steps, seed: fields of the recipe.
      hidden_size, step_hidden_size: of the architecture; 0 leaves a network out.
    """
    optimizer = learned_optim.secant_muon(hidden_size, step_hidden_size)
    return backprop_on(EPISODES, optimizer, num_steps, seed)._replace(share=0.25)


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
