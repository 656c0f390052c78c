"""The controllers of the step sizes against their definition in NumPy, and on problems whose answer is known."""

import math
import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import step_control

_REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "control_parts.py")))

_advance = jax.jit(step_control.advance)
# The values of `_theta`, by what they mean.
FIRST, RISE, FALL, GAIN, BIAS, ONSET = 0.04, 1.5, 0.3, 1.0, 0.1, 10.0
DECAY = math.sqrt(0.999)


def _theta(**changed):
    """A theta whose D grows where nothing is known, with entries changed."""
    values = {
        "first": np.log([FIRST, FIRST]),
        "rates": np.log([RISE, FALL]),
        "gain": math.log(GAIN),
        "bias": BIAS,
        "onset": math.log(ONSET),
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in (values | changed).items()}


def _begin(rows, size=1.0):
    """The first state of the tensors whose samples are the rows."""
    return step_control.first(rows, jnp.full(len(rows), math.log(size), jnp.float32))


def _run(theta, grads, params, is_vector=None, size=1.0):
    """What `advance` returns at each gradient, which belongs to the parameters of the same index."""
    array = lambda x: jnp.asarray(x, jnp.float32)
    control, made = _begin(array(params[0]), size), []
    is_vector = jnp.zeros(len(params[0])) if is_vector is None else array(is_vector)
    for step, (grad, param) in enumerate(zip(grads, params, strict=True)):
        made.append(_advance(theta, array(grad), array(param), is_vector, control, array(step)))
        control = made[-1].control
    return made


def _growth(made):
    return np.array([each.control.growth for each in made])


def _normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


def test_fifteen_steps_equal_the_definition():
    """The gradients of four tensors first pull towards far parameters, then back: D rises, then falls.

    The ends of shorter samples are filled up with zeros. The tensors turn back at different steps.
    """
    theta = {"first": [-2.0, -1.5], "rates": [0.9, 0.4], "gain": 0.6, "bias": 0.2, "onset": 0.7}
    numbers, vectors, sizes = [7, 1, 30, 12], [0, 1, 0, 1], [1.0, 0.1, 3.0, 0.1]
    x0 = [_normal(row, number) for row, number in enumerate(numbers)]
    states = [parts.begin(theta, *tensor) for tensor in zip(x0, sizes, vectors, strict=True)]
    rows = lambda xs: np.stack([np.pad(x, (0, 30 - len(x))) for x in xs])
    xs, params, grads, expected = x0, [], [], []
    for step in range(15):
        g = [np.sign(step - 3.5 - row) + 0.5 * _normal(10 * step + row, len(x)) for row, x in enumerate(xs)]
        params.append(rows(xs))
        grads.append(rows(g))
        made = [parts.advance(theta, *tensor) for tensor in zip(states, g, xs, strict=True)]
        states = [state for state, _ in made]
        expected.append([(state.distance, signal, state.growth) for state, signal in made])
        xs = [x - state.distance * np.sign(grad) for x, state, grad in zip(xs, states, g, strict=True)]
    control = step_control.first(jnp.asarray(params[0], jnp.float32), jnp.log(jnp.asarray(sizes, jnp.float32)))
    distances, signals, growth = np.moveaxis(np.array(expected), 2, 0)
    assert np.all(np.max(np.diff(growth, axis=0), axis=0) > 0.01)
    assert np.all(np.min(np.diff(growth, axis=0), axis=0) < -0.01)
    for step in range(15):
        arrays = (jnp.asarray(x, jnp.float32) for x in (grads[step], params[step], vectors))
        made = _advance(_theta(**theta), *arrays, control, jnp.asarray(step, jnp.float32))
        control = made.control
        np.testing.assert_allclose(made.signal, signals[step], rtol=0, atol=2e-4)
        np.testing.assert_allclose(control.growth, growth[step], rtol=0, atol=2e-4)
        np.testing.assert_allclose(np.exp(made.log_step), distances[step], rtol=2e-4)


