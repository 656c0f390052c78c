"""Each input feature against values computed by hand or by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import features


def test_time_scales_are_the_published_ones():
    assert features.TIME_SCALES == (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def test_momenta_are_exponential_moving_averages():
    grad, previous = jnp.array([1.0, -2.0, 0.0]), (jnp.array([4.0, 0.0, 1.0]), jnp.array([0.0, 8.0, -1.0]))
    slow, fast = features.momenta(grad, previous, (0.75, 0.5))
    np.testing.assert_array_equal(slow, [3.25, -0.5, 0.75])
    np.testing.assert_array_equal(fast, [0.5, 3.0, -0.5])


def test_momentum_of_a_constant_gradient():
    """From zero, after t steps: g (1 - decay^t), without bias correction."""
    momenta = (jnp.zeros(()), jnp.zeros(()))
    for _ in range(10):
        momenta = features.momenta(jnp.asarray(3.0), momenta, (0.9, 0.99))
    np.testing.assert_allclose(momenta, [3 * (1 - 0.9**10), 3 * (1 - 0.99**10)], rtol=1e-6)


def test_momenta_need_one_decay_each():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        features.momenta(jnp.ones(2), (jnp.ones(2),), (0.9, 0.99))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
def test_normalize_divides_by_the_root_mean_square(shape, scale):
    x = np.random.RandomState(0).standard_normal(shape) * scale
    expected = x / np.sqrt(1e-5 + np.mean(x**2))
    np.testing.assert_allclose(features.normalize(jnp.asarray(x, jnp.float32)), expected, rtol=2e-6)


def test_normalize_by_hand():
    np.testing.assert_allclose(features.normalize(jnp.array([3.0, -4.0, 0.0, 0.0])), [1.2, -1.6, 0, 0], rtol=2e-6)
    np.testing.assert_array_equal(features.normalize(jnp.zeros(3)), 0.0)
    np.testing.assert_allclose(features.normalize(jnp.asarray(1e-5**0.5)), 0.5**0.5, rtol=2e-6)  # half of it epsilon


@pytest.mark.parametrize("step", [0, 1, 2, 7, 100, 12_345, 1_000_000])
def test_tanh_time(step):
    scales = np.array([1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5])
    actual = features.tanh_time(jnp.asarray(step, jnp.float32))
    assert (actual.shape, actual.dtype) == ((11,), jnp.float32)
    np.testing.assert_allclose(actual, np.tanh(step / scales - 1), rtol=2e-6, atol=2e-7)


def test_tanh_time_is_zero_at_the_scale():
    for index, scale in enumerate(features.TIME_SCALES):
        assert features.tanh_time(jnp.asarray(scale, jnp.float32))[index] == 0


def test_log_sign_where_the_gradient_is_large():
    """(log|g| / p, sign g) for |g| >= exp(-p)."""
    grad = jnp.array([1.0, -1.0, 100.0, -1e-4, 5e-5, -1e20, 1e30])
    magnitude, sign = features.log_sign(grad)
    expected = np.array([0, 0, np.log(100), np.log(1e-4), np.log(5e-5), np.log(1e20), np.log(1e30)]) / 10
    np.testing.assert_allclose(magnitude, expected, rtol=1e-6)
    np.testing.assert_array_equal(sign, [1, -1, 1, -1, 1, -1, 1])


def test_log_sign_where_the_gradient_is_small():
    """(-1, exp(p) g) for |g| < exp(-p)."""
    grad = jnp.array([4.5e-5, -4.5e-5, 1e-6, -1e-9, 0.0])
    magnitude, scaled = features.log_sign(grad)
    np.testing.assert_array_equal(magnitude, -1.0)
    np.testing.assert_allclose(scaled, np.exp(10) * np.array([4.5e-5, -4.5e-5, 1e-6, -1e-9, 0.0]), rtol=1e-6)


@pytest.mark.parametrize("p", [2.0, 5.0, 10.0])
def test_log_sign_at_the_threshold(p):
    """The two branches meet there, at (-1, 1), and part on either side of it."""
    at = np.float32(np.exp(-p))
    magnitude, sign = features.log_sign(jnp.array([at, -at]), p)
    np.testing.assert_allclose(magnitude, -1.0, rtol=1e-6)
    np.testing.assert_allclose(sign, [1.0, -1.0], rtol=1e-6)
    (above, below), (sign_above, sign_below) = features.log_sign(jnp.array([at * 1.5, at / 1.5]), p)
    np.testing.assert_allclose([above, below], [-1 + np.log(1.5) / p, -1], rtol=1e-6)
    np.testing.assert_allclose([sign_above, sign_below], [1, 1 / 1.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("grad", "slopes"),
    [(0.0, (0, np.exp(10))), (1e-6, (0, np.exp(10))), (0.25, (0.4, 0)), (-1e-3, (-100, 0))],
)
def test_log_sign_has_finite_derivatives(grad, slopes):
    """d log|g| / p = 1 / (p g) above the threshold, and d exp(p) g below it: at zero too, where log has none."""
    actual = jax.jacobian(features.log_sign)(jnp.asarray(grad))
    np.testing.assert_allclose(actual, slopes, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_features_keep_shape_and_float32(shape):
    grad = jnp.full(shape, 0.5, jnp.float32)
    for feature in (*features.momenta(grad, (grad,), (0.9,)), *features.log_sign(grad)):
        assert (feature.shape, feature.dtype) == (shape, jnp.float32)


def test_mean_square_and_inverse_sqrt():
    x = np.random.RandomState(0).standard_normal((2, 3))
    np.testing.assert_allclose(features.mean_square(jnp.asarray(x, jnp.float32)), np.mean(x**2), rtol=1e-6)
    positive = np.array([1e-19, 1e-10, 0.25, 9.0, 1e30])
    np.testing.assert_allclose(features.inverse_sqrt(jnp.asarray(positive, jnp.float32)), positive**-0.5, rtol=1e-6)
    slope = jax.grad(features.inverse_sqrt)(jnp.asarray(1e-18))
    np.testing.assert_allclose(slope, -0.5 * 1e-18**-1.5, rtol=1e-5)


def test_tiny_inverse_sqrt_is_right_at_any_scale_and_its_derivative_is_finite():
    x = jnp.asarray([1e-36, 1e-33, 1e-12, 4.0, 1e30])
    np.testing.assert_allclose(features.tiny_inverse_sqrt(x), 1 / np.sqrt(np.asarray(x, np.float64)), rtol=1e-6)
    slopes = jax.vmap(jax.grad(features.tiny_inverse_sqrt))(x)
    np.testing.assert_allclose(slopes[:4], [0.0, 0.0, -0.5e18, -1 / 16], rtol=1e-5)


def test_ratio_has_finite_derivatives():
    """Where the denominator is tiny, its square is zero in float32; the value is right nevertheless."""
    y = jnp.array([2.0, 1e-12, 1e-15, 1e-20, 1e-30])
    x = 3.0 * y
    np.testing.assert_allclose(features.ratio(x, y), np.full(5, 3.0), rtol=1e-6)
    by_x, by_y = jax.grad(lambda x, y: jnp.sum(features.ratio(x, y)), argnums=(0, 1))(x, y)
    np.testing.assert_allclose(by_x, [0.5, 1e12, 1e15, 0.0, 0.0], rtol=1e-5)
    np.testing.assert_allclose(by_y, [-1.5, -3e12, -3e15, 0.0, 0.0], rtol=1e-5)
    assert float(features.ratio(jnp.ones(()), jnp.zeros(()))) == np.inf


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3, 3), (2, 1, 1)), ((4, 5), ())])
def test_the_denominator_of_a_ratio_is_broadcast(shapes):
    x, y = (1.0 + np.random.RandomState(0).uniform(size=shape).astype(np.float32) for shape in shapes)
    np.testing.assert_allclose(features.ratio(jnp.asarray(x), jnp.asarray(y)), x / y, rtol=1e-6)


def test_second_moment_is_a_moving_average_of_squares_of_bounded_gradients():
    grad, previous = jnp.array([2.0, 0.0, 1e20, -1e38, jnp.nan, jnp.inf]), jnp.array([8.0, 4.0, 1.0, 1e30, 1.0, 1.0])
    expected = [7.0, 3.0, 0.25e30, 1e30, np.nan, 0.25e30]
    np.testing.assert_allclose(features.second_moment(grad, previous, 0.75), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((), None),
        ((7,), None),
        ((2, 3), (0, 1)),
        ((3, 2), (1, 0)),
        ((4, 4), (0, 1)),
        ((3, 3, 64, 32), (3, 2)),
        ((5, 1, 5, 2), (0, 2)),
    ],
)
def test_factored_dims_are_the_two_largest(shape, dims):
    assert features.factored_dims(shape) == dims
