"""Reversible learning: exact to the last bit on the way back, and equal to reverse mode through the stored run."""

import importlib

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import fit
from meta_train import problems
from meta_train.estimators import fixed_point
from meta_train.estimators import reversible
from meta_train.estimators import truncated_backprop
from meta_train.unroll import truncation

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(20, 3)), RNG.normal(size=20)
NUM_STEPS = 40


def _inner_loss(params, theta, key, data):
    """A small network on a minibatch, with a penalty that theta weighs."""
    inputs, targets = map(jnp.asarray, data)
    rows = jax.random.randint(key, (8,), 0, len(inputs))
    hidden = jnp.tanh(inputs[rows] @ params["first"])
    penalty = theta["penalty"] * jnp.sum(params["second"] ** 2)
    return jnp.mean((hidden @ params["second"] - targets[rows]) ** 2) + penalty


def _outer_loss(params, theta, key, data):
    inputs, targets = data
    hidden = jnp.tanh(inputs @ params["first"])
    return jnp.mean(jnp.abs(hidden @ params["second"] - targets) ** 1.5) + 0.1 * theta["penalty"] ** 2


def _rates(theta, step):
    return theta["rates"][step], theta["decays"][step]


NETWORK = Bilevel(
    _inner_loss,
    _outer_loss,
    init=lambda key, theta: {"first": theta["first"] * 1.0, "second": jnp.linspace(-1.0, 1.0, 4)},
    data=(INPUTS, TARGETS),
    name="network",
)


def _theta(num_steps):
    """Rates, decays in multiples of 2^-16, initial parameters, and a penalty."""
    return {
        "rates": jnp.asarray(RNG.uniform(0.05, 0.2, num_steps)),
        "decays": jnp.asarray(RNG.integers(40_000, 62_000, num_steps) / 2**16),
        "first": jnp.asarray(RNG.normal(size=(3, 4))),
        "penalty": jnp.asarray(0.1),
    }


def _estimate(problem, theta, num_steps, **arguments):
    estimator = reversible(problem, num_particles=1, horizon=truncation.constant(num_steps), **arguments)
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(7), theta, state, estimator.data)
    return gradient, info


def _stored_run(theta):
    """The objective of the same run in fixed point, rounding taken as the identity, for JAX to differentiate."""
    init_key, step_key = jax.random.split(jax.random.fold_in(jax.random.key(7), 0))
    flat, unravel = jax.flatten_util.ravel_pytree(NETWORK.init(init_key, theta))
    as_identity = lambda x, integers: x + jax.lax.stop_gradient(fixed_point.to_float(integers) - x)

    def step(carry, time):
        w, v, integers, buffer = carry
        inner_key, outer_key = jax.random.split(jax.random.fold_in(step_key, time))
        rate, decay = _rates(theta, time)
        slope = jax.grad(lambda w: _inner_loss(unravel(w), theta, inner_key, NETWORK.data))(w)
        push = -(1 - decay) * slope
        integers, buffer = jax.lax.stop_gradient(fixed_point.multiply(integers, buffer, fixed_point.numerator(decay)))
        buffer = fixed_point.stow(buffer, time, True)
        integers = integers + jax.lax.stop_gradient(fixed_point.to_fixed(push))
        v = as_identity(decay * v + push, integers)
        moved = w + rate * v
        w = as_identity(moved, jax.lax.stop_gradient(fixed_point.to_fixed(w) + fixed_point.to_fixed(rate * v)))
        return (w, v, integers, buffer), _outer_loss(unravel(w), theta, outer_key, NETWORK.data)

    w = as_identity(flat, jax.lax.stop_gradient(fixed_point.to_fixed(flat)))
    buffer = fixed_point.empty(flat.size, 20)
    first = (w, jnp.zeros_like(w), jnp.zeros_like(buffer.low), buffer)
    return _objective(jax.lax.scan(step, first, jnp.arange(NUM_STEPS, dtype=jnp.int32))[1])


def _objective(losses):
    return jnp.mean(losses) + losses[-1] ** 2


def test_equals_reverse_mode_through_the_stored_run():
    """For rates, decays, initial parameters and a penalty, up to the roundoff of float64."""
    with jax.enable_x64(True):
        theta = _theta(NUM_STEPS)
        problem = problems.momentum_descent(NETWORK, _rates)
        gradient, info = _estimate(problem, theta, NUM_STEPS, objective=_objective)
        assert int(info.dropped) == 0
        expected = jax.jit(jax.grad(_stored_run))(theta)
        for name, derivative in gradient.items():
            scale = np.max(np.abs(expected[name]))
            assert scale > 1e-3
            np.testing.assert_allclose(derivative, expected[name], rtol=1e-9, atol=1e-10 * scale, err_msg=name)


