"""An L2 penalty for each weight of a linear model, learned on validation digits: hyperparameters as theta.

Lorraine, Vicol, Duvenaud 2019, "Optimizing Millions of Hyperparameters by Implicit Differentiation",
https://arxiv.org/abs/1911.02590
"""

import jax
import jax.numpy as jnp
import optax

from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train.few_shot.networks import perceptron
from meta_train.problems import TrustedData
from meta_train.recipes import Recipe
from meta_train.tasks.prediction import cross_entropy

RATE = 0.1  # of the inner descent


def recipe(num_steps: int = 200, seed: int = 0) -> Recipe:
    """Implicit differentiation by conjugate gradients; 200 digits to train on, and the others to validate."""
    digits = data.load("digits")
    few = TrustedData(digits.train_x[:200], digits.train_y[:200], digits.train_x[200:], digits.train_y[200:])

    def mean_loss(theta, apply, rows, inputs, targets):
        del theta, rows
        return jnp.mean(cross_entropy(apply(inputs), targets))

    network = perceptron(10, ())
    plain = problems.judged_by_trusted(few, network, mean_loss, name="penalized-digits", batch_size=len(digits.train_x))
    estimator = estimators.implicit(
        problems.weight_penalty(plain),
        inner_optimizer=optax.sgd(RATE, momentum=0.9),
        inner_steps=20,
        solver=estimators.linear_solvers.conjugate_gradient(max_steps=20, damping=1e-3),
        units=problems.penalty_units(RATE),
    )
    return Recipe(
        optimizer=None,
        theta=problems.penalty_theta(network.init(jax.random.key(seed), few.train_x[:1]), 1e-3),
        estimators=(estimator,),
        outer_optimizer=optax.adam(0.1),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
