"""The controller of the step size against its definition in NumPy, and on problems whose answer is known."""

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
# The first values, by what they mean.
FIRST, RISE, FALL, GAIN, BIAS, ONSET = 0.1, 1.5, 0.3, 1.0, 0.3, 10.0
DECAY = math.sqrt(0.999)


def _theta(**changed):
    """The first theta, with entries changed."""
    return step_control.init() | {name: jnp.asarray(value, jnp.float32) for name, value in changed.items()}


def _first_slots(param):
    make = lambda slot: slot.make if hasattr(slot, "make") else slot
    return step_control.Slots(*(make(slot)(jnp.asarray(param, jnp.float32)) for slot in step_control.SLOTS))


def _run(theta, grads, params):
    """What `advance` returns at each gradient, which belongs to the parameters of the same index."""
    slots, made = _first_slots(params[0]), []
    for step, (grad, param) in enumerate(zip(grads, params, strict=True)):
        arrays = (jnp.asarray(x, jnp.float32) for x in (grad, param))
        made.append(_advance(theta, *arrays, slots, jnp.asarray(step, jnp.float32)))
        slots = made[-1].slots
    return made


def _growth(made):
    return np.array([each.slots.growth for each in made])


def _normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", [(), (4,), (3, 5), (3, 2, 5, 4), (90, 70), (5000,)], ids=str)
def test_fifteen_steps_equal_the_definition(shape):
    """The gradients first pull towards far parameters, then back: D rises, then falls."""
    theta = {"first": [-2.0, -1.5], "rates": [0.9, 0.4], "gain": 0.6, "bias": 0.2, "onset": 0.7}
    x0, grads = _normal(0, *shape), [np.sign(step - 4.5) + 0.5 * _normal(step + 1, *shape) for step in range(15)]
    state, param, params, expected = parts.begin(theta, x0), x0, [], []
    for grad in grads:
        params.append(param)
        state, signal = parts.advance(theta, state, grad, param)
        expected.append((state.distance, signal, state.growth))
        param = param - state.distance * np.sign(grad)
    made = _run(_theta(**theta), grads, params)
    distances, signals, growth = np.array(expected).T
    assert np.max(np.diff(growth)) > 0.01 and np.min(np.diff(growth)) < -0.01
    np.testing.assert_allclose([each.signal for each in made], signals, rtol=0, atol=2e-4)
    np.testing.assert_allclose(_growth(made), growth, rtol=0, atol=2e-4)
    np.testing.assert_allclose([np.exp(each.log_size) for each in made], distances, rtol=2e-4)


@pytest.mark.parametrize(("shape", "fill"), [((3, 4), 2.0), ((3, 4), 0.0), ((2, 2, 4), 2.0), ((4,), 2.0), ((), 2.0)])
def test_the_first_step_size_is_a_share_of_the_size(shape, fill):
    """At first r is 0, so that the signal is tanh(b), whatever the gradient."""
    size = max(fill, 0.1 / math.sqrt(math.prod(shape[:-1]))) if len(shape) > 1 else 0.1
    share = math.exp(-3.0) if len(shape) > 1 else math.exp(-4.0)
    param = np.full(shape, fill)
    (made,) = _run(_theta(first=[-3.0, -4.0]), [_normal(0, *shape)], [param])
    grown = RISE * math.tanh(BIAS) / ONSET
    np.testing.assert_allclose(made.signal, math.tanh(BIAS), rtol=1e-6)
    np.testing.assert_allclose(np.exp(made.log_size), share * size * math.exp(grown), rtol=1e-5)


def test_before_meta_training_the_share_is_a_tenth():
    for param in (np.full((3, 4), 5.0), np.full(4, 1.0)):
        (made,) = _run(_theta(bias=0.0), [np.ones_like(param)], [param])
        np.testing.assert_allclose(np.exp(made.log_size), 0.5 if param.ndim == 2 else 0.01, rtol=1e-5)


