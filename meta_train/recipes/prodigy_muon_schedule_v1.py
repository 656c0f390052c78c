"""`prodigy-muon-schedule-v1`: Muon's directions in units of Prodigy's distance with a learned schedule, ten families.

docs/lab-log.md says how it was chosen; the results are in pretrained/prodigy-muon-schedule-v1/card.md.
"""

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts

# Antithetic pairs of each task: those where gradients are noise for the most part have more.
PAIRS = {
    "digits-mlp": 4,
    "digits-mlp-tanh": 6,
    "digits-softmax": 12,
    "digits-conv": 6,
    "digits-resnet-small": 6,
    "digits-vit-small": 10,
    "digits-autoencoder": 12,
    "digits-vae": 6,
    "docs-gru-small": 16,
    "docs-transformer-small": 12,
    "diabetes-mlp": 6,
    "quadratic": 4,
    "quadratic-ill-conditioned": 6,
}


def recipe(num_steps: int = 400, seed: int = 0) -> Recipe:
    """NRES on all families, 100 to 2,000 steps, a quarter of unknown length; three quarters of the way are kept."""
    optimizer = learned_optim.prodigy_muon()
    return parts.nres_on_all_families(optimizer, PAIRS, num_steps, seed, horizon_dropout=0.25, share=0.75)
