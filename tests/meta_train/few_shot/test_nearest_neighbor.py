"""Nearest neighbors by hand, and on digits, where they are better than chance."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.data import digit_classes
from meta_train.few_shot import Batch
from meta_train.few_shot import episodes
from meta_train.few_shot import evaluate
from meta_train.few_shot import nearest_neighbor


def test_the_nearest_of_several_examples_of_a_class_counts():
    support = Batch(jnp.array([[[0.0, 0.0]], [[9.0, 0.0]], [[1.0, 1.0]]]), jnp.array([0, 0, 1]))
    outputs = nearest_neighbor(2)((), jax.random.key(0), support, jnp.array([[[8.0, 1.0]], [[1.0, 2.0]]]))
    np.testing.assert_array_equal(outputs, [[-2.0, -49.0], [-5.0, -1.0]])


def test_digits_of_held_out_classes():
    made = episodes(digit_classes(), ways=5, shots=1, queries=5)
    found = evaluate(nearest_neighbor(5), (), made, jax.random.key(0), 100, progress=False)
    assert 0.5 < found.accuracy.mean < 0.95
    assert 0.01 < found.accuracy.half_width < 0.05