@pytest.mark.parametrize("moved", [3.0, -3.0])
def test_on_a_linear_function_the_second_step_grows_by_a_known_amount(moved):
    """The gradient stays, and the parameters move by 3 D along its signs, downhill or uphill.

    Then r = w D² ‖g‖₁ · 3 D and ‖z‖₁ = (β D² + w D²) ‖g‖₁ with the weight w = exp(2 growth) of the second gradient.
    """
    gradient, x0 = np.array([[1.0, -2.0, 3.0]]), np.array([[2.0, 2.0, -2.0]])
    made = _run(_theta(), [gradient] * 2, [x0, x0 - moved * (FIRST * 2.0) * np.sign(gradient)])
    first = RISE * math.tanh(BIAS) / ONSET
    weight = math.exp(2 * first)
    signal = math.tanh(GAIN * weight * moved / ((DECAY + weight) * math.exp(first)) + BIAS)
    assert signal * moved > 0
    np.testing.assert_allclose(made[1].signal, signal, rtol=1e-5)
    rate = RISE if moved > 0 else FALL
    np.testing.assert_allclose(_growth(made), [first, first + rate * signal / (1 + ONSET)], rtol=1e-5)


def test_a_full_signal_lets_the_step_size_grow_by_a_power_of_the_time():
    """With a signal of ±1 at all steps, log D changes by ±k times the sum of 1 / (t + t₀)."""
    gradients, params, times = [np.ones((2, 2))] * 40, [np.ones((2, 2))] * 40, np.arange(40)
    for bias, rate in ((20.0, RISE), (-20.0, -FALL)):
        made = _run(_theta(bias=bias), gradients, params)
        np.testing.assert_allclose(_growth(made), rate * np.cumsum(1 / (times + ONSET)), rtol=1e-5)
        # The sum is about log((t + t₀) / t₀).
        np.testing.assert_allclose(np.exp(made[-1].log_size) / FIRST, (50 / 10) ** rate, rtol=0.1)


@pytest.mark.parametrize(("share", "factor"), [(1000.0, 0.7), (0.001, 3.0)])
def test_on_a_quadratic_steps_that_are_too_long_shrink_and_those_too_short_grow(share, factor):
    """½ ‖x‖² from x = ±1 by steps of D sign(x): 1 is the length of a step to the minimum."""
    theta, x = _theta(first=[math.log(share)] * 2), jnp.sign(jnp.asarray(_normal(0, 4, 6), jnp.float32))

    def step(carry, t):
        x, slots = carry
        made = step_control.advance(theta, x, x, slots, t)
        return (x - jnp.exp(made.log_size) * jnp.sign(x), made.slots), made.slots.growth

    _, growth = jax.lax.scan(step, (x, _first_slots(x)), jnp.arange(300.0))
    fell = growth[-1] < 0.0
    assert fell == (share > 1)
    assert (growth[-1] < math.log(factor)) if fell else (growth[-1] > math.log(factor))
    late = np.diff(growth[10:])
    assert np.mean(np.sign(late) == (-1 if fell else 1)) > 0.9


@pytest.mark.parametrize("exponent", [-20, 40])
def test_the_scale_of_gradients_changes_no_bit(exponent):
    grads, params = [_normal(seed, 3, 4) for seed in range(6)], [_normal(seed, 3, 4) for seed in range(10, 16)]
    plain, scaled = (_run(_theta(), [g * scale for g in grads], params) for scale in (1.0, 2.0**exponent))
    assert len(set(_growth(plain))) == 6
    for name in ("log_size", "signal"):
        np.testing.assert_array_equal([getattr(e, name) for e in plain], [getattr(e, name) for e in scaled])


def test_the_step_size_has_the_unit_of_the_matrix():
    """Parameters 64 times as large: the signal is the same, and D is 64 times as large."""
    grads, params = [_normal(seed, 3, 4) for seed in range(6)], [_normal(seed, 3, 4) for seed in range(10, 16)]
    plain, large = (_run(_theta(), grads, [p * scale for p in params]) for scale in (1.0, 64.0))
    np.testing.assert_allclose([e.signal for e in large], [e.signal for e in plain], rtol=1e-4)
    differences = [float(a.log_size - b.log_size) for a, b in zip(large, plain, strict=True)]
    np.testing.assert_allclose(differences, math.log(64.0), rtol=1e-5)


