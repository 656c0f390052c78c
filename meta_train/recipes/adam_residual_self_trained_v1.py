"""`adam-residual-self-trained-v1`: from random weights, trained by the optimizer that it is at the moment.

No other optimizer takes part: theta moves itself, from the first outer step on (`self_training.live`). What came out
stands in pretrained/adam-residual-self-trained-v1/card.md.
"""

import jax

import learned_optim
from meta_train.outer import safeguards
from meta_train.outer import self_training
from meta_train.recipes import Recipe
from meta_train.recipes import parts
from meta_train.unroll import truncation

# Antithetic pairs of each task.
PAIRS = {
    "digits-mlp-tanh": 8,
    "digits-conv": 4,
    "digits-vit-small": 6,
    "digits-autoencoder": 8,
    "docs-gru-small": 8,
    "diabetes-mlp": 8,
    "quadratic-ill-conditioned": 8,
}


def recipe(num_steps: int = 700, seed: int = 0) -> Recipe:
    """NRES on seven families, episodes of 100 to 2,000 steps, of which 15 % hide their length."""
    optimizer = learned_optim.adam_residual(hidden_size=0)
    horizon = truncation.power_law(100, 2000, 1.5)
    live = self_training.live(optimizer, num_steps=num_steps, step_scale=0.3)
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=tuple(
            parts.nres_on_late_losses(
                optimizer, name, num_pairs=number, horizon=horizon, horizon_dropout=0.15, norm_power=0.75
            )
            for name, number in PAIRS.items()
        ),
        outer_optimizer=safeguards.safeguarded(live, max_step=0.1, max_rise=0.3, window=50),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
