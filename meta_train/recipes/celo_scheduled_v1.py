"""`celo-scheduled-v1`: stage 2 of Celo (Moudgil et al. 2025): a scheduler for the rule of `celo-rule-v1`, which stays.

The results are in pretrained/celo-scheduled-v1/card.md.
"""

from collections.abc import Hashable

import optax

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts


def recipe(num_steps: int = 500, seed: int = 0) -> Recipe:
    """As stage 1, with the rule as it was released and frozen."""
    both = parts.pes_on_six_families(learned_optim.celo(lstm_size=16, feature_version=1), num_steps, seed)
    _, rule = learned_optim.load_pretrained("celo-rule-v1")
    movers: dict[Hashable, optax.GradientTransformation] = {
        "train": parts.decaying_adam(num_steps),
        "freeze": optax.set_to_zero(),
    }
    return both._replace(
        theta={**both.theta, **rule},
        outer_optimizer=optax.multi_transform(movers, {"rule": "freeze", "scheduler": "train"}),
    )
