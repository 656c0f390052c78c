"""`prodigy-residual-schedule-v1`: Prodigy with a learned schedule and mix, 26 weights, on ten families.

docs/lab-log.md says how it was chosen; the results are in pretrained/prodigy-residual-schedule-v1/card.md.
"""

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts

# Antithetic pairs of each task: those where gradients are noise for the most part have more.
PAIRS = {
    "digits-mlp": 6,
    "digits-mlp-tanh": 6,
    "digits-softmax": 8,
    "digits-conv": 6,
    "digits-resnet-small": 6,
    "digits-vit-small": 10,
    "digits-autoencoder": 12,
    "digits-vae": 6,
    "docs-gru-small": 12,
    "docs-transformer-small": 12,
    "diabetes-mlp": 6,
    "quadratic-ill-conditioned": 6,
}


def recipe(num_steps: int = 400, seed: int = 0) -> Recipe:
    """NRES on all families, episodes of 100 to 2,000 steps, a sixth of them of unknown length; half the way is kept."""
    optimizer = learned_optim.prodigy_residual(hidden_size=0, step_hidden_size=0, mix=False)
    return parts.nres_on_all_families(optimizer, PAIRS, num_steps, seed, horizon_dropout=0.15, share=0.5)
