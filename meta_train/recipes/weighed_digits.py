"""A network from an example's loss to its weight, for digits of which 40 % have wrong labels: a loss as theta.

Shu et al. 2019, "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting", https://arxiv.org/abs/1902.07379
"""

import jax
import jax.numpy as jnp
import optax

from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train.few_shot.networks import perceptron
from meta_train.recipes import Recipe


def recipe(num_steps: int = 1_000, seed: int = 0) -> Recipe:
    """EvoGrad beside the training of a classifier, which 30 examples with right labels judge."""
    noisy = problems.trusted_data(data.load("digits"), num_trusted=30, noise=0.4, seed=seed)
    bilevel = problems.meta_weight_net(noisy, perceptron(10, (32,)), batch_size=100)
    estimator = estimators.evograd(
        bilevel, inner_optimizer=optax.sgd(0.1, momentum=0.9), inner_steps=1, noise=jax.random.rademacher
    )
    weigher = perceptron(1, (100,))
    theta = weigher.init(jax.random.key(seed), jnp.zeros((1, 1)))
    return Recipe(
        optimizer=None,
        theta={**theta, weigher.head: jax.tree.map(jnp.zeros_like, theta[weigher.head])},  # all weigh the same
        estimators=(estimator,),
        outer_optimizer=optax.adam(1e-3),
        num_steps=num_steps,
        seed=seed,
    )
