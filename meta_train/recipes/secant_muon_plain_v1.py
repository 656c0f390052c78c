"""The sibling of `secant_muon_general_v1` without networks, 101 weights, on the same tasks.

Nothing is released of it yet: docs/lab-log.md has what it reached.
"""

from meta_train.recipes import Recipe
from meta_train.recipes import secant_muon_general_v1


def recipe(num_steps: int = 400, seed: int = 0, scale: float = 1.0) -> Recipe:
    """As its sibling, with larger perturbations and a larger rate, as it has fewer weights."""
    return secant_muon_general_v1.recipe(
        num_steps, seed, hidden_size=0, step_hidden_size=0, std=0.1, peak_rate=1e-2, scale=scale
    )
