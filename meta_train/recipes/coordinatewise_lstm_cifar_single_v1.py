"""`coordinatewise-lstm-cifar-single-v1`: the LSTM of Andrychowicz et al. 2016 on a convolutional net for CIFAR-10.

https://arxiv.org/abs/1606.04474. One LSTM serves all coordinates; the paper's pair is `coordinatewise_lstm_cifar_v1`.
`lstm_on_cifar.backprop_on_cifar` says how it is trained, and where that deviates from the paper.
"""

from meta_train.recipes import Recipe
from meta_train.recipes import lstm_on_cifar


def recipe(num_steps: int = 1200, seed: int = 0, num_particles: int = 1) -> Recipe:
    """As the pair."""
    return lstm_on_cifar.backprop_on_cifar(
        num_steps, seed, separate_kernels=False, num_particles=num_particles, every=4, peak_rate=3e-3
    )
