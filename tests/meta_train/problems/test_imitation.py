"""Imitation: loss and gradient by hand in float64, a copy of the expert, and an optimizer that learns to be one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from learned_optim import LearnedOptimizer
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train.tasks.base import Task
from meta_train.unroll import truncation

# `learned_momentum`, with states in the dtype of the parameters.
MOMENTUM = LearnedOptimizer(
    init=lambda key: {"log_learning_rate": jnp.asarray(-2.3), "log_one_minus_momentum": jnp.asarray(-0.9)},
    transform=lambda theta, *, num_steps=None: optax.sgd(
        jnp.exp(theta["log_learning_rate"]), 1 - jnp.exp(theta["log_one_minus_momentum"])
    ),
    spec={},
)
CURVATURE = {"a": np.array([1.0, 3.0, 0.5]), "b": np.array([0.2, 2.0])}


def _noise(key, name, dtype):
    return jax.random.normal(jax.random.fold_in(key, ord(name)), CURVATURE[name].shape, dtype)


def _noisy_quadratics():
    """The gradient of a minibatch is curvature * (p - noise of the key), tensor by tensor, in the dtype of p."""

    def loss(params, key, data, config):
        squares = [
            jnp.sum(0.5 * jnp.asarray(CURVATURE[name], p.dtype) * jnp.square(p - _noise(key, name, p.dtype)))
            for name, p in params.items()
        ]
        return sum(squares)

    init = lambda key, config: {"a": jnp.array([1.0, -2.0, 0.7]), "b": jnp.array([3.0, 0.1])}
    return Task("noisy", (), lambda key: (), init, loss, lambda *_: {}, lambda loss: loss)


def _grads(params, key):
    return {name: CURVATURE[name] * (p - np.asarray(_noise(key, name, p.dtype))) for name, p in params.items()}


def _expert_path(params, trace, key, *, rate, decay, num_steps, num_batches):
    """`(params, trace)` of SGD with momentum after each step, in NumPy."""
    keys, path = jax.random.split(key, (num_steps, num_batches)).at[0, 0].set(key), []
    for step in range(num_steps):
        grads = [_grads(params, keys[step, i]) for i in range(num_batches)]
        trace = {name: decay * trace[name] + np.mean([g[name] for g in grads], axis=0) for name in trace}
        params = {name: params[name] - rate * trace[name] for name in params}
        path.append((params, trace))
    return path


def _loss_by_hand(theta, grads, trace, target, magnitude):
    """Loss and its gradient with respect to theta, of the update -exp(λ) (g + (1 - exp(ν)) trace)."""
    rate, mixing = np.exp(theta["log_learning_rate"]), np.exp(theta["log_one_minus_momentum"])
    loss, by_rate, by_momentum = 0.0, 0.0, 0.0
    for name, d in target.items():
        u = -rate * (grads[name] + (1 - mixing) * trace[name])
        length, other = np.linalg.norm(u), np.linalg.norm(d)
        cosine, ratio = u @ d / (length * other), (length / other) ** 2
        log_ratio = 0.5 * np.log((ratio + 1e-6) / (1 + 1e-6))
        loss += ((1 - magnitude) * (1 - cosine) + magnitude * log_ratio**2) / 2
        slope = -(1 - magnitude) * (d / (length * other) - cosine * u / length**2)
        slope += magnitude * 2 * log_ratio * u / (other**2 * (ratio + 1e-6))
        by_rate += slope @ u / 2
        by_momentum += slope @ (rate * mixing * trace[name]) / 2
    return loss, {"log_learning_rate": by_rate, "log_one_minus_momentum": by_momentum}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def _start(problem, theta):
    """In float64."""
    state = problem.init(jax.random.key(0), theta, jnp.asarray(10))
    wide = lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
    return jax.tree.map(wide, state)


@pytest.mark.optax_promotion
def test_loss_gradient_and_states_by_hand(float64):
    theta = jax.tree.map(lambda x: x.astype(jnp.float64), MOMENTUM.init(None))
    rate, decay, magnitude = 0.2, 0.5, 0.3
    problem = problems.imitation(
        MOMENTUM, _noisy_quadratics(), optax.sgd(rate, decay), expert_steps=3, expert_batches=2, magnitude=magnitude
    )
    by_theta = lambda theta, key, state: problem.step(key, theta, state, ())[::-1]
    step = jax.jit(jax.value_and_grad(by_theta, has_aux=True))

    state = _start(problem, theta)
    params = jax.tree.map(np.asarray, state.inner.params)
    trace = own_trace = jax.tree.map(np.zeros_like, params)
    learning_rate, own_decay = np.exp(theta["log_learning_rate"]), 1 - np.exp(theta["log_one_minus_momentum"])
    for index, led in enumerate([False, True, False]):
        key = jax.random.key(10 + index)
        path = _expert_path(params, trace, key, rate=rate, decay=decay, num_steps=3, num_batches=2)
        target = {name: (path[-1][0][name] - params[name]) / 3 for name in params}
        grads = _grads(params, key)
        loss, gradient = _loss_by_hand(theta, grads, own_trace, target, magnitude)

        (found, state), found_gradient = step(theta, key, state._replace(led=jnp.asarray(led)))
        np.testing.assert_allclose(found, loss, rtol=1e-10)
        assert abs(gradient["log_learning_rate"]) > 1e-3
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found_gradient, gradient)

        own_trace = {name: grads[name] + own_decay * own_trace[name] for name in params}
        own = {name: params[name] - learning_rate * own_trace[name] for name in params}
        (expert_params, trace), params = path[0], path[0][0] if led else own
        assert all(np.all(expert_params[name] != own[name]) for name in own)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), state.inner.params, params)


@pytest.mark.optax_promotion
def test_a_copy_of_the_expert_has_neither_loss_nor_gradient(float64):
    theta = jax.tree.map(lambda x: x.astype(jnp.float64), MOMENTUM.init(None))
    rate, decay = float(np.exp(theta["log_learning_rate"])), float(1 - np.exp(theta["log_one_minus_momentum"]))
    problem = problems.imitation(
        MOMENTUM, _noisy_quadratics(), optax.sgd(rate, decay), expert_steps=1, expert_batches=1
    )

    @jax.jit
    def losses(theta, state):
        step = lambda state, key: problem.step(key, theta, state, ())
        return jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 5))[1]

    state = _start(problem, theta)
    derivatives = jax.jit(jax.jacrev(losses))
    np.testing.assert_allclose(losses(theta, state), 0, atol=1e-14)
    for derivative in jax.tree.leaves(derivatives(theta, state)):
        np.testing.assert_allclose(derivative, 0, atol=1e-12)
    other = theta | {"log_one_minus_momentum": theta["log_one_minus_momentum"] + 0.5}
    assert losses(other, state)[-1] > 1e-3
    assert abs(derivatives(other, state)["log_one_minus_momentum"][-1]) > 1e-3


@pytest.mark.optax_promotion
def test_momentum_and_rate_of_the_expert_are_recovered_and_runs_resume(tmp_path):
    optimizer = learned_optim.learned_momentum(0.01, 0.3)
    problem = problems.imitation(
        optimizer, tasks.quadratic(size=3), optax.sgd(0.03, 0.8), expert_steps=1, expert_batches=1
    )
    estimator = estimators.truncated_backprop(
        problem, num_particles=4, unroll_length=5, horizon=truncation.constant(20)
    )
    assert estimator.name == "quadratic"

    def run(**arguments):
        arguments = {"num_steps": 150, "steps_per_dispatch": 50, "progress": False} | arguments
        return fit(estimator, optimizer.init(None), optax.adam(0.05), **arguments)

    whole = run()
    np.testing.assert_allclose(np.exp(whole.theta["log_learning_rate"]), 0.03, rtol=0.05)
    np.testing.assert_allclose(1 - np.exp(whole.theta["log_one_minus_momentum"]), 0.8, rtol=0.03)
    assert whole.metrics[-1]["loss"] < 1e-3 < 0.1 < whole.metrics[0]["loss"]
    run(num_steps=50, run_dir=tmp_path)
    resumed = run(run_dir=tmp_path, resume=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.theta, whole.theta)


def test_the_share_of_episodes_that_the_expert_leads():
    def led(share):
        problem = problems.imitation(
            learned_optim.learned_sgd(), tasks.quadratic(size=2), optax.sgd(0.1), led_share=share
        )
        init = lambda key: problem.init(key, learned_optim.learned_sgd().init(key), jnp.asarray(5)).led
        return jax.vmap(init)(jax.random.split(jax.random.key(0), 1000)).mean()

    assert abs(led(0.3) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 1000)
    assert led(0.0) == 0


def test_tensors_of_any_scale_and_none():
    """A tensor counts whatever its scale, unless its target is zero; updates of zero have a loss and no NaN."""
    loss = jax.jit(jax.value_and_grad(problems.imitation_loss))
    update, target = jnp.array([3.0, 4.0]), jnp.array([1.0, 0.0])
    expected = 0.7 * (1 - 0.6) + 0.3 * np.log(5) ** 2
    for scale in (1.0, 1e-25, 1e25):
        found, slope = loss([scale * update, update], [scale * target, 0 * target])
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_array_equal(slope[1], 0)
        assert np.all(slope[0] != 0)
    assert loss([update, update], [0 * target, 0 * target])[0] == 0
    found, slope = loss([0 * update, update], [target, 0 * target])
    np.testing.assert_allclose(found, 0.7 + 0.3 * np.log(1e-3) ** 2, rtol=1e-4)
    assert np.all(np.isfinite(slope[0]))
    assert np.isnan(loss([update, update], [jnp.nan * target, target])[0])  # the particle begins anew


def test_arguments_that_do_not_fit():
    build = lambda **options: problems.imitation(
        learned_optim.learned_sgd(), tasks.quadratic(size=2), optax.sgd(0.1), **options
    )
    for name in ("expert_steps", "expert_batches"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            build(**{name: 0})
    for name in ("magnitude", "led_share"):
        with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1, got 1.5"):
            build(**{name: 1.5})
    with pytest.raises(ValueError, match="horizon_dropout is a share"):
        build(horizon_dropout=-1.0)
    with pytest.raises(ValueError, match=r"magnitude must lie between 0 and 1, got -0\.1"):
        problems.imitation_loss(jnp.ones(2), jnp.ones(2), magnitude=-0.1)
