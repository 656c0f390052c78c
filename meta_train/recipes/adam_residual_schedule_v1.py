"""`adam-residual-schedule-v1`: a learned mix of Adam-like directions and a learned step size, on ten families.

How it was chosen stands in docs/lab-log.md, what came out in pretrained/adam-residual-schedule-v1/card.md.
"""

import jax
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.problems import objectives
from meta_train.recipes import Recipe
from meta_train.unroll import truncation

# Antithetic pairs of each task: cheap tasks have more.
PAIRS = {
    "digits-mlp": 8,
    "digits-mlp-tanh": 8,
    "digits-softmax": 6,
    "digits-mlp-layernorm": 4,
    "digits-conv": 4,
    "digits-vit-small": 6,
    "digits-autoencoder": 6,
    "docs-gru-small": 8,
    "docs-transformer-small": 4,
    "diabetes-mlp": 8,
    "matrix-factorisation": 8,
    "quadratic": 8,
    "quadratic-ill-conditioned": 8,
}


def recipe(num_steps: int = 1900, seed: int = 0) -> Recipe:
    """NRES on all families, episodes of 100 to 2,000 steps, of which a sixth hide their length."""
    optimizer = learned_optim.adam_residual(hidden_size=0)
    theta = optimizer.init(jax.random.key(seed))
    horizon = truncation.log_uniform(100, 2000)
    learning_rate = optax.warmup_cosine_decay_schedule(0.0, 6e-3, min(20, num_steps // 10), num_steps, 3e-4)
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


def estimator(optimizer, name, pairs, horizon):
    """Of one task: late losses count more, and hard tasks have almost the say of easy ones."""
    task = tasks.get(name, sampled=True)
    task = task._replace(normalize=tasks.power_normalizer(task.normalize.keywords["scale"], power=0.3))
    problem = objectives.late(problems.optimizer_weights(optimizer, task, horizon_dropout=0.15), power=1.0)
    nres = estimators.nres(problem, num_particles=pairs, unroll_length=50, horizon=horizon, std=0.03)
    return estimators.normalised(nres, power=0.75)


def pull(center, weight):
    """Decoupled decay towards a center in the place of zero: what nothing is learned about stays where it began."""
    add = lambda updates, params: jax.tree.map(lambda u, p, c: u + weight * (p - c), updates, params, center)
    return optax.stateless(add)
