"""`prodigy-muon-schedule-v1`: Muon's directions in units of Prodigy's distance with a learned schedule, ten families.

How it was chosen stands in docs/lab-log.md, what came out in pretrained/prodigy-muon-schedule-v1/card.md.
"""

import jax
import optax

import learned_optim
from meta_train import truncation
from meta_train.recipes import Recipe
from meta_train.recipes.adam_residual_schedule_v1 import pull
from meta_train.recipes.prodigy_residual_schedule_v1 import estimator

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
    theta = optimizer.init(jax.random.key(seed))
    horizon = truncation.power_law(100, 2000, 1.5)
    learning_rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2, min(20, num_steps // 10), num_steps, 5e-4)
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(estimator(optimizer, name, pairs, horizon, 0.25) for name, pairs in PAIRS.items()),
        outer_optimizer=optax.chain(
            optax.scale_by_adam(b2=0.99), pull(theta, 0.15), optax.scale_by_learning_rate(learning_rate)
        ),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
        share=0.75,
    )
