"""Optimizer weights as meta-parameters: a step is that of a hand-written optax loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_optim import LearnedOptimizer
from meta_train import data
from meta_train import problems
from meta_train import tasks


def _decaying_momentum(theta, *, num_steps):
    """Momentum with a rate that falls linearly to zero at num_steps, times the loss: all that a problem passes on."""

    def init(params):
        return jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)

    def update(updates, state, params, *, value):
        step, momentum = state
        rate = theta["rate"] * (1 - step / num_steps)
        momentum = jax.tree.map(lambda m, g: theta["decay"] * m + g, momentum, updates)
        updates = jax.tree.map(lambda m, p: -rate * value * (m + 0.01 * p), momentum, params)
        return updates, (step + 1, momentum)

    return optax.GradientTransformationExtraArgs(init, update)


OPTIMIZER = LearnedOptimizer(
    init=lambda key: {"rate": jnp.asarray(0.1), "decay": jnp.asarray(0.5)}, transform=_decaying_momentum, spec={}
)


@pytest.mark.parametrize("num_steps", [4, 100])
@pytest.mark.parametrize(
    "build",
    [
        lambda: tasks.quadratic(size=3),
        lambda: tasks.softmax_regression(
            "scaled", data.load("iris"), batch_size=4, variation=tasks.Variation(init_scale=(0.1, 10.0))
        ),
    ],
)
def test_steps_equal_a_hand_written_loop(build, num_steps):
    task = build()
    problem = problems.optimizer_weights(OPTIMIZER, task)
    assert problem.name == task.name
    assert problem.data is task.data
    theta = OPTIMIZER.init(None)
    state = problem.init(jax.random.key(0), theta, jnp.asarray(num_steps))
    step = jax.jit(problem.step)

    params, config = state.params, state.config
    momentum = jax.tree.map(jnp.zeros_like, params)
    grad = jax.jit(jax.value_and_grad(task.loss))
    for index in range(3):
        key = jax.random.key(10 + index)
        state, problem_loss = step(key, theta, state, problem.data)
        loss, grads = grad(params, key, task.data, config)
        np.testing.assert_allclose(problem_loss, task.normalize(loss), rtol=1e-5, atol=1e-6)
        momentum = jax.tree.map(lambda m, g: 0.5 * m + g, momentum, grads)
        rate = 0.1 * (1 - index / num_steps) * float(loss)
        params = jax.tree.map(lambda p, m, rate=rate: p - rate * (m + 0.01 * p), params, momentum)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), state.params, params)
    assert int(state.opt_state[0]) == 3


def test_an_episode_draws_its_configuration_and_parameters_from_the_key():
    problem = problems.optimizer_weights(OPTIMIZER, tasks.quadratic(size=3))
    init = jax.jit(problem.init)
    first, again, other = (init(jax.random.key(seed), OPTIMIZER.init(None), jnp.asarray(5)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    drawn = lambda state: jax.tree.leaves((state.config, state.params))
    for a, b in zip(drawn(first), drawn(other), strict=True):
        assert np.all(a != b)
    assert int(first.num_steps) == 5


def test_theta_and_num_steps_reach_the_first_state_of_the_optimizer():
    def transform(theta, *, num_steps):
        return optax.GradientTransformationExtraArgs(lambda params: (theta, num_steps), lambda *_: None)

    optimizer = LearnedOptimizer(lambda key: None, transform, {})
    problem = problems.optimizer_weights(optimizer, tasks.quadratic(size=3))
    assert problem.init(jax.random.key(0), "theta", 42).opt_state == ("theta", 42)


def test_horizon_dropout_hides_the_horizon_in_its_share_of_the_episodes():
    """The optimizer sees 0, and 0 is what it sees in all later steps of that episode; the others see the length."""
    init = lambda share: jax.vmap(
        lambda key: problems.optimizer_weights(OPTIMIZER, tasks.quadratic(size=3), horizon_dropout=share).init(
            key, OPTIMIZER.init(key), jnp.asarray(50, jnp.int32)
        )
    )(jax.random.split(jax.random.key(0), 2000))
    told = init(0.3).num_steps
    assert set(told.tolist()) == {0, 50}
    assert abs(np.mean(told == 0) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    assert set(init(0.0).num_steps.tolist()) == {50}
    assert set(init(1.0).num_steps.tolist()) == {0}


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_horizon_dropout_that_is_no_share_is_an_error(share):
    with pytest.raises(ValueError, match=f"horizon_dropout is a share of the episodes, from 0 to 1, got {share}"):
        problems.optimizer_weights(OPTIMIZER, tasks.quadratic(size=3), horizon_dropout=share)


def _recording(task, seen):
    def loss(params, key, data, config):
        seen.extend(leaf.dtype for leaf in jax.tree.leaves((params, data, config)))
        return task.loss(params, key, data, config)

    return task._replace(loss=loss)


def _gradient_descent(theta, *, num_steps):
    del theta, num_steps
    init = lambda params: jax.tree.map(jnp.zeros_like, params)
    return optax.GradientTransformationExtraArgs(init, lambda grads, state, params, *, value: (grads, grads))


PLAIN = LearnedOptimizer(lambda key: jnp.asarray(0.5), _gradient_descent, {})


@pytest.mark.parametrize(
    "build",
    [
        lambda: tasks.quadratic(size=3),
        lambda: tasks.softmax_regression("iris", data.load("iris"), batch_size=8),
    ],
)
def test_bfloat16_is_what_the_loss_sees_and_float32_what_all_else_sees(build):
    """The update of this optimizer, and its state, is the gradient."""
    seen, task = [], build()
    results = {}
    for dtype in (None, jnp.bfloat16):
        seen.clear()
        problem = problems.optimizer_weights(PLAIN, _recording(task, seen), compute_dtype=dtype)
        state = problem.init(jax.random.key(0), jnp.asarray(0.5), jnp.asarray(5))
        results[dtype] = jax.jit(problem.step)(jax.random.key(1), jnp.asarray(0.5), state, problem.data)
        floating = {dtype for dtype in seen if jnp.issubdtype(dtype, jnp.floating)}
        assert floating == {jnp.dtype(dtype or jnp.float32)}
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((results[dtype][0].opt_state, state.params)))
        assert results[dtype][1].dtype == jnp.float32
    (exact, exact_loss), (rough, rough_loss) = results.values()
    gradients = [jnp.concatenate([x.ravel() for x in jax.tree.leaves(state.opt_state)]) for state in (exact, rough)]
    error = jnp.linalg.norm(gradients[0] - gradients[1]) / jnp.linalg.norm(gradients[0])
    assert 0 < error < 0.03  # bfloat16 has 8 significant bits
    np.testing.assert_allclose(rough_loss, exact_loss, atol=0.05)


@pytest.mark.parametrize("dtype", [jnp.int32, bool])
def test_a_compute_dtype_that_is_not_floating_is_an_error(dtype):
    with pytest.raises(TypeError, match="a task computes in a floating-point type"):
        problems.optimizer_weights(OPTIMIZER, tasks.quadratic(size=3), compute_dtype=dtype)
