"""`factored-mlp-general-v1`: the small factored MLP of Metz et al. 2022, by PES on six families.

The results are in pretrained/factored-mlp-general-v1/card.md.
"""

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes import parts


def recipe(num_steps: int = 1500, seed: int = 0) -> Recipe:
    """PES on six families, each episode a variation of its task, episodes of 100 to 2,000 steps."""
    return parts.pes_on_six_families(learned_optim.factored_mlp(), num_steps, seed)
