"""Ten synthetic digits, one of each class, on which networks are trained: data as theta.

Wang, Zhu, Torralba, Efros 2018, "Dataset Distillation", https://arxiv.org/abs/1811.10959
"""

import jax
import jax.numpy as jnp
import optax

from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train.few_shot.networks import perceptron
from meta_train.problems import Synthetic
from meta_train.recipes import Recipe
from meta_train.unroll import truncation


def recipe(num_steps: int = 1_000, seed: int = 0) -> Recipe:
    """Theta is a `Synthetic`: backpropagation through 20 steps of training on it, to the loss on real examples."""
    digits = data.load("digits")
    bilevel = problems.synthetic_training(digits, perceptron(10, (32,)), batch_size=128)
    training = problems.unrolled(bilevel, lambda theta: optax.sgd(jnp.exp(theta.log_rate)), inner_steps=20)
    estimator = estimators.truncated_backprop(
        training, num_particles=1, unroll_length=1, horizon=truncation.constant(1), stagger=False
    )
    pictures = problems.real_examples(jax.random.key(seed), digits, per_class=1)
    return Recipe(
        optimizer=None,
        theta=Synthetic(pictures, jnp.log(0.1)),
        estimators=(estimator,),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, num_steps)),  # with .01 trainings diverge
        num_steps=num_steps,
        seed=seed,
    )
