"""Muon's directions against their definition, written again in NumPy, and on what is known of them."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import muon_directions

_REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "muon_parts.py")))

# Vector, number, wide, tall with blocks of 3, 3 and 2 rows, kernel, one row.
SHAPES = [(4,), (), (3, 5), (9, 8), (3, 2, 5, 4), (1, 6)]
LOOKAHEAD = 0.3


def _normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


def _run(grads, lookahead=LOOKAHEAD, max_block=3):
    """What `make` gives for the last of the gradients."""
    make = jax.jit(lambda *args: muon_directions.make(*args, max_block=max_block))
    zero = jnp.zeros_like(jnp.asarray(grads[0], jnp.float32))
    averages = muon_directions.Averages(zero, zero, jnp.zeros(()))
    for step, grad in enumerate(grads):
        grad = jnp.asarray(grad, jnp.float32)
        made = make(grad, averages, jnp.asarray(lookahead, jnp.float32), jnp.asarray(step, jnp.float32))
        averages = made.averages
    return made


def _assert_close(have, want, rtol):
    np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_directions_and_features_equal_the_definition(shape, num_steps):
    """Gradients that agree in part, and whose scale falls from 1 to 1e-4."""
    grads = [10.0**-step * (0.5 + _normal(step, *shape)) for step in range(num_steps)]
    made = _run(grads)
    directions, features = parts.directions(grads, LOOKAHEAD, 3)
    for have, want in zip(made.directions, directions, strict=True):
        _assert_close(have, want, rtol=1e-4)
    np.testing.assert_allclose([made.size, made.certain], features, rtol=1e-4)


def test_averages_equal_the_definition():
    grads = [_normal(seed, 3, 5) for seed in range(4)]
    m, v, agreement = np.zeros((3, 5)), 0.0, 0.0
    for number, g in enumerate(grads):
        v = 0.99 * v + 0.01 * g**2
        agreement = 0.99 * agreement + 0.01 * np.mean(g * m) / np.mean(v) / max(1 - 0.9**number, 0.1)
        m = 0.9 * m + 0.1 * g
    averages = _run(grads).averages
    for have, want in zip(averages, (m, v, agreement), strict=True):
        _assert_close(have, want, rtol=1e-5)


@pytest.mark.parametrize("lookahead", [0.0, 0.3, 1.0])
def test_a_constant_gradient_is_a_direction_of_ones_from_the_first_step_on(lookahead):
    """All averages are bias-corrected, so u and s are the gradient's signs, whatever its scale."""
    signs = np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    for num_steps in (1, 7):
        made = _run([3e-4 * signs] * num_steps, lookahead)
        for direction in made.directions[1:]:
            np.testing.assert_allclose(direction, signs, rtol=1e-4)
        np.testing.assert_allclose(made.size, np.log(1.001) + 1, rtol=1e-4)


def test_the_agreement_tells_gradients_that_agree_from_those_that_alternate():
    """Equal gradients: the cosine of each with the momentum before it is 1, and 0 at the first step."""
    ones = np.ones((2, 3))
    weights = 0.01 * 0.99 ** np.arange(30)
    bias_corrections = 1 - 0.99 ** np.arange(30, 0, -1)  # mean(v) is that much of the squared gradient
    expected = np.sum((weights / bias_corrections)[:-1]) / (1 - 0.99**30)
    np.testing.assert_allclose(_run([ones] * 30).certain, 0.5 * np.log(min(expected, 4.0)) + 1.5, rtol=1e-4)
    alternating = [ones, -ones] * 15
    np.testing.assert_allclose(_run(alternating).certain, 0.5 * np.log(1e-3) + 1.5, rtol=1e-5)


def test_the_nesterov_weight_leads_from_momentum_to_the_gradient():
    grads = [_normal(seed, 3, 5) for seed in range(3)]
    none, whole = (_run(grads, lookahead).directions for lookahead in (0.0, 1.0))
    np.testing.assert_allclose(whole.nesterov, whole.plain, rtol=1e-5)
    assert np.max(np.abs(none.nesterov - none.plain)) > 0.5


def test_u_and_s_are_clipped():
    """A gradient 1e6 times those before it: s would be 10, and u with its weight λ = .8 about 8."""
    small = np.full((1, 5), 1e-6)
    made = _run([small] * 300 + [np.array([[1.0, -1.0, 1.0, -1.0, 1.0]])], lookahead=0.8)
    for direction in made.directions[1:]:
        np.testing.assert_allclose(direction, [[4.0, -4.0, 4.0, -4.0, 4.0]], rtol=1e-6)


def test_the_orthogonal_direction_has_singular_values_near_one_another_and_the_size_of_u():
    u = _normal(0, 6, 5) @ np.diag([1.0, 0.5, 0.3, 0.2, 0.15])
    made = _run([u, u + 0.1 * _normal(1, 6, 5), u], max_block=8).directions
    values = np.linalg.svd(made.orthogonal, compute_uv=False)
    before = np.linalg.svd(made.nesterov, compute_uv=False)
    assert values[0] / values[-1] < 2 < 3 < before[0] / before[-1]
    np.testing.assert_allclose(parts.adam_parts.rms(made.orthogonal), parts.adam_parts.rms(made.nesterov), rtol=1e-4)


@pytest.mark.parametrize("shape", [(5,), (3, 4)])
def test_without_a_gradient_nothing_moves(shape):
    made = _run([np.zeros(shape)] * 2)
    for direction in made.directions:
        np.testing.assert_array_equal(direction, np.zeros(shape))
    np.testing.assert_allclose(made.size, np.log(1e-3) + 1, rtol=1e-5)


@pytest.mark.parametrize(("shape", "sides"), [((4, 9), 4 / 9), ((9, 4), 4 / 9), ((3, 2, 5, 4), 4 / 30), ((1, 1), 1)])
def test_squareness_of_matrices_and_kernels(shape, sides):
    np.testing.assert_allclose(muon_directions.squareness(jnp.zeros(shape)), 0.5 * np.log(sides), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (7,)])
def test_squareness_of_vectors_and_scalars_is_zero(shape):
    assert muon_directions.squareness(jnp.zeros(shape)) == 0.0
