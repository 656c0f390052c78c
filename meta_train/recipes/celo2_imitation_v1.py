"""`celo2-imitation-v1`: Celo2 (Moudgil et al. 2026) with a learned schedule, 332 weights, by imitation of the default.

A pure network: no direction is designed. It never sees how its own updates lead to lower losses: each outer step
compares one update with that of the default, at half of its step size, along trainings that either of the two leads.
"""

from typing import Any

import jax
import numpy as np
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import Estimator
from meta_train.recipes import Recipe
from meta_train.unroll import truncation

TASKS = ("digits-softmax", "quadratic-ill-conditioned", "digits-mlp", "docs-gru-small")
HORIZON = 500  # inner steps
STEP_SCALE = 0.5  # a controller, which Celo2 lacks, may take steps that are too long, and take them back
SHORTER = 0.5  # of the log step sizes, see `shortened`


def recipe(num_steps: int = 1000, seed: int = 0) -> Recipe:
    """Episodes of 500 steps on four tasks, a quarter of unknown length."""
    optimizer = learned_optim.celo2(vector_step_multiplier=None, newton_schulz_steps=5, scheduled=True)
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2, min(20, num_steps // 10), num_steps, 3e-4)
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=tuple(_imitation(optimizer, name) for name in TASKS),
        outer_optimizer=optax.adam(rate),
        num_steps=num_steps,
        seed=seed,
        program_per_task=True,
    )


def shortened(theta: Any) -> Any:
    """The released theta: shorter steps than imitation teaches, by a factor chosen on validation tasks.

    Args:
      theta: what the recipe's run gives.
    """
    lengths = {name: theta["schedule"][name] - np.float32(SHORTER) for name in ("matrices", "vectors")}
    return {**theta, "schedule": {**theta["schedule"], **lengths}}


def _imitation(optimizer: learned_optim.LearnedOptimizer, task_name: str) -> Estimator:
    """The derivative of the difference between updates, mostly that of directions: lengths differ by a schedule."""
    problem = problems.imitation(
        optimizer,
        tasks.get(task_name, sampled=True),
        learned_optim.learned_optimizer("adaptive-muon-scanned-v1", num_steps=HORIZON, step_scale=STEP_SCALE),
        expert_steps=1,
        expert_batches=1,
        magnitude=0.05,
        led_share=0.5,
        horizon_dropout=0.25,
    )
    return estimators.truncated_backprop(
        problem, num_particles=4, unroll_length=5, horizon=truncation.constant(HORIZON)
    )
