"""`adaptive_muon` with a slow momentum, secants and two networks, 605 weights; NRES on the ends of trainings, on a GPU.

Nothing is released of it yet: docs/lab-log.md has what it reached. `benchmarks/network_gain.py` trains it beside its
sibling without networks, and measures what the networks add.
"""

import jax

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts
from meta_train.unroll import truncation

# For each task: antithetic pairs, the longest episodes in inner steps, and whether held-out losses count.
TASKS = {
    "broad-perceptron-narrow": (1024, 2000, False),
    "broad-perceptron": (256, 1500, True),
    "broad-linear": (512, 1500, False),
    "digits-conv": (192, 1500, False),
    "digits-mlp-large": (64, 500, False),
    "docs-transformer-small": (160, 1500, False),
    "diabetes-mlp": (256, 1500, True),
    "quadratic": (256, 1500, False),
    "matrix-factorisation": (128, 1500, False),
}


def recipe(
    num_steps: int = 400,
    seed: int = 0,
    hidden_size: int = 8,
    step_hidden_size: int = 16,
    std: float = 0.07,
    peak_rate: float = 5e-3,
    scale: float = 1.0,
) -> Recipe:
    """Episodes of 100 to 2,000 steps on nine tasks, a quarter of unknown length.

    Args:
      num_steps, seed: fields of the recipe.
      hidden_size, step_hidden_size: of the architecture; 0 leaves a network out.
      std: standard deviation of the perturbations.
      peak_rate: outer learning rate after the warm-up.
      scale: factor on the numbers of pairs: 1 for a GPU.
    """
    optimizer = learned_optim.secant_muon(hidden_size, step_hidden_size)
    theta = optimizer.init(jax.random.key(seed))
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(
            parts.nres_on_final_losses(
                optimizer,
                name,
                num_pairs=max(2, round(scale * pairs)),
                horizon=truncation.power_law(100, longest, 1.3),
                horizon_dropout=0.25,
                std=std,
                held_out=held_out,
            )
            for name, (pairs, longest, held_out) in TASKS.items()
        ),
        outer_optimizer=parts.adam_with_pull(
            theta, num_steps, peak_rate=peak_rate, final_rate=0.05 * peak_rate, pull_weight=0.0
        ),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