def test_an_episode_draws_its_data_once():
    """One step of rate 1/4 and decay 1/2 down a drawn slope s from 0 ends at -s / 8, for both losses the same s."""
    slopes = np.array([1.0, 2.0, 4.0])
    bilevel = Bilevel(
        inner_loss=lambda w, theta, key, slope: slope * w,
        outer_loss=lambda w, theta, key, slope: theta * w * slope,
        init=lambda key, theta: jnp.zeros_like(theta),
        data=slopes,
        sample=lambda key, data: jnp.asarray(data)[jax.random.randint(key, (), 0, 3)],
    )
    with jax.enable_x64(True):
        problem = problems.momentum_descent(bilevel, lambda theta, step: (0.25, 0.5))
        estimator = reversible(problem, num_particles=1, horizon=truncation.constant(1))
        theta, estimate, seen = jnp.asarray(2.0), jax.jit(estimator.estimate), set()
        state = estimator.init(jax.random.key(0), theta)
        for step in range(12):
            gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
            np.testing.assert_allclose(gradient, info.loss / 2, rtol=1e-12)
            seen.add(float(gradient))
        assert seen == set(-(slopes**2) / 8)


def test_agrees_with_backpropagation_through_the_run_in_floating_point():
    """Up to the digits that products with decays replace, 2^-36 each; on a task without minibatches."""
    with jax.enable_x64(True):
        theta = _theta(NUM_STEPS)
        full_batch = NETWORK._replace(inner_loss=lambda params, theta, key, data: _outer_loss(params, theta, key, data))
        problem = problems.momentum_descent(full_batch, _rates)
        gradient, info = _estimate(problem, theta, NUM_STEPS)
        unrolling = truncated_backprop(
            problem,
            num_particles=1,
            unroll_length=NUM_STEPS,
            horizon=truncation.constant(NUM_STEPS),
            stagger=False,
        )
        estimate, state = jax.jit(unrolling.estimate), unrolling.init(jax.random.key(0), theta)
        _, state, _ = estimate(jax.random.key(1), theta, state, unrolling.data)
        expected, _, expected_info = estimate(jax.random.key(2), theta, state, unrolling.data)
        np.testing.assert_allclose(info.loss, expected_info.loss, rtol=1e-9)
        for name, derivative in gradient.items():
            np.testing.assert_allclose(derivative, expected[name], rtol=1e-6, atol=1e-8, err_msg=name)


def _steps(size=3):
    """Descent on a bowl that theta shifts, with a sine so that no bit is spared; theta holds the rates too."""
    bilevel = Bilevel(
        inner_loss=lambda w, theta, key, data: 0.5 * jnp.sum((w - theta["shift"]) ** 2) + jnp.sum(jnp.sin(3 * w)),
        outer_loss=lambda w, theta, key, data: jnp.sum(w**2),
        init=lambda key, theta: jnp.linspace(0.5, 1.5, size).astype(theta["shift"].dtype),
    )
    return problems.momentum_descent(bilevel, lambda theta, step: (theta["rate"], theta["decay"]))


def _shift(rate=0.1, decay=0.9, dtype=jnp.float64):
    return {"shift": jnp.asarray(0.3, dtype), "rate": jnp.asarray(rate, dtype), "decay": jnp.asarray(decay, dtype)}


def _derivative_at_rest():
    """Where w - shift + 3 cos(3 w) = 0, dw / dshift = 1 / (1 - 9 sin(3 w)); by the steps in floating point."""
    problem, theta = _steps(), _shift()
    step = lambda _, state: problem.step(jax.random.key(0), theta, state, ())[0]
    w = np.asarray(jax.lax.fori_loop(0, 2000, step, problem.init(jax.random.key(0), theta, 2000)).params)
    return np.sum(2 * w / (1 - 9 * np.sin(3 * w)))


def test_two_thousand_steps_come_back_to_the_last_bit():
    """Parameters and velocity, with the buffer empty; six rows were pushed and popped on the way."""
    with jax.enable_x64(True):
        module = importlib.import_module("meta_train.estimators.reversible")  # its name is that of the function
        momentum, theta = _steps().momentum, _shift()
        flat, rows = momentum.bilevel.init(None, theta), fixed_point.rows_needed(2000, 0.9)
        assert rows == 6
        inner = module._Inner(momentum, lambda x: x, theta, jax.random.key(0), ())
        first = module._begin(flat, theta, 2000, rows)
        last = jax.jit(lambda run: module._there_and_back(inner, lambda losses: losses[-1], 0.9, run))(first)
        np.testing.assert_array_equal(last.params, fixed_point.to_fixed(flat))
        np.testing.assert_array_equal(last.velocity, np.zeros(3))
        np.testing.assert_array_equal(last.buffer.low, np.zeros(3))
        assert (int(last.buffer.count), bool(last.healthy)) == (0, True)
        assert np.all(np.asarray(last.buffer.pushed_at) > 0)
        assert abs(last.losses[0] - last.losses[-1]) > 0.1
        np.testing.assert_allclose(last.d_theta["shift"], _derivative_at_rest(), rtol=1e-7)


def test_float32_parameters():
    """The losses see float32, the way back is still exact."""
    with jax.enable_x64(True):
        gradient, info = _estimate(_steps(), _shift(dtype=jnp.float32), 400, objective=lambda losses: losses[-1])
        assert gradient["shift"].dtype == jnp.float32
        assert int(info.dropped) == 0
        np.testing.assert_allclose(gradient["shift"], _derivative_at_rest(), rtol=1e-4)


