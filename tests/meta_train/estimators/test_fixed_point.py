"""Exact products and quotients in fixed point, against Python's integers, and the size of what products drop."""

import fractions

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators import fixed_point

NUM_STEPS, SIZE = 2000, 5


def _there_and_back(numbers, decays):
    """The numbers after each product, the buffers there, and numbers and buffer after all quotients."""
    rows = fixed_point.rows_needed(len(decays), min(decays))
    n = fixed_point.numerator(jnp.asarray(decays))
    steps = jnp.arange(len(decays), dtype=jnp.int32)

    def there(carry, step):
        integers, buffer = fixed_point.multiply(*carry, n[step])
        return (integers, fixed_point.stow(buffer, step, True)), integers

    def back(carry, step):
        integers, buffer = carry
        return fixed_point.divide(integers, fixed_point.fetch(buffer, step, True), n[step]), None

    @jax.jit
    def run(integers):
        end, path = jax.lax.scan(there, (integers, fixed_point.empty(len(numbers), rows)), steps)
        return path, end[1], jax.lax.scan(back, end, steps[::-1])[0]

    return run(fixed_point.to_fixed(jnp.asarray(numbers)))


def test_every_bit_comes_back():
    """Whatever the decays are, and with several rows pushed and popped."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        numbers = np.array([1.0, -1.0, 1e-12, -900.0, np.pi])
        decays = rng.uniform(0.5, 1.0, size=400)
        path, buffer, (integers, emptied) = _there_and_back(numbers, decays)
        assert int(buffer.count) >= 3
        np.testing.assert_array_equal(integers, fixed_point.to_fixed(jnp.asarray(numbers)))
        assert int(emptied.count) == 0
        np.testing.assert_array_equal(emptied.low, np.zeros(SIZE))
        assert np.all(np.abs(path[-1]) < 2**16)  # all numbers have decayed to what one product may add


def test_a_product_by_python_s_integers():
    with jax.enable_x64(True):
        for number in (0.7, -0.7):
            c, b, n, d = int(number * 2**52) + 12345, 54321, 58982, 2**16
            buffer = fixed_point.empty(1, 1)._replace(low=jnp.array([b]), bound=jnp.asarray(b))
            product, after = fixed_point.multiply(jnp.array([c]), buffer, jnp.asarray(n))
            b = b * d + c % d
            expected, b = (c // d) * n + b % n, b // n
            assert (int(product[0]), int(after.low[0])) == (expected, b)
            assert abs(expected - c * fractions.Fraction(n, d)) < n


def test_bits_a_step():
    """2,000 products with 0.9 keep 0.1525 bits a step, if the integers of Python stand for the whole buffer."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        n, d = int(fixed_point.numerator(jnp.asarray(0.9))), 2**16
        numbers = [int(x) for x in rng.integers(-(2**52), 2**52, size=20)]
        buffers = [0] * 20
        for step in range(NUM_STEPS):
            for i, c in enumerate(numbers):
                if step % 50 == 0:  # what a gradient would add, so that there is something to drop
                    c += int(rng.integers(-(2**52), 2**52))
                b = buffers[i] * d + c % d
                numbers[i], buffers[i] = (c // d) * n + b % n, b // n
        bits = np.mean([b.bit_length() for b in buffers]) / NUM_STEPS
        np.testing.assert_allclose(bits, 0.1525, atol=0.002)
        np.testing.assert_allclose(np.log2(d / n), 0.152, atol=1e-3)

        rows = fixed_point.rows_needed(NUM_STEPS, 0.9)
        _, buffer, _ = _there_and_back(np.ones(SIZE), [0.9] * NUM_STEPS)
        assert int(buffer.count) == rows == 6
        used = 64 * (rows + 1) / NUM_STEPS
        assert bits < used < 1.5 * bits  # in words of 64 bits


def test_nothing_is_stowed_or_fetched_when_inactive():
    with jax.enable_x64(True):
        full = fixed_point.empty(1, 2)._replace(low=jnp.array([7]), bound=jnp.asarray(2**50))
        step, other = jnp.asarray(3, jnp.int32), jnp.asarray(4, jnp.int32)
        jax.tree.map(np.testing.assert_array_equal, fixed_point.stow(full, step, False), full)
        stowed = fixed_point.stow(full, step, True)
        assert (int(stowed.low[0]), int(stowed.words[0, 0]), int(stowed.count)) == (0, 7, 1)
        jax.tree.map(np.testing.assert_array_equal, fixed_point.fetch(stowed, step, False), stowed)
        jax.tree.map(np.testing.assert_array_equal, fixed_point.fetch(stowed, other, True), stowed)
        fetched = fixed_point.fetch(stowed, step, True)
        assert (int(fetched.low[0]), int(fetched.count)) == (7, 0)


def test_rows_needed_by_decays_of_any_order():
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        for _ in range(3):
            decays = rng.uniform(0.6, 1.0, size=300)
            _, buffer, _ = _there_and_back(np.ones(1), decays)
            assert int(buffer.count) <= fixed_point.rows_needed(300, 0.6)
    assert fixed_point.rows_needed(1000, 1.0) == 0