def test_without_a_gradient_the_step_size_stays():
    """At the first step, and in later ones only once the sum of the gradients has faded."""
    zero, one = np.zeros((2, 3)), np.ones((2, 3))
    made = _run(_theta(), [zero, zero, one, 1e-32 * one], [one] * 4)
    assert [float(each.signal) for each in made[:2]] == [0.0, 0.0]
    np.testing.assert_array_equal(_growth(made)[:2], [0.0, 0.0])
    np.testing.assert_array_equal(_growth(made) > 0, [False, False, True, True])
    np.testing.assert_allclose(np.exp(made[0].log_size), FIRST, rtol=1e-6)
    (faded,) = _run(_theta(), [1e-32 * one], [one])
    assert float(faded.signal) == float(faded.slots.growth) == 0.0


def test_a_nan_in_the_gradient_does_not_move_the_step_size():
    bad = np.array([[1.0, np.nan]])
    made = _run(_theta(), [np.ones((1, 2)), bad], [np.ones((1, 2))] * 2)
    assert float(made[1].signal) == 0.0
    assert float(made[1].slots.growth) == float(made[0].slots.growth) > 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_growth_is_clipped_and_can_turn(sign):
    """12 is reached in the second step; a signal of the other sign leads back from there."""
    theta = _theta(bias=20.0 * sign, rates=[math.log(100.0)] * 2)
    ones, slots = jnp.ones((2, 2)), _first_slots(np.ones((2, 2)))
    growth = []
    for step in range(4):
        made = _advance(theta, ones, ones, slots, jnp.asarray(float(step)))
        slots = made.slots
        growth.append(float(slots.growth))
    np.testing.assert_allclose(growth, [10 * sign, *[12 * sign] * 3], rtol=1e-6)
    np.testing.assert_allclose(made.log_size, math.log(FIRST) + 12 * sign, rtol=1e-5)
    back = _advance(theta | {"bias": -theta["bias"]}, ones, ones, slots, jnp.asarray(4.0))
    np.testing.assert_allclose(back.slots.growth, sign * (12 - 100 / 14), rtol=1e-5)


def test_huge_gradients_are_clipped():
    """A gradient of 1e30 counts as 1e15, the same as that of the coordinate beside it, which has moved up."""
    params = [np.ones((1, 2)), np.array([[0.5, 1.2]])]
    huge, large = (_run(_theta(), [np.array([[limit, 1e15]])] * 2, params) for limit in (1e30, 1e15))
    assert 0.0 < float(large[1].signal) < 0.9
    np.testing.assert_array_equal(_growth(huge), _growth(large))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(huge))


def test_the_step_size_stays_where_the_estimate_overflows():
    made = _run(_theta(), [np.full((1, 2), 1e15)] * 2, [np.ones((1, 2)), np.full((1, 2), 1e30)])
    assert float(made[1].signal) == 0.0
    assert float(made[1].slots.growth) == float(made[0].slots.growth) > 0


def test_sums_fade_at_the_same_pace():
    """Once gradients vanish, r / ‖z‖₁ stays, though r halves in 1,386 steps. If D stays too, so does the signal."""
    theta, zero, one = _theta(rates=[-30.0] * 2), jnp.zeros((2, 3)), jnp.ones((2, 3))
    moved = 0.9 * one
    first = _advance(theta, one, moved, _first_slots(one), jnp.asarray(0.0))

    def step(slots, t):
        made = step_control.advance(theta, zero, moved, slots, t)
        return made.slots, made.signal

    slots, signals = jax.lax.scan(step, first.slots, jnp.arange(1.0, 1387.0))
    np.testing.assert_allclose(slots.gain, 0.5 * first.slots.gain, rtol=1e-3)
    np.testing.assert_allclose(signals, math.tanh(1.0 + BIAS), rtol=1e-4)  # a move of .1 is one D


@pytest.mark.parametrize("shape", [(), (3,), (4096,), (64, 64), (4097,), (300, 300), (90, 70), (2, 3, 5000), (65, 64)])
def test_the_sample_is_a_regular_grid(shape):
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    sample = step_control.sample(jnp.asarray(x))
    np.testing.assert_array_equal(sample, parts.sample(x))
    assert min(x.size, 4096 / 3) <= sample.size <= 4096