def test_runs_that_cannot_be_undone_are_dropped():
    """Decays below min_decay or above 1, a run that diverges, and one that is not a number."""
    with jax.enable_x64(True):
        estimator = reversible(_steps(), num_particles=1, horizon=truncation.constant(60))
        state, estimate = estimator.init(jax.random.key(0), _shift()), jax.jit(estimator.estimate)
        for rate, decay, dropped in ((0.1, 0.9, 0), (0.1, 0.4, 1), (0.1, 1.01, 1), (100.0, 0.9, 1), (np.nan, 0.9, 1)):
            gradient, _, info = estimate(jax.random.key(0), _shift(rate, decay), state, ())
            assert int(info.dropped) == dropped
            assert np.isnan(info.loss) == dropped
            assert (float(gradient["shift"]) == 0.0) == dropped


def test_memory_grows_by_the_buffer_alone():
    """By 5 rows for ten times the steps, where storing the path would take two rows a step."""
    with jax.enable_x64(True):
        size = 10_000

        def temporaries(num_steps):
            estimator = reversible(
                _steps(size=size), num_particles=1, horizon=truncation.constant(num_steps), min_decay=0.9
            )
            state, theta = estimator.init(jax.random.key(0), _shift()), _shift()
            lowered = jax.jit(estimator.estimate).lower(jax.random.key(0), theta, state, ())
            return lowered.compile().memory_analysis().temp_size_in_bytes

        few, many = 200, 2000
        rows = [max(1, fixed_point.rows_needed(steps, 0.9)) for steps in (few, many)]
        buffer = 8 * size * (rows[1] - rows[0])
        grown = temporaries(many) - temporaries(few)
        assert 0 < grown <= 1.5 * buffer
        assert grown < 0.02 * 2 * 8 * size * (many - few)


def test_several_particles_and_the_engine_s_axis():
    """Noise that differs from particle to particle: the mean over shards is that over all."""
    with jax.enable_x64(True):
        drawn = Bilevel(
            inner_loss=lambda w, theta, key, data: theta * (w - jax.random.normal(key)) ** 2,
            outer_loss=lambda w, theta, key, data: w**2,
            init=lambda key, theta: jax.random.normal(key),
        )
        problem = problems.momentum_descent(drawn, lambda theta, step: (0.1, 0.9))
        theta = jnp.asarray(0.3)
        estimator = reversible(problem, num_particles=4, horizon=truncation.constant(5))
        state = estimator.init(jax.random.key(0), theta).reshape(4, 1)

        def shards(axis_name):
            estimate = lambda state: estimator.estimate(jax.random.key(1), theta, state, (), axis_name=axis_name)
            gradients, _, infos = jax.vmap(estimate, axis_name="shards")(state)
            return gradients, infos

        (alone, alone_infos), (together, infos) = jax.jit(lambda: (shards(None), shards("shards")))()
        assert len(set(alone.tolist())) == 4
        np.testing.assert_allclose(together, 4 * [alone.mean()], rtol=1e-12)
        np.testing.assert_allclose(infos.loss, 4 * [alone_infos.loss.mean()], rtol=1e-12)
        np.testing.assert_array_equal(infos.inner_steps, 4 * [20])


def test_fit_learns_the_learning_rate():
    """One step of decay 1/2 from 1 on w^2 / 2 ends at 1 - theta / 2, whose square is least at 2."""
    with jax.enable_x64(True):
        square = lambda w, theta, key, data: 0.5 * w**2
        bilevel = Bilevel(square, square, init=lambda key, theta: jnp.ones(()))
        problem = problems.momentum_descent(bilevel, lambda theta, step: (theta, 0.5))
        estimator = reversible(problem, num_particles=2, horizon=truncation.constant(1))
        result = fit(estimator, np.float64(0.5), optax.sgd(2.0), num_steps=30, clip_norm=None, progress=False)
        np.testing.assert_allclose(result.theta, 2.0, rtol=1e-6)


def test_refusals():
    problem, constant = _steps(), truncation.constant(3)
    with pytest.raises(ValueError, match=r"call jax.config.update\('jax_enable_x64', True\)"):
        reversible(problem, num_particles=1, horizon=constant).init(jax.random.key(0), jnp.asarray(0.3))
    with pytest.raises(ValueError, match=r"reversible needs .* `momentum` \(.*\), which 'network', a Problem, lacks"):
        reversible(problems.unrolled(NETWORK, optax.sgd(0.1)), num_particles=1, horizon=constant)
    with pytest.raises(ValueError, match="episodes of one length, got 2 to 5 steps"):
        reversible(problem, num_particles=1, horizon=truncation.log_uniform(2, 5))
    with pytest.raises(ValueError, match=r"min_decay must lie above 0 and not above 1, got 0.0"):
        reversible(problem, num_particles=1, horizon=constant, min_decay=0.0)
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        reversible(problem, num_particles=0, horizon=constant)
