"""What the recipes of the LSTMs for CIFAR-10 share: the network, its data, and how an LSTM is trained on it."""

from collections.abc import Sequence

import numpy as np
import optax

import learned_optim
from learned_optim.optimizers.coordinatewise_lstm import by_units
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.data import Dataset
from meta_train.recipes import Recipe
from meta_train.tasks.batch_norm import batch_norm
from meta_train.tasks.source import Source
from meta_train.unroll import truncation

TASK = "cifar-convnet-batchnorm"
UNROLL_LENGTH = 20
HORIZON = 1000
START = "coordinatewise-lstm-mnist-v1"


def of_labels(dataset: Dataset, labels: Sequence[int]) -> Dataset:
    """The examples of some labels, numbered 0, 1, … in the order given.

    Args:
      dataset: examples with labels.
      labels: two labels or more, each once.

    Raises:
      ValueError: if a label comes twice or has no example, or there is only one.

    Example:
      >>> from meta_train import data
      >>> two = of_labels(data.load("digits"), (3, 8))
      >>> sorted(set(two.train_y.tolist())), len(two.train_x)
      ([0, 1], 299)
    """
    if len(set(labels)) != len(labels) or len(labels) < 2 or not set(labels) <= set(dataset.train_y.tolist()):
        raise ValueError(f"labels must be two or more different ones of the data set, got {tuple(labels)}.")

    def part(x, y):
        chosen = np.isin(y, labels)
        numbers = np.argmax(y[chosen][:, None] == np.asarray(labels), axis=1)
        return x[chosen], numbers.astype(np.int32)

    return Dataset(*part(dataset.train_x, dataset.train_y), *part(dataset.test_x, dataset.test_y))


def cifar_task(dataset: Dataset, *, name: str = TASK) -> tasks.Task:
    """The network of Andrychowicz et al. 2016 for CIFAR-10: 13,722 parameters for 32×32 pixels and 10 labels.

    Three convolutions with max pooling, a fully connected layer of 32 units, ReLU, batch normalization, minibatches of
    128. The paper leaves the size of the convolutions open: here they are 3×3 with 16 channels (its code: 5×5, 16).

    Args:
      dataset: pictures whose sides are divisible by 8.
      name: the task's name.
    """
    return tasks.convnet(
        name,
        dataset,
        channels=(16, 16, 16),
        strides=(1, 1, 1),
        normalization=batch_norm,
        max_pool=2,
        hidden_sizes=(32,),
        batch_size=128,
    )


def backprop_on_cifar(
    num_steps: int, seed: int, *, separate_kernels: bool, num_particles: int, every: int, peak_rate: float
) -> Recipe:
    """Truncated backpropagation through windows of 20 steps, no second derivatives, episodes of up to 1,000 steps.

    Deviations from the paper (https://arxiv.org/abs/1606.04474): the LSTMs begin as the released one for MNIST, which
    spares them the plateau that a random one stays on for hundreds of episodes; several networks at a time, if wished;
    episodes grow from 100 to 1,000 steps during the first half of the run; the derivative is estimated from a sample
    of the coordinates of large tensors, see `problems.sampled_coordinates`; and the outer learning rate decays as a
    cosine.

    Args:
      num_steps, seed: fields of the recipe.
      separate_kernels: whether the kernels of convolutions have an LSTM of their own.
      num_particles: networks at a time. A GPU takes about as long for 16 as for one; a CPU takes 16 times as long.
      every: derivatives pass through one of so many coordinates of a large tensor.
      peak_rate: outer learning rate at the beginning. At the end it is a hundredth of that.
    """
    optimizer = learned_optim.coordinatewise_lstm(separate_kernels=separate_kernels)
    dataset = Source("cifar10").load(None)
    if not isinstance(dataset, Dataset):
        raise ValueError("cifar10 must be pictures with labels, got a text: name another folder of data.")
    task = cifar_task(dataset)
    scale = task.scale
    task = task._replace(normalize=lambda loss: loss / scale)  # the loss itself, and not its logarithm
    problem = problems.sampled_coordinates(by_units(optimizer), task, every=every, separate_kernels=separate_kernels)
    estimator = estimators.truncated_backprop(
        problem,
        num_particles=num_particles,
        unroll_length=UNROLL_LENGTH,
        horizon=truncation.growing(100, HORIZON, max(1, num_steps // 2)),
    )
    _, theta = learned_optim.load_pretrained(START)
    return Recipe(
        optimizer=optimizer,
        theta={"kernels": theta, "rest": theta} if separate_kernels else theta,
        estimators=(estimator,),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(peak_rate, num_steps, alpha=0.01)),
        num_steps=num_steps,
        seed=seed,
        clip_norm=1.0,
    )
