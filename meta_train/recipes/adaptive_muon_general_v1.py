"""Muon's directions, controlled step sizes and learned decay, 38 weights; CMA-ES on the ends of whole trainings.

Nothing is released of it yet: docs/lab-log.md has what it reached.
"""

import jax

import learned_optim
from meta_train.outer import search
from meta_train.recipes import Recipe
from meta_train.recipes import parts
from meta_train.unroll import truncation

# The longest episodes, in inner steps; those of large models and of slow ones are shorter.
TASKS = {
    "digits-mlp": 1500,
    "digits-mlp-tanh": 1500,
    "digits-mlp-large": 400,
    "digits-softmax": 1500,
    "digits-conv": 1500,
    "digits-vit-small": 800,
    "digits-autoencoder": 1000,
    "docs-gru-small": 500,
    "docs-transformer-small": 1500,
    "docs-transformer-wide": 300,
    "diabetes-mlp": 1500,
    "quadratic": 1500,
    "quadratic-ill-conditioned": 1500,
}
# As `TASKS`, for tasks whose held-out losses count.
HELD_OUT = {"digits-mlp": 1500, "digits-mlp-layernorm": 1500, "digits-conv": 1000, "diabetes-mlp": 1500}


def recipe(num_steps: int = 60, seed: int = 0) -> Recipe:
    """Ranks of 16 candidates by the ends of episodes of 100 to 1,500 steps, a quarter of unknown length."""
    optimizer = learned_optim.adaptive_muon()
    cma_es = search.cma_es(num_candidates=16, std=0.2, max_generations=num_steps)
    tasks = [(name, longest, False) for name, longest in TASKS.items()]
    tasks += [(name, longest, True) for name, longest in HELD_OUT.items()]
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=tuple(
            parts.final_losses(
                optimizer,
                name,
                num_particles=2,
                horizon=truncation.power_law(100, longest, 1.3),
                horizon_dropout=0.25,
                held_out=held_out,
            )
            for name, longest, held_out in tasks
        ),
        outer_optimizer=cma_es._replace(combine=search.mean_ranks),
        num_steps=num_steps,
        seed=seed,
    )
