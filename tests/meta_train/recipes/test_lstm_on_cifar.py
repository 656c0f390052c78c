"""The network for CIFAR-10, the examples of some labels, and which LSTM sees what."""

import jax
import numpy as np
import pytest

from meta_train import data
from meta_train.recipes import lstm_on_cifar
from meta_train.tasks.base import num_parameters


def test_examples_of_some_labels_are_numbered_as_given():
    labels = np.array([2, 0, 1, 2], np.int32)
    pictures = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
    dataset = data.Dataset(pictures, labels, pictures[:2], labels[:2])
    chosen = lstm_on_cifar.of_labels(dataset, (2, 0))
    assert chosen.train_x.ravel().tolist() == [0.0, 1.0, 3.0] and chosen.train_y.tolist() == [0, 1, 0]
    assert chosen.test_x.ravel().tolist() == [0.0, 1.0] and chosen.test_y.tolist() == [0, 1]
    assert chosen.train_y.dtype == np.int32


@pytest.mark.parametrize("labels", [(1,), (1, 1), (1, 10)])
def test_labels_that_make_no_sense(labels):
    with pytest.raises(ValueError, match="labels must be two or more different ones of the data set, got"):
        lstm_on_cifar.of_labels(data.load("digits"), labels)


def test_the_network_of_the_paper():
    pictures, labels = np.zeros((10, 32, 32, 3), np.float32), np.arange(10, dtype=np.int32)
    task = lstm_on_cifar.cifar_task(data.Dataset(pictures, labels, pictures, labels))
    kernels, biases = 9 * 3 * 16 + 2 * 9 * 16 * 16, 3 * 16
    assert num_parameters(task) == kernels + biases + 3 * 16 + (4 * 4 * 16 + 1) * 32 + 32 + 33 * 10 == 13_722
    shapes = jax.eval_shape(lambda key: task.init(key, ()), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes) if leaf.ndim > 2) == kernels
