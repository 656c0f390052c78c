"""`adaptive_muon` with a slow momentum, secants and two networks, 605 weights, on a broad mix; by backpropagation.

A third of the tasks draw model and data anew in each episode. Without them the networks learn what holds for a few
tasks alone. With them they are no better on other tasks than their sibling without networks, which
`benchmarks/network_gain.py` trains beside them, and so nothing is released of it (docs/lab-log.md). It needs
Fashion-MNIST, see docs/data.md.
"""

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes.on_final_losses import Episodes
from meta_train.recipes.on_final_losses import backprop_on

EPISODES = (
    Episodes("broad-perceptron-small", 4, 600, False, 0.01),
    Episodes("broad-perceptron-small", 4, 600, True, 1e-5),
    Episodes("broad-linear", 8, 1000, False, 1e-3),
    Episodes("digits-conv", 2, 400, True, 1e-5),
    Episodes("docs-gru-small", 2, 400, False, 1e-5),
    Episodes("diabetes-mlp", 6, 1000, True, 1e-5),
    Episodes("quadratic-ill-conditioned", 8, 1000, False, 1e-5),
    Episodes("digits-mlp", 4, 1000, False, 0.01),
    Episodes("fashion-mlp", 3, 600, True, 1e-5),
)


def recipe(num_steps: int = 64, seed: int = 0, hidden_size: int = 8, step_hidden_size: int = 16) -> Recipe:
    """Episodes of 100 to 1,000 steps of nine kinds, a quarter of the way.

    Args:
      num_steps, seed: fields of the recipe.
      hidden_size, step_hidden_size: of the architecture; 0 leaves a network out.
    """
    optimizer = learned_optim.secant_muon(hidden_size, step_hidden_size)
    return backprop_on(EPISODES, optimizer, num_steps, seed)._replace(share=0.25)
