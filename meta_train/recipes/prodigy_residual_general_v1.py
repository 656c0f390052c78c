"""`prodigy-residual-general-v1`: Prodigy with a mix and, by an MLP, a step that depend on tensor and progress.

It starts from `prodigy-residual-schedule-v1`. How it was chosen stands in docs/lab-log.md, what came out in
pretrained/prodigy-residual-general-v1/card.md.
"""

import jax
import jax.numpy as jnp
import optax

import learned_optim
from meta_train import truncation
from meta_train.recipes import Recipe
from meta_train.recipes.adam_residual_schedule_v1 import estimator
from meta_train.recipes.adam_residual_schedule_v1 import pull
from meta_train.recipes.prodigy_residual_schedule_v1 import PAIRS


def recipe(num_steps: int = 1500, seed: int = 0, hidden_size: int = 0) -> Recipe:
    """NRES on all families, episodes of 100 to 2,000 steps, of which a sixth hide their length."""
    optimizer = learned_optim.prodigy_residual(hidden_size=hidden_size)
    _, small = learned_optim.load_pretrained("prodigy-residual-schedule-v1")
    fresh = optimizer.init(jax.random.key(seed))
    theta = {name: fresh[name] | jax.tree.map(jnp.asarray, small[name]) for name in fresh}
    horizon = truncation.power_law(100, 2000, 1.5)
    learning_rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, min(20, num_steps // 10), num_steps, 1e-4)
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(estimator(optimizer, name, pairs, horizon) for name, pairs in PAIRS.items()),
        outer_optimizer=optax.chain(
            optax.scale_by_adam(b2=0.99), pull(theta, 0.1), optax.scale_by_learning_rate(learning_rate)
        ),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
