"""`prodigy-residual-schedule-v1`: Prodigy with a learned schedule and mix, 26 weights, on twelve families.

How it was chosen stands in docs/lab-log.md, what came out in pretrained/prodigy-residual-schedule-v1/card.md.
"""

import jax
import optax

import learned_optim
from meta_train import truncation
from meta_train.recipes import Recipe
from meta_train.recipes.adam_residual_schedule_v1 import estimator
from meta_train.recipes.adam_residual_schedule_v1 import pull

# Antithetic pairs of each task: cheap tasks and hard ones have more.
PAIRS = {
    "digits-mlp": 6,
    "digits-mlp-tanh": 6,
    "digits-softmax": 6,
    "digits-mlp-layernorm": 4,
    "digits-conv": 6,
    "digits-resnet-small": 6,
    "digits-vit-small": 10,
    "digits-autoencoder": 8,
    "digits-vae": 4,
    "docs-gru-small": 8,
    "docs-transformer-small": 6,
    "diabetes-mlp": 8,
    "matrix-factorisation": 4,
    "quadratic-ill-conditioned": 8,
}


def recipe(num_steps: int = 500, seed: int = 0) -> Recipe:
    """NRES on all families, episodes of 100 to 2,000 steps, of which a sixth hide their length."""
    optimizer = learned_optim.prodigy_residual(hidden_size=0, step_hidden_size=0, mix=False)
    theta = optimizer.init(jax.random.key(seed))
    horizon = truncation.power_law(100, 2000, 1.5)
    learning_rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2, min(20, num_steps // 10), num_steps, 5e-4)
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(estimator(optimizer, name, pairs, horizon) for name, pairs in PAIRS.items()),
        outer_optimizer=optax.chain(
            optax.scale_by_adam(b2=0.99), pull(theta, 0.02), optax.scale_by_learning_rate(learning_rate)
        ),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
