"""`coordinatewise-lstm-cifar-v1`: the two LSTMs of Andrychowicz et al. 2016 on a convolutional net for CIFAR-10.

https://arxiv.org/abs/1606.04474: one LSTM for the kernels of convolutions, one for everything else.
`lstm_on_cifar.backprop_on_cifar` says how they are trained, and where that deviates from the paper.
"""

from meta_train.recipes import Recipe
from meta_train.recipes import lstm_on_cifar


def recipe(num_steps: int = 1200, seed: int = 0, num_particles: int = 1) -> Recipe:
    """One network at a time, as a CPU does it: two thirds of an hour. A GPU has time for 16: `num_particles`."""
    return lstm_on_cifar.backprop_on_cifar(
        num_steps, seed, separate_kernels=True, num_particles=num_particles, every=4, peak_rate=3e-3
    )
