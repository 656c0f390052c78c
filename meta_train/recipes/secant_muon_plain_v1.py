"""`secant-muon-plain-v1`: `adaptive_muon` with a slow momentum and secants, 101 weights; by backpropagation.

The sibling of `secant_muon_general_v1` without networks, on the same tasks. The results are in
pretrained/secant-muon-plain-v1/card.md.
"""

from meta_train.recipes import Recipe
from meta_train.recipes import secant_muon_general_v1


def recipe(num_steps: int = 64, seed: int = 0) -> Recipe:
    """As its sibling. A quarter of the way holds for tasks that it was not trained on."""
    made = secant_muon_general_v1.recipe(num_steps, seed, hidden_size=0, step_hidden_size=0)
    return made._replace(share=0.25)
