"""`coordinatewise-lstm-mnist-v1`: the LSTM of Andrychowicz et al. 2016 on their network for MNIST.

https://arxiv.org/abs/1606.04474: a perceptron of 20 sigmoid units on pictures of 28×28 pixels, minibatches of 128,
episodes of 100 steps, windows of 20. `parts.sampled_backprop_on_one_task` says how it is trained.
"""

from meta_train.recipes import Recipe
from meta_train.recipes import parts


def recipe(num_steps: int = 50000, seed: int = 0) -> Recipe:
    """Ten thousand episodes, of five windows each."""
    return parts.sampled_backprop_on_one_task("mnist-mlp-sigmoid", 21, num_steps, seed, peak_rate=5e-3, final_rate=5e-5)
