"""The recipe of ten synthetic digits: what it learns trains networks better than the real ones it began with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import problems
from meta_train import recipes
from meta_train.few_shot import perceptron


@pytest.mark.optax_promotion
def test_fresh_networks_do_better_on_the_learned_pictures(tmp_path):
    digits, network = data.load("digits"), perceptron(10, (32,))
    recipe = recipes.get("distilled_digits", num_steps=100)
    result = recipes.run(recipe, run_dir=tmp_path, progress=False)

    @jax.jit
    def accuracy(theta, key):
        """After the 20 steps of gradient descent that the recipe unrolls."""

        def update(params, _):
            gradient = jax.grad(lambda params: problems.synthetic_loss(network, params, theta.inputs))(params)
            return jax.tree.map(lambda w, g: w - jnp.exp(theta.log_rate) * g, params, gradient), None

        params, _ = jax.lax.scan(update, network.init(key, digits.test_x[:1]), length=20)
        return jnp.mean((jnp.argmax(network.apply(params, digits.test_x), axis=-1) == digits.test_y) * 1.0)

    theta = jax.tree.map(jnp.asarray, result.theta)
    before, after = (np.mean([accuracy(each, jax.random.key(k)) for k in range(3)]) for each in (recipe.theta, theta))
    assert after > before + 0.1
