"""`secant-muon-plain-v1`: `adaptive_muon` with a slow momentum and secants, 101 weights; by backpropagation.

It has no networks, and was trained on six tasks. The results are in pretrained/secant-muon-plain-v1/card.md.
"""

import learned_optim
from meta_train.recipes import Recipe
from meta_train.recipes.on_final_losses import Episodes
from meta_train.recipes.on_final_losses import backprop_on

EPISODES = (
    Episodes("digits-mlp", 4, 1000, False, 0.01),
    Episodes("digits-mlp-layernorm", 2, 400, True, 1e-5),
    Episodes("digits-softmax", 6, 1000, False, 0.01),
    Episodes("docs-gru-small", 2, 400, False, 1e-5),
    Episodes("diabetes-mlp", 6, 1000, True, 1e-5),
    Episodes("quadratic-ill-conditioned", 8, 1000, False, 1e-5),
)


def recipe(num_steps: int = 64, seed: int = 0) -> Recipe:
    """Episodes of 100 to 1,000 steps. A quarter of the way holds for tasks that it was not trained on."""
    return backprop_on(EPISODES, learned_optim.secant_muon(0, 0), num_steps, seed)._replace(share=0.25)