def test_the_first_step_size_is_a_share_of_the_size():
    """At first r is 0, so that the signal is tanh(b), whatever the gradient. Vectors have a share of their own."""
    theta = _theta(first=[-3.0, -4.0])
    (made,) = _run(theta, [_normal(0, 2, 3)], [_normal(1, 2, 3)], is_vector=[0, 1], size=2.0)
    grown = RISE * math.tanh(BIAS) / ONSET
    np.testing.assert_allclose(made.signal, [math.tanh(BIAS)] * 2, rtol=1e-6)
    expected = [2.0 * math.exp(grown - 3.0), 2.0 * math.exp(grown - 4.0)]
    np.testing.assert_allclose(np.exp(made.log_step), expected, rtol=1e-5)


@pytest.mark.parametrize("is_vector", [0, 1])
def test_before_meta_training_the_share_is_fourteen_hundredths_and_falls_where_nothing_is_known(is_vector):
    (made,) = _run(step_control.init(), [np.ones((1, 4))], [np.ones((1, 4))], [is_vector], size=5.0)
    fallen = 0.3 * math.tanh(-0.1) / 6.0
    np.testing.assert_allclose(np.exp(made.log_step), [0.7 * math.exp(fallen)], rtol=1e-5)


@pytest.mark.parametrize("moved", [3.0, -3.0])
def test_on_a_linear_function_the_second_step_grows_by_a_known_amount(moved):
    """The gradient stays, and the parameters move by 3 D along its signs, downhill or uphill.

    Then r = w D² ‖g‖₁ · 3 D and ‖z‖₁ = (β D² + w D²) ‖g‖₁ with the weight w = exp(2 growth) of the second gradient.
    """
    gradient, x0 = np.array([[1.0, -2.0, 3.0]]), np.array([[2.0, 2.0, -2.0]])
    made = _run(_theta(), [gradient] * 2, [x0, x0 - moved * (FIRST * 2.0) * np.sign(gradient)], size=2.0)
    first = RISE * math.tanh(BIAS) / ONSET
    weight = math.exp(2 * first)
    signal = math.tanh(GAIN * weight * moved / ((DECAY + weight) * math.exp(first)) + BIAS)
    assert signal * moved > 0
    np.testing.assert_allclose(made[1].signal, [signal], rtol=1e-5)
    rate = RISE if moved > 0 else FALL
    np.testing.assert_allclose(_growth(made)[:, 0], [first, first + rate * signal / (1 + ONSET)], rtol=1e-5)


def test_a_full_signal_lets_the_step_size_grow_by_a_power_of_the_time():
    """With a signal of ±1 at all steps, log D changes by ±k times the sum of 1 / (t + t₀)."""
    gradients, params, times = [np.ones((1, 4))] * 40, [np.ones((1, 4))] * 40, np.arange(40)
    for bias, rate in ((20.0, RISE), (-20.0, -FALL)):
        made = _run(_theta(bias=bias), gradients, params)
        np.testing.assert_allclose(_growth(made)[:, 0], rate * np.cumsum(1 / (times + ONSET)), rtol=1e-5)
        # The sum is about log((t + t₀) / t₀).
        np.testing.assert_allclose(np.exp(made[-1].log_step) / FIRST, [(50 / 10) ** rate], rtol=0.1)


@pytest.mark.parametrize(("share", "factor"), [(1000.0, 0.7), (0.001, 3.0)])
def test_on_a_quadratic_steps_that_are_too_long_shrink_and_those_too_short_grow(share, factor):
    """½ ‖x‖² from x = ±1 by steps of D sign(x): 1 is the length of a step to the minimum."""
    theta, x = _theta(first=[math.log(share)] * 2), jnp.sign(jnp.asarray(_normal(0, 1, 24), jnp.float32))

    def step(carry, t):
        x, control = carry
        made = step_control.advance(theta, x, x, jnp.zeros(1), control, t)
        return (x - jnp.exp(made.log_step)[:, None] * jnp.sign(x), made.control), made.control.growth[0]

    _, growth = jax.lax.scan(step, (x, _begin(x)), jnp.arange(300.0))
    fell = growth[-1] < 0.0
    assert fell == (share > 1)
    assert (growth[-1] < math.log(factor)) if fell else (growth[-1] > math.log(factor))
    late = np.diff(growth[10:150])  # short steps arrive after about 200
    assert np.mean(np.sign(late) == (-1 if fell else 1)) > 0.9


