"""`celo-scheduled-v1`: stage 2 of Celo (Moudgil et al. 2025): a scheduler for the rule of `celo-rule-v1`, which stays.

What came out stands in pretrained/celo-scheduled-v1/card.md.
"""

import jax
import jax.numpy as jnp
import optax

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes.factored_mlp_general_v1 import PAIRS
from meta_train.recipes.factored_mlp_general_v1 import pes_on


def recipe(num_steps: int = 500, seed: int = 0) -> Recipe:
    """PES on the scheduler alone, on the tasks of stage 1."""
    _, rule = learned_optim.load_pretrained("celo-rule-v1")
    full = learned_optim.celo(lstm_size=16)
    theta = full.init(jax.random.key(seed)) | jax.tree.map(jnp.asarray, rule)
    trained = {"rule": False, "scheduler": True}
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, num_steps, alpha=0.05))
    return Recipe(
        optimizer=full,
        theta=theta,
        estimators=pes_on(full, PAIRS),
        outer_optimizer=optax.chain(
            optax.masked(adam, trained), optax.masked(optax.set_to_zero(), jax.tree.map(lambda x: not x, trained))
        ),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
