"""`celo-rule-v1`: stage 1 of Celo (Moudgil et al. 2025): the rule alone, by PES on six families.

Stage 2 is `celo_scheduled_v1`. What came out stands in pretrained/celo-rule-v1/card.md.
"""

import jax
import optax

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes.factored_mlp_general_v1 import PAIRS
from meta_train.recipes.factored_mlp_general_v1 import pes_on


def recipe(num_steps: int = 1500, seed: int = 0) -> Recipe:
    """PES on all families with what their episodes draw, episodes of 100 to 2,000 steps."""
    optimizer = learned_optim.celo(lstm_size=16, scheduler=False)
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=pes_on(optimizer, PAIRS),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, num_steps, alpha=0.05)),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
