"""Backpropagation through the last steps against linear algebra and full backpropagation; its limits on gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import full_backprop
from meta_train.estimators import k_rmd
from meta_train.problems import objectives
from meta_train.unroll import truncation
from meta_train.unroll.problem import Problem


def _theta():
    return {"a": jnp.array([0.5, -1.0], jnp.float64), "b": jnp.asarray(0.7, jnp.float64)}


def _flat(gradient):
    return np.append(gradient["a"], gradient["b"])


def _estimate(problem, theta=None, **options):
    theta = _theta() if theta is None else theta
    estimator = k_rmd(problem, **options)
    state = estimator.init(jax.random.key(0), theta)
    return jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)


@pytest.mark.parametrize(("num_backward", "decay"), [(1, 1.0), (5, 1.0), (5, 0.7), (13, 0.7), (20, 0.7), (5, 0.0)])
def test_the_last_steps_agree_with_linear_algebra(linear_quadratic, quick_to_compile, num_backward, decay):
    """With S = ds / dtheta, which is 0 before the last steps and loses a share in each, it is S' H s at the end."""
    with jax.enable_x64(True):
        init = lambda key, theta, num_steps: jnp.array([1.0, -1.0]) * theta["b"]
        problem = linear_quadratic._replace(init=init, data=(*linear_quadratic.data[:3], np.float64(0.0)))
        matrix, inputs, curvature, _ = problem.data
        weights, num_steps = _flat(_theta()), 13
        sensitivity = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
        state = sensitivity @ weights
        if num_backward < num_steps:
            sensitivity = np.zeros((2, 3))
        for time in range(num_steps):
            state = matrix @ state + inputs @ weights
            if time >= num_steps - num_backward:
                sensitivity = matrix @ (decay * sensitivity) + inputs
        gradient, _, info = _estimate(
            objectives.last(problem),
            num_particles=2,
            horizon=truncation.constant(num_steps),
            num_backward=num_backward,
            decay=decay,
        )
        np.testing.assert_allclose(_flat(gradient), sensitivity.T @ curvature @ state, rtol=1e-10)
        np.testing.assert_allclose(info.loss, state @ curvature @ state / 2, rtol=1e-10)
        assert int(info.inner_steps) == 2 * num_steps


def test_through_all_steps_it_is_full_backpropagation(linear_quadratic, quick_to_compile):
    """In noisy episodes of several lengths, some of them shorter than the last steps and none longer."""
    with jax.enable_x64(True):
        size = {"num_particles": 4, "horizon": truncation.log_uniform(3, 11)}
        gradient, state, info = _estimate(linear_quadratic, num_backward=11, **size)
        full = full_backprop(linear_quadratic, **size)
        expected = full.estimate(jax.random.key(1), _theta(), full.init(jax.random.key(0), _theta()), full.data)
        compare = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10)
        jax.tree.map(compare, (gradient, state, info), expected)


def test_steps_before_the_last_are_run_as_by_full_backpropagation(linear_quadratic, quick_to_compile):
    with jax.enable_x64(True):
        size = {"num_particles": 4, "horizon": truncation.log_uniform(3, 11)}
        _, _, info = _estimate(linear_quadratic, num_backward=2, **size)
        full = full_backprop(linear_quadratic, **size)
        _, _, expected = full.estimate(jax.random.key(1), _theta(), full.init(jax.random.key(0), _theta()), full.data)
        np.testing.assert_allclose(info.step_losses, expected.step_losses, rtol=1e-12)
        np.testing.assert_allclose(info.loss, expected.loss, rtol=1e-12)
        assert int(info.inner_steps) == int(expected.inner_steps)


@pytest.mark.parametrize("max_norm", [1e-3, 0.9, 1e30])
def test_the_gradient_of_each_episode_is_limited(quick_to_compile, max_norm):
    """Episodes of one step with the gradient (3, 4) times 10^k, k from -20 to 20."""
    init = lambda key, theta, num_steps: 10.0 ** jax.random.randint(key, (), -20, 21).astype(jnp.float32)
    step = lambda key, theta, state, data: (state, state * (3.0 * theta["a"] + 4.0 * theta["b"]))
    theta = {"a": jnp.zeros(()), "b": jnp.zeros(())}

    def gradients(max_norm):
        estimator = k_rmd(
            Problem(init, step), num_particles=1, horizon=truncation.constant(1), num_backward=1, max_norm=max_norm
        )
        state = estimator.init(jax.random.key(0), theta)
        estimate = lambda key: estimator.estimate(key, theta, state, estimator.data)[0]
        made = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(1), 64))
        return np.stack([made["a"], made["b"]], axis=1).astype(np.float64)

    norms = np.linalg.norm(gradients(None), axis=1)
    assert norms.min() < 1e-15
    assert norms.max() > 1e15
    expected = np.minimum(norms, max_norm)[:, None] * np.array([0.6, 0.8])
    np.testing.assert_allclose(gradients(max_norm), expected, rtol=1e-5)


def test_theta_may_mix_dtypes_and_lack_elements(quick_to_compile):
    with jax.enable_x64(True):
        theta = {"none": jnp.zeros((0,)), "a": jnp.ones((2,), jnp.float64), "b": jnp.ones((), jnp.float32)}
        step = lambda key, theta, state, data: (state, jnp.sum(theta["a"]) + theta["b"].astype(jnp.float64))
        problem = Problem(lambda key, theta, num_steps: jnp.zeros((), jnp.float64), step)
        gradient, _, _ = _estimate(
            problem, theta, num_particles=1, horizon=truncation.constant(2), num_backward=2, max_norm=1.0
        )
        np.testing.assert_allclose(gradient["a"], [3**-0.5, 3**-0.5], rtol=1e-6)
        np.testing.assert_allclose(gradient["b"], 3**-0.5, rtol=1e-6)
        assert [x.dtype for x in jax.tree.leaves(gradient)] == [x.dtype for x in jax.tree.leaves(theta)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"num_backward": 0}, "num_backward is a number of steps, at least 1, got 0"),
        ({"decay": 1.5}, "decay must be between 0 and 1, got 1.5"),
        ({"decay": float("nan")}, "decay must be between 0 and 1, got nan"),
        ({"max_norm": 0.0}, "max_norm must be positive, or None for no limit, got 0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(linear_quadratic, options, message):
    size = {"num_particles": 1, "horizon": truncation.constant(3), "num_backward": 2}
    with pytest.raises(ValueError, match=message):
        k_rmd(linear_quadratic, **{**size, **options})
