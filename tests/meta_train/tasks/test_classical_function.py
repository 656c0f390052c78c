"""Test functions: their minima, values from their formulas, and gradients by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import tasks
from meta_train.tasks import classical_function  # the function: the module has the same name
from meta_train.tasks.classical_function import ACKLEY
from meta_train.tasks.classical_function import BEALE
from meta_train.tasks.classical_function import BOOTH
from meta_train.tasks.classical_function import HIMMELBLAU
from meta_train.tasks.classical_function import LEVY
from meta_train.tasks.classical_function import RASTRIGIN
from meta_train.tasks.classical_function import ROSENBROCK
from meta_train.tasks.classical_function import STYBLINSKI_TANG

# function, place of a minimum, a point and its value by hand
KNOWN = {
    "rosenbrock": (ROSENBROCK, [1.0, 1.0, 1.0], [0.0, 2.0, 1.0], ((400.0 + 1.0) + (900.0 + 1.0)) / 2),
    "rastrigin": (RASTRIGIN, [0.0, 0.0], [0.5, 1.0], (20.25 + 1.0) / 2),
    "ackley": (ACKLEY, [0.0, 0.0], [1.0, 1.0], 20 - 20 * np.exp(-0.2)),
    "levy": (LEVY, [1.0, 1.0], [5.0, 5.0], (1.0 + 10 * np.sin(2 * np.pi + 1) ** 2 + 1.0) / 2),
    "styblinski-tang": (STYBLINSKI_TANG, [-2.903534] * 3, [1.0, 0.0, 0.0], -10 / 2 / 3 + 39.16616570377142),
    "himmelblau": (HIMMELBLAU, [3.0, 2.0], [0.0, 0.0], 170.0),
    "beale": (BEALE, [3.0, 0.5], [0.0, 0.0], 1.5**2 + 2.25**2 + 2.625**2),
    "booth": (BOOTH, [1.0, 3.0], [0.0, 0.0], 74.0),
}


@pytest.mark.parametrize("name", KNOWN)
def test_values(name):
    function, minimum, point, value = KNOWN[name]
    np.testing.assert_allclose(function.value(jnp.array(minimum)), 0, atol=2e-5)
    np.testing.assert_allclose(function.value(jnp.array(point)), value, rtol=1e-5)
    points = jax.random.uniform(jax.random.key(0), (2_000, len(minimum)), jnp.float32, function.low, function.high)
    values = jax.jit(jax.vmap(function.value))(points)
    assert np.all(values > -1e-4)
    np.testing.assert_allclose(np.mean(values), values.mean())
    task = classical_function(name, function, size=len(minimum))
    np.testing.assert_allclose(task.scale, np.mean(values), rtol=0.1)


@pytest.mark.parametrize("name", KNOWN)
def test_gradients_equal_finite_differences(name):
    function, _, point, _ = KNOWN[name]
    with jax.enable_x64(True):
        x = jnp.array(point, jnp.float64) + 0.123
        moves = 1e-6 * jnp.eye(len(point))
        differences = [(function.value(x + move) - function.value(x - move)) / 2e-6 for move in moves]
        np.testing.assert_allclose(jax.grad(function.value)(x), differences, rtol=1e-6, atol=1e-7)


def test_the_gradient_is_finite_at_the_minimum_of_ackley():
    assert np.all(np.isfinite(jax.grad(ACKLEY.value)(jnp.zeros(3))))


def test_episodes_start_in_the_box():
    task = tasks.classical_function("levy", LEVY, size=3)
    starts = jax.vmap(lambda key: task.init(key, ())["x"])(jax.random.split(jax.random.key(0), 1_000))
    assert starts.shape == (1_000, 3)
    assert -10 <= starts.min() < -9.8
    assert 9.8 < starts.max() <= 10


def test_sizes():
    with pytest.raises(ValueError, match="size must be at least 2 for this function, got 1"):
        classical_function("levy", LEVY, size=1)
    with pytest.raises(ValueError, match="size must be 2 for this function, got 3"):
        classical_function("booth", BOOTH, size=3)
