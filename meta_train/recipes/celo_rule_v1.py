"""`celo-rule-v1`: stage 1 of Celo (Moudgil et al. 2025): the rule alone, by PES on six families.

Stage 2 is `celo_scheduled_v1`. The results are in pretrained/celo-rule-v1/card.md.
"""

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts


def recipe(num_steps: int = 1500, seed: int = 0) -> Recipe:
    """As `factored_mlp_general_v1`, for another architecture."""
    optimizer = learned_optim.celo(lstm_size=16, scheduler=False, feature_version=1)
    return parts.pes_on_six_families(optimizer, num_steps, seed)
