"""Muon's directions, controlled step sizes and learned decay, 36 weights; ten families, also held-out losses.

Nothing is released of it yet: docs/lab-log.md has what it reached.
"""

import jax

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts
from meta_train.unroll import truncation

# Antithetic pairs of each task: those where gradients are noise for the most part have more, the large models few.
PAIRS = {
    "digits-mlp": 4,
    "digits-mlp-tanh": 6,
    "digits-mlp-large": 2,
    "digits-softmax": 12,
    "digits-conv": 6,
    "digits-resnet-small": 6,
    "digits-vit-small": 10,
    "digits-autoencoder": 12,
    "digits-vae": 6,
    "docs-gru-small": 16,
    "docs-transformer-small": 12,
    "docs-transformer-wide": 2,
    "diabetes-mlp": 6,
    "quadratic": 4,
    "quadratic-ill-conditioned": 6,
}
# As `PAIRS`, for tasks whose held-out losses count.
HELD_OUT_PAIRS = {"digits-mlp": 8, "digits-mlp-layernorm": 8, "digits-conv": 6, "diabetes-mlp": 12, "digits-softmax": 8}


def recipe(num_steps: int = 400, seed: int = 0) -> Recipe:
    """NRES on all families, 100 to 2,000 steps, a quarter of unknown length; three quarters of the way are kept."""
    optimizer = learned_optim.adaptive_muon()
    theta = optimizer.init(jax.random.key(seed))
    pairs = [(name, number, False) for name, number in PAIRS.items()]
    pairs += [(name, number, True) for name, number in HELD_OUT_PAIRS.items()]
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(
            parts.nres_on_late_losses(
                optimizer,
                name,
                num_pairs=number,
                horizon=truncation.power_law(100, 2000, 1.5),
                horizon_dropout=0.25,
                norm_power=1.0,
                held_out=held_out,
            )
            for name, number, held_out in pairs
        ),
        outer_optimizer=parts.adam_with_pull(theta, num_steps, peak_rate=1e-2, final_rate=5e-4, pull_weight=0.1),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
        share=0.75,
    )