@pytest.mark.parametrize("exponent", [-20, 40])
def test_the_scale_of_gradients_changes_no_bit(exponent):
    """Of one tensor; the other's gradients keep theirs."""
    grads, params = [_normal(seed, 2, 12) for seed in range(6)], [_normal(seed, 2, 12) for seed in range(10, 16)]
    factors = [np.ones((2, 1)), np.array([[2.0**exponent], [1.0]])]
    plain, scaled = (_run(_theta(), [g * factor for g in grads], params) for factor in factors)
    assert all(len(set(column)) == 6 for column in _growth(plain).T)
    for name in ("log_step", "signal"):
        np.testing.assert_array_equal([getattr(e, name) for e in plain], [getattr(e, name) for e in scaled])


def test_the_step_size_has_the_unit_of_the_parameters():
    """Parameters 64 times as large: the signal is the same, and D is 64 times as large."""
    grads, params = [_normal(seed, 1, 12) for seed in range(6)], [_normal(seed, 1, 12) for seed in range(10, 16)]
    plain, large = (_run(_theta(), grads, [p * scale for p in params], size=scale) for scale in (1.0, 64.0))
    np.testing.assert_allclose([e.signal for e in large], [e.signal for e in plain], rtol=1e-4)
    differences = [float(a.log_step[0] - b.log_step[0]) for a, b in zip(large, plain, strict=True)]
    np.testing.assert_allclose(differences, math.log(64.0), rtol=1e-5)


def test_without_a_gradient_the_step_size_stays():
    """At the first step, and in later ones only once the sum of the gradients has faded."""
    zero, one = np.zeros((1, 6)), np.ones((1, 6))
    made = _run(_theta(), [zero, zero, one, 1e-32 * one], [one] * 4)
    assert [float(each.signal[0]) for each in made[:2]] == [0.0, 0.0]
    np.testing.assert_array_equal(_growth(made)[:2], np.zeros((2, 1)))
    np.testing.assert_array_equal(_growth(made)[:, 0] > 0, [False, False, True, True])
    np.testing.assert_allclose(np.exp(made[0].log_step), [FIRST], rtol=1e-6)
    (faded,) = _run(_theta(), [1e-32 * one], [one])
    assert float(faded.signal[0]) == float(faded.control.growth[0]) == 0.0


def test_a_nan_in_a_gradient_moves_no_step_size():
    """That of its tensor stays; the other's advances as it would."""
    one, bad = np.ones((2, 2)), np.array([[1.0, np.nan], [1.0, 1.0]])
    made, usual = (_run(_theta(), [one, second], [one] * 2) for second in (bad, one))
    assert float(made[1].signal[0]) == 0.0
    assert float(made[1].control.growth[0]) == float(made[0].control.growth[0]) > 0
    assert float(made[1].control.growth[1]) == float(usual[1].control.growth[1]) > float(made[0].control.growth[1])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_growth_is_clipped_and_can_turn(sign):
    """12 is reached in the second step; a signal of the other sign leads back from there."""
    theta = _theta(bias=20.0 * sign, rates=[math.log(100.0)] * 2)
    ones = np.ones((1, 4))
    made = _run(theta, [ones] * 4, [ones] * 4)
    np.testing.assert_allclose(_growth(made)[:, 0], [10 * sign, *[12 * sign] * 3], rtol=1e-6)
    np.testing.assert_allclose(made[-1].log_step, [math.log(FIRST) + 12 * sign], rtol=1e-5)
    other, arrays = theta | {"bias": -theta["bias"]}, (jnp.ones((1, 4)), jnp.ones((1, 4)), jnp.zeros(1))
    back = _advance(other, *arrays, made[-1].control, jnp.asarray(4.0))
    np.testing.assert_allclose(back.control.growth, [sign * (12 - 100 / 14)], rtol=1e-5)


def test_huge_gradients_are_clipped():
    """A gradient of 1e30 counts as 1e15, the same as that of the coordinate beside it, which has moved up."""
    params = [np.ones((1, 2)), np.array([[0.95, 1.03]])]
    huge, large = (_run(_theta(), [np.array([[limit, 1e15]])] * 2, params) for limit in (1e30, 1e15))
    assert 0.0 < float(large[1].signal[0]) < 0.9
    np.testing.assert_array_equal(_growth(huge), _growth(large))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(huge))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_sum_of_products_stays_finite(sign):
    """At 1e45, beyond float32, it counts as 1e37, and the signal is full."""
    params = [np.zeros((1, 2)), np.full((1, 2), sign * 1e30)]
    made = _run(_theta(), [np.full((1, 2), 1e15)] * 2, params)
    np.testing.assert_allclose(made[1].control.gain, [-sign * 1e37], rtol=1e-6)
    np.testing.assert_allclose(made[1].signal, [-sign], rtol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(made))


