"""`coordinatewise-lstm-quadratic-v1`: the LSTM of Andrychowicz et al. 2016 on random quadratics of ten dimensions.

Andrychowicz et al. 2016, "Learning to learn by gradient descent by gradient descent", https://arxiv.org/abs/1606.04474

`parts.truncated_backprop_on_one_task` says how it is trained, and where that deviates from the paper.
"""

from meta_train.recipes import Recipe
from meta_train.recipes import parts


def recipe(num_steps: int = 10_000, seed: int = 0) -> Recipe:
    """Two thousand batches of 16 functions, five windows each."""
    return parts.truncated_backprop_on_one_task("quadratic", 16, num_steps, seed)
