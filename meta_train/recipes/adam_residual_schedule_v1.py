"""`adam-residual-schedule-v1`: a learned mix of Adam-like directions and a learned step size, on ten families.

docs/lab-log.md says how it was chosen; the results are in pretrained/adam-residual-schedule-v1/card.md.
"""

import jax

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts
from meta_train.unroll import truncation

# Antithetic pairs of each task: cheap tasks have more.
PAIRS = {
    "digits-mlp": 8,
    "digits-mlp-tanh": 8,
    "digits-softmax": 6,
    "digits-mlp-layernorm": 4,
    "digits-conv": 4,
    "digits-vit-small": 6,
    "digits-autoencoder": 6,
    "docs-gru-small": 8,
    "docs-transformer-small": 4,
    "diabetes-mlp": 8,
    "matrix-factorisation": 8,
    "quadratic": 8,
    "quadratic-ill-conditioned": 8,
}


def recipe(num_steps: int = 1900, seed: int = 0) -> Recipe:
    """NRES on all families, episodes of 100 to 2,000 steps, of which 15 % hide their length."""
    optimizer = learned_optim.adam_residual(hidden_size=0)
    theta = optimizer.init(jax.random.key(seed))
    horizon = truncation.log_uniform(100, 2000)
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(
            parts.nres_on_late_losses(
                optimizer, name, num_pairs=number, horizon=horizon, horizon_dropout=0.15, norm_power=0.75
            )
            for name, number in PAIRS.items()
        ),
        outer_optimizer=parts.adam_with_pull(theta, num_steps, peak_rate=6e-3, final_rate=3e-4, pull_weight=0.1),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