def test_the_step_size_stays_where_the_estimate_overflows():
    """The products are finite, but not in units of the sum of gradients and of D, 1e-23 and 1e-10."""
    made = _run(_theta(), [np.full((1, 2), 1e-20)] * 2, [np.zeros((1, 2)), np.full((1, 2), -1e30)], size=1e-10)
    assert 0.0 < float(made[1].control.gain[0]) < 1e30
    assert float(made[1].signal[0]) == 0.0
    assert float(made[1].control.growth[0]) == float(made[0].control.growth[0]) > 0


def test_sums_fade_at_the_same_pace():
    """Once gradients vanish, r / ‖z‖₁ stays, though r halves in 1,386 steps. If D stays too, so does the signal."""
    theta, zero, one = _theta(rates=[-30.0] * 2), jnp.zeros((1, 6)), jnp.ones((1, 6))
    moved, matrix = (1 - FIRST) * one, jnp.zeros(1)
    first = _advance(theta, one, moved, matrix, _begin(one), jnp.asarray(0.0))

    def step(control, t):
        made = step_control.advance(theta, zero, moved, matrix, control, t)
        return made.control, made.signal[0]

    control, signals = jax.lax.scan(step, first.control, jnp.arange(1.0, 1387.0))
    np.testing.assert_allclose(control.gain, 0.5 * first.control.gain, rtol=1e-3)
    np.testing.assert_allclose(signals, math.tanh(1.0 + BIAS), rtol=1e-4)  # a move of .04 is one D


@pytest.mark.parametrize("scale", [0.0, 1e-35, 1e-25, 1e-15, 1.0, 1e20])
def test_derivatives_with_respect_to_theta_are_finite_at_any_scale_of_gradients(scale):
    """Three steps, each at other parameters. Where z is close to 0, its square is 0 in float32."""

    def total(theta):
        param = jnp.ones((1, 6))
        control = _begin(param)
        for step in range(3):
            grad, time = scale * jnp.ones((1, 6)), jnp.asarray(float(step))
            made = step_control.advance(theta, grad, param, jnp.zeros(1), control, time)
            control, param = made.control, param - jnp.exp(made.log_step)
        return made.log_step[0]

    derivative = jax.jit(jax.grad(total))(_theta())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(derivative))
    assert float(derivative["first"][0]) != 0.0
    if scale >= 1e-15:
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(derivative))


def test_derivatives_equal_differences():
    """At gradients of 1e-12, whose sum is close to where the derivative is left out: D is in the denominator."""

    def total(log_first):
        theta, control = _theta() | {"first": jnp.stack([log_first] * 2)}, _begin(jnp.ones((1, 6)))
        for step, param in enumerate((jnp.ones((1, 6)), 0.9 * jnp.ones((1, 6)))):
            grad, time = 1e-12 * jnp.ones((1, 6)), jnp.asarray(float(step))
            control = step_control.advance(theta, grad, param, jnp.zeros(1), control, time).control
        return control.growth[0]

    slope = jax.jit(jax.grad(total))(jnp.asarray(-1.0))
    difference = (total(jnp.asarray(-0.95)) - total(jnp.asarray(-1.05))) / 0.1
    assert slope < -0.01
    np.testing.assert_allclose(slope, difference, rtol=1e-2)


def test_first_values():
    theta = step_control.init()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(theta)} == {"float32"}
    np.testing.assert_allclose(np.exp(theta["first"]), [0.14, 0.14], rtol=1e-6)
    np.testing.assert_allclose(np.exp(theta["rates"]), [2.0, 0.3], rtol=1e-6)
    numbers = [np.exp(theta["gain"]), theta["bias"], np.exp(theta["onset"])]
    np.testing.assert_allclose(numbers, [1.0, -0.1, 6.0], rtol=1e-6)
