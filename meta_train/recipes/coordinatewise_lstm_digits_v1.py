"""`coordinatewise-lstm-digits-v1`: the LSTM of Andrychowicz et al. 2016 on a small network for images of digits.

https://arxiv.org/abs/1606.04474, whose network for MNIST has 20 sigmoid units; so has the task `digits-mlp-sigmoid`,
for the digits that come with scikit-learn. `parts.truncated_backprop_on_one_task` says how it is trained.
"""

from meta_train.recipes import Recipe
from meta_train.recipes import parts


def recipe(num_steps: int = 1000, seed: int = 0) -> Recipe:
    """Two hundred batches of four networks, five windows each."""
    return parts.truncated_backprop_on_one_task("digits-mlp-sigmoid", 4, num_steps, seed)
