"""The recipes of `secant_muon`: which weights move how far, and what the sibling without networks has in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from meta_train.recipes import on_final_losses
from meta_train.recipes import secant_muon_plain_v1

_QUADRATIC = (on_final_losses.Episodes("quadratic-ill-conditioned", 2, 200, False, 1e-5),)


@pytest.mark.optax_promotion  # of its schedules
@pytest.mark.parametrize("sizes", [(8, 16), (0, 0)])
def test_networks_have_a_third_of_the_rate(sizes):
    """Adam moves every weight by its rate where all gradients are alike."""
    made = on_final_losses.backprop_on(_QUADRATIC, learned_optim.secant_muon(*sizes), 10, 0)
    state = made.outer_optimizer.init(made.theta)
    ones = jax.tree.map(jnp.ones_like, made.theta)
    for _ in range(2):  # the first is that of the warm-up's rate, 0
        updates, state = jax.jit(made.outer_optimizer.update)(ones, state, made.theta)
    expected = {name: -3e-3 if name.endswith("_network") else -1e-2 for name in made.theta}
    for name, tree in updates.items():
        for leaf in jax.tree.leaves(tree):
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-3)


def test_episodes_become_estimators():
    recipe = secant_muon_plain_v1.recipe(num_steps=7, seed=3)
    assert (recipe.num_steps, recipe.seed, recipe.share, recipe.program_per_task) == (7, 3, 0.25, True)
    held_out = {each.name for each in recipe.estimators if each.name.endswith(" held-out")}
    assert held_out == {"digits-mlp-layernorm held-out", "diabetes-mlp held-out"}
    numbers = [each.num_particles for each in recipe.estimators]
    assert numbers == [each.number for each in secant_muon_plain_v1.EPISODES]
    assert "step_network" not in recipe.theta