def test_sampling_strides():
    grid = lambda *shape: jnp.arange(float(math.prod(shape))).reshape(shape)
    np.testing.assert_array_equal(step_control.sample(grid(4096)), grid(4096))
    np.testing.assert_array_equal(step_control.sample(grid(4097)), grid(4097)[::3])
    np.testing.assert_array_equal(step_control.sample(grid(300, 300)), grid(300, 300)[::9, ::3].ravel())
    np.testing.assert_array_equal(step_control.sample(grid(2, 5000)), grid(2, 5000)[:, ::3].ravel())


@pytest.mark.parametrize("period", [2, 4, 8, 64])
def test_the_sample_meets_every_part_of_a_side_alike(period):
    """Coordinates that take turns, as those of attention heads do."""
    turns = jnp.arange(60_000) % period
    counts = np.bincount(step_control.sample(turns), minlength=period)
    assert np.min(counts) > 0.9 * np.mean(counts)


@pytest.mark.parametrize("shape", [(2**32,), (2**16, 2**16), (2**40, 1, 3), (0, 5), (7, 0)])
def test_the_sample_of_any_shape_is_small(shape):
    """Also of more coordinates than memory holds: the strides follow from the shape alone."""
    made = jax.eval_shape(step_control.sample, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert made.size <= 4096
    assert made.size > 4096 / 3 or math.prod(shape) == 0


def test_coordinates_beside_the_grid_do_not_count():
    param, grad = _normal(0, 300, 300), _normal(1, 300, 300)
    beside = np.ones((300, 300), bool)
    beside[::9, ::3] = False
    noise = np.where(beside, _normal(2, 300, 300), 0.0)
    plain, other = (_run(_theta(), [g] * 2, [param, param + g]) for g in (grad, grad + noise))
    np.testing.assert_array_equal(_growth(plain), _growth(other))


@pytest.mark.parametrize("scale", [0.0, 1e-35, 1e-25, 1e-15, 1.0, 1e20])
def test_derivatives_with_respect_to_theta_are_finite_at_any_scale_of_gradients(scale):
    """Two steps, the second at other parameters. Where z is close to 0, its square is 0 in float32."""

    def total(theta):
        slots, param = _first_slots(jnp.ones((2, 3))), jnp.ones((2, 3))
        for step in range(3):
            made = step_control.advance(theta, scale * jnp.ones((2, 3)), param, slots, jnp.asarray(float(step)))
            slots, param = made.slots, param - jnp.exp(made.log_size)
        return made.log_size

    derivative = jax.jit(jax.grad(total))(_theta())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(derivative))
    assert float(derivative["first"][0]) != 0.0
    if scale >= 1e-15:
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(derivative))


def test_derivatives_equal_differences():
    """At gradients of 1e-12, whose sum is close to where the derivative is left out: D is in the denominator."""

    def total(log_first):
        theta = _theta() | {"first": jnp.stack([log_first] * 2)}
        slots = _first_slots(jnp.ones((2, 3)))
        for step, param in enumerate((jnp.ones((2, 3)), 0.7 * jnp.ones((2, 3)))):
            made = step_control.advance(theta, 1e-12 * jnp.ones((2, 3)), param, slots, jnp.asarray(float(step)))
            slots = made.slots
        return made.slots.growth

    slope = jax.jit(jax.grad(total))(jnp.asarray(-1.0))
    difference = (total(jnp.asarray(-0.95)) - total(jnp.asarray(-1.05))) / 0.1
    assert slope < -0.01
    np.testing.assert_allclose(slope, difference, rtol=1e-2)


def test_first_values():
    theta = step_control.init()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(theta)} == {"float32"}
    np.testing.assert_allclose(np.exp(theta["first"]), [FIRST, FIRST], rtol=1e-6)
    np.testing.assert_allclose(np.exp(theta["rates"]), [RISE, FALL], rtol=1e-6)
    numbers = [np.exp(theta["gain"]), theta["bias"], np.exp(theta["onset"])]
    np.testing.assert_allclose(numbers, [GAIN, BIAS, ONSET], rtol=1e-6)
