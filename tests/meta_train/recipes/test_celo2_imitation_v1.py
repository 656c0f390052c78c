"""The recipe of Celo2 by imitation: what is released of a run."""

import jax
import numpy as np

import learned_optim
from meta_train.recipes import celo2_imitation_v1


def test_shortened_steps():
    """Updates are shorter by the same factor, matrices and vectors alike."""
    optimizer = celo2_imitation_v1.recipe(num_steps=1).optimizer
    assert optimizer is not None
    theta = jax.tree.map(np.asarray, optimizer.init(jax.random.key(0)))
    params = {"w": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}

    def updates(theta):
        tx = optimizer.transform(theta, num_steps=10)
        return jax.jit(lambda params: tx.update(params, tx.init(params), params)[0])(params)

    before, after = updates(theta), updates(celo2_imitation_v1.shortened(theta))
    for name in params:
        np.testing.assert_allclose(after[name], np.exp(-0.5) * before[name], rtol=1e-5)


def test_the_released_weights_are_of_the_recipe_s_kind():
    optimizer, theta = learned_optim.load_pretrained("celo2-imitation-v1")
    made = celo2_imitation_v1.recipe().optimizer
    assert made is not None
    assert made.spec == optimizer.spec
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(theta)) == 332
