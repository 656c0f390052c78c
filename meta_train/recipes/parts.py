"""What several recipes share: a task's estimator, an outer optimizer, or all but the architecture."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

import learned_optim
from learned_optim import LearnedOptimizer
from learned_optim.optimizers.coordinatewise_lstm import by_units
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import Estimator
from meta_train.outer import search
from meta_train.problems import objectives
from meta_train.recipes import Recipe
from meta_train.unroll import truncation
from meta_train.unroll.truncation import Horizon

# Antithetic pairs of each task for `pes_on_six_families`.
_SIX_FAMILIES = {
    "digits-mlp": 16,
    "digits-mlp-tanh": 16,
    "digits-conv": 12,
    "digits-autoencoder": 12,
    "docs-gru-small": 12,
    "diabetes-mlp": 16,
}


def nres_on_late_losses(
    optimizer: LearnedOptimizer,
    task_name: str,
    *,
    num_pairs: int,
    horizon: Horizon,
    horizon_dropout: float,
    norm_power: float,
    held_out: bool = False,
) -> Estimator:
    """NRES on one task, where late losses count more than early ones.

    Args:
      optimizer: the architecture.
      task_name: a task of the suites; each episode draws a variation of it.
      num_pairs: antithetic pairs.
      horizon: inner steps of an episode.
      horizon_dropout: share of the episodes that hide their length from the optimizer.
      norm_power: the task's meta-gradient is divided by its norm to this power. At 1 all tasks have gradients of the
        same norm.
      held_out: whether the losses are those of held-out examples.
    """
    task = tasks.get(task_name, sampled=True)
    task = task._replace(normalize=tasks.power_normalizer(task.scale, power=0.3))
    problem = objectives.late(_training(optimizer, task, horizon_dropout, held_out), power=1.0)
    nres = estimators.nres(problem, num_particles=num_pairs, unroll_length=50, horizon=horizon, std=0.03)
    return estimators.normalized(nres, power=norm_power)


def backprop_on_final_losses(
    optimizer: LearnedOptimizer,
    task_name: str,
    *,
    num_particles: int,
    horizon: Horizon,
    horizon_dropout: float,
    held_out: bool,
    floor: float,
) -> Estimator:
    """Derivatives of the log of the final loss, as optimizers are judged, through the last 256 steps of each episode.

    On the way back they lose half a percent a step, and each episode has a gradient of the same norm. Without the two,
    a few chaotic episodes of several hundred steps hide what the others have in common. A decay of two percent a step
    is too short-sighted: what it learns raises the losses of recurrent networks and of quadratics.

    Args:
      optimizer: the architecture.
      task_name: a task of the suites; each episode draws a variation of it.
      num_particles: episodes in an outer step.
      horizon: inner steps of an episode.
      horizon_dropout: share of the episodes that hide their length from the optimizer.
      held_out: whether the losses are those of held-out examples.
      floor: losses far below it, relative to the loss of an untrained model, count as equal. Where data can be learned
        by heart, it decides how much learning them even better counts against held-out losses.
    """
    training = _training(optimizer, _relative_losses(task_name), horizon_dropout, held_out)
    return estimators.k_rmd(
        objectives.log_final(training, floor=floor),
        num_particles=num_particles,
        horizon=horizon,
        num_backward=256,
        decay=0.995,
        max_norm=1e-2,
    )


def final_losses(
    optimizer: LearnedOptimizer,
    task_name: str,
    *,
    num_particles: int,
    horizon: Horizon,
    horizon_dropout: float,
    held_out: bool = False,
) -> Estimator:
    """Log of the final losses of whole episodes on one task, for a search.

    Args:
      optimizer: the architecture.
      task_name: a task of the suites; each episode draws a variation of it.
      num_particles: episodes in an outer step.
      horizon: inner steps of an episode.
      horizon_dropout: share of the episodes that hide their length from the optimizer.
      held_out: whether the losses are those of held-out examples.
    """
    problem = objectives.log_final(_training(optimizer, _relative_losses(task_name), horizon_dropout, held_out))
    return search.episodes(problem, num_particles=num_particles, horizon=horizon)


def _relative_losses(task_name):
    """Variations of a task, whose losses are relative to that of an untrained model."""
    task = tasks.get(task_name, sampled=True)
    scale = task.scale
    return task._replace(normalize=lambda loss: loss / scale)


def _training(optimizer, task, horizon_dropout, held_out):
    """The problem of training a task, whose losses are those of held-out examples if so wanted."""
    problem = problems.optimizer_weights(optimizer, task, horizon_dropout=horizon_dropout)
    return objectives.held_out(problem, task)._replace(name=f"{task.name} held-out") if held_out else problem


def adam_with_pull(
    theta: Any, num_steps: int, *, peak_rate: float, final_rate: float, pull_weight: float
) -> optax.GradientTransformation:
    """Adam with warm-up and cosine decay of its rate, and decoupled decay towards the initial theta.

    Args:
      theta: the initial meta-parameters.
      num_steps: outer steps of the run.
      peak_rate, final_rate: learning rates after the warm-up and at the end.
      pull_weight: see `pull`.
    """
    rate = warm_up_and_cosine(num_steps, peak_rate, final_rate)
    return optax.chain(optax.scale_by_adam(b2=0.99), pull(theta, pull_weight), optax.scale_by_learning_rate(rate))


def warm_up_and_cosine(num_steps: int, peak_rate: float, final_rate: float) -> optax.Schedule:
    """A learning rate for a run of that many outer steps: twenty of warm-up, or a tenth, then a cosine."""
    return optax.warmup_cosine_decay_schedule(0.0, peak_rate, min(20, num_steps // 10), num_steps, final_rate)


def pull(center: Any, weight: float) -> optax.GradientTransformation:
    """Decoupled decay towards a center instead of zero. Weights about which nothing is learned stay near the center."""
    add = lambda updates, params: jax.tree.map(lambda u, p, c: u + weight * (p - c), updates, params, center)
    return optax.stateless(add)


def nres_on_all_families(
    optimizer: LearnedOptimizer,
    pairs: Mapping[str, int],
    num_steps: int,
    seed: int,
    *,
    horizon_dropout: float,
    share: float,
) -> Recipe:
    """The recipe of the Prodigy-based optimizers: NRES on late losses, episodes of 100 to 2,000 steps.

    Args:
      optimizer: the architecture.
      pairs: antithetic pairs of each task.
      num_steps, seed, share: fields of the recipe.
      horizon_dropout: share of the episodes that hide their length from the optimizer.
    """
    theta = optimizer.init(jax.random.key(seed))
    horizon = truncation.power_law(100, 2000, 1.5)
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(
            nres_on_late_losses(
                optimizer, name, num_pairs=number, horizon=horizon, horizon_dropout=horizon_dropout, norm_power=1.0
            )
            for name, number in pairs.items()
        ),
        outer_optimizer=adam_with_pull(theta, num_steps, peak_rate=1e-2, final_rate=5e-4, pull_weight=0.15),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
        share=share,
    )


def pes_on_six_families(optimizer: LearnedOptimizer, num_steps: int, seed: int) -> Recipe:
    """PES from random weights, episodes of 100 to 2,000 steps.

    Each task's gradient is divided by its norm to the power 0.75, so that no task outweighs the others.
    """
    horizon = truncation.log_uniform(100, 2000)
    pes = lambda name, pairs: estimators.pes(
        problems.optimizer_weights(optimizer, tasks.get(name, sampled=True)),
        num_particles=pairs,
        unroll_length=50,
        horizon=horizon,
        std=0.01,
    )
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=tuple(estimators.normalized(pes(name, pairs), power=0.75) for name, pairs in _SIX_FAMILIES.items()),
        outer_optimizer=decaying_adam(num_steps),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )


def decaying_adam(num_steps: int) -> optax.GradientTransformation:
    """The outer optimizer of `pes_on_six_families`: Adam with cosine decay."""
    return optax.adam(optax.cosine_decay_schedule(3e-3, num_steps, alpha=0.05))


def truncated_backprop_on_one_task(task_name: str, num_particles: int, num_steps: int, seed: int) -> Recipe:
    """The recipe of Andrychowicz et al. 2016: a coordinatewise LSTM with two layers of 20 units, for one task.

    As in the paper (https://arxiv.org/abs/1606.04474): the losses of all 100 steps count, truncated backpropagation
    through 20 of them, no second derivatives, the outer optimizer Adam. Deviations: several functions at a time where
    the paper's code has one, a cosine decay of the outer learning rate instead of a search for it, clipping, and a
    fixed number of outer steps instead of a choice by validation.
    """
    optimizer = learned_optim.coordinatewise_lstm()
    task = tasks.get(task_name)
    scale = task.scale
    task = task._replace(normalize=lambda loss: loss / scale)  # the loss itself, and not its logarithm
    estimator = estimators.truncated_backprop(
        problems.optimizer_weights(optimizer, task, second_derivatives=False),
        num_particles=num_particles,
        unroll_length=20,
        horizon=truncation.constant(100),
    )
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=(estimator,),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, num_steps, alpha=0.03)),
        num_steps=num_steps,
        seed=seed,
        clip_norm=1.0,
    )


def sampled_backprop_on_one_task(
    task_name: str, every: int, num_steps: int, seed: int, *, peak_rate: float, final_rate: float
) -> Recipe:
    """`truncated_backprop_on_one_task` for long runs on larger networks: one function at a time, as in the paper.

    Deviations from the paper: the derivative is estimated from a sample of the coordinates of large tensors, see
    `problems.sampled_coordinates`; windows begin anywhere in an episode; and the outer learning rate decays as a
    cosine, where the paper searched for a constant one.

    Args:
      task_name: a task of the suites.
      every: derivatives pass through one of so many coordinates of a large tensor.
      num_steps, seed: fields of the recipe.
      peak_rate, final_rate: outer learning rates at the beginning and at the end.
    """
    optimizer = learned_optim.coordinatewise_lstm()
    task = tasks.get(task_name)
    scale = task.scale
    task = task._replace(normalize=lambda loss: loss / scale)  # the loss itself, and not its logarithm
    estimator = estimators.truncated_backprop(
        problems.sampled_coordinates(by_units(optimizer), task, every=every),
        num_particles=1,
        unroll_length=20,
        horizon=truncation.constant(100),
    )
    rate = optax.cosine_decay_schedule(peak_rate, num_steps, alpha=final_rate / peak_rate)
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=(estimator,),
        outer_optimizer=optax.adam(rate),
        num_steps=num_steps,
        seed=seed,
        clip_norm=1.0,
    )
