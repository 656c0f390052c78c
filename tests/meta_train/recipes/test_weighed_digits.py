"""The recipe of a network from loss to weight: large losses, which are those of wrong labels, lose their weight."""

import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import problems
from meta_train import recipes
from meta_train.few_shot import perceptron


@pytest.mark.optax_promotion
def test_large_losses_lose_their_weight(tmp_path):
    recipe = recipes.get("weighed_digits", num_steps=300)
    weigh = lambda theta: problems.loss_weights(perceptron(1, (100,)), theta, jnp.array([0.0, 1.0, 2.0, 4.0]))
    assert np.ptp(weigh(recipe.theta)) == 0
    weights = weigh(recipes.run(recipe, run_dir=tmp_path, progress=False).theta)
    assert np.all(np.diff(weights) < 0) and weights[-1] < weights[0] / 2
