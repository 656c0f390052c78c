"""Sampled coordinates: exact losses, and on average the gradient of `optimizer_weights` without second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim.optimizers.coordinatewise_lstm import by_units
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.unroll import truncation

OPTIMIZER = learned_optim.coordinatewise_lstm(3, 2)
WINDOW = 4


@pytest.fixture(scope="module")
def task():
    """Two tensors, of 10 and 5 coordinates, and a loss that differs from step to step."""
    target = np.random.RandomState(0).standard_normal(10).astype(np.float32)

    def loss(params, key, data, config):
        del config
        errors = params["w"] * (1.0 + jax.random.uniform(key)) - data + jnp.tile(params["v"], 2)
        return jnp.mean(errors**4)

    return tasks.quadratic()._replace(
        data=jnp.asarray(target),
        sample=lambda key: (),
        init=lambda key, config: {"v": jax.random.normal(key, (5,)), "w": jax.random.normal(key, (10,))},
        loss=loss,
        loss_scale=lambda config: 1.0,
        normalize=lambda loss: 0.1 * loss,
    )


def _window(problem, theta, key, state=None):
    """Gradient of a window's mean loss, and the losses."""

    def objective(theta):
        def step(state, key):
            return problem.step(key, theta, state, problem.data)

        first = problem.init(key, theta, jnp.asarray(WINDOW, jnp.int32)) if state is None else state
        losses = jax.lax.scan(step, first, jax.random.split(key, WINDOW))[1]
        return jnp.mean(losses), losses

    return jax.grad(objective, has_aux=True)(theta)


@pytest.mark.optax_promotion
def test_all_coordinates_give_the_gradient_of_optimizer_weights(task):
    theta, key = OPTIMIZER.init(jax.random.key(1)), jax.random.key(2)
    sampled = problems.sampled_coordinates(by_units(OPTIMIZER), task, every=1)
    whole = problems.optimizer_weights(OPTIMIZER, task, second_derivatives=False)
    have, want = (jax.jit(lambda p=p: _window(p, theta, key))() for p in (sampled, whole))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), have, want)


@pytest.mark.optax_promotion
def test_samples_are_exact_in_the_loss_and_unbiased_in_the_gradient(task):
    """The mean over all places where a sample can begin is the whole gradient; a sample alone is not."""
    theta, key = OPTIMIZER.init(jax.random.key(1)), jax.random.key(2)
    whole, losses = _window(problems.sampled_coordinates(OPTIMIZER, task, every=1), theta, key)
    problem = problems.sampled_coordinates(OPTIMIZER, task, every=3, at_least=6)
    fresh = problem.init(key, theta, jnp.asarray(WINDOW, jnp.int32))
    assert [leaf.shape for leaf in fresh.params] == [(5 + 3,), (7,)]
    flat = task.init(jax.random.split(key)[1], ())
    flat = jnp.concatenate([flat["v"], flat["w"]])

    @jax.jit
    @jax.vmap
    def from_shift(shift):
        """The sample of w begins at `shift`; v has fewer than six coordinates, so it is taken whole."""
        sample = (shift + 3 * jnp.arange(3)) % 10
        rest = jnp.sort(jnp.where(jnp.isin(jnp.arange(10), sample), 10, (jnp.arange(10) - shift) % 10))[:7]
        groups = jnp.concatenate([flat[:5], flat[5:][sample]]), flat[5:][(rest + shift) % 10]
        return _window(problem, theta, key, fresh._replace(params=groups, shifts=jnp.stack([0, shift])))

    gradients, sampled_losses = from_shift(jnp.arange(10))
    np.testing.assert_allclose(sampled_losses, np.tile(losses, (10, 1)), rtol=1e-5)
    for have, want in zip(jax.tree.leaves(gradients), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(have.mean(axis=0), want, rtol=1e-3, atol=1e-6)
    first = jax.tree.map(lambda x: x[0], gradients)
    assert np.all(np.abs(whole["linear"]["w"]) > 1e-3)
    assert not np.allclose(first["linear"]["w"], whole["linear"]["w"], rtol=0.01)


@pytest.mark.optax_promotion
def test_kernels_have_a_network_of_their_own():
    """Tensors of rank 3, 1 and 4; two of the three belong together, the first and the last of the tree."""
    optimizer = learned_optim.coordinatewise_lstm(3, 1, separate_kernels=True)
    shapes = {"a": (1, 2, 2), "b": (3,), "c": (1, 2, 1, 2)}
    task = tasks.quadratic()._replace(
        data=(),
        sample=lambda key: (),
        init=lambda key, config: {
            name: jax.random.normal(jax.random.fold_in(key, i), shape) for i, (name, shape) in enumerate(shapes.items())
        },
        loss=lambda params, key, data, config: sum(
            jnp.sum(jnp.arange(1.0, 1.0 + leaf.size) * leaf.reshape(-1) ** 4) for leaf in params.values()
        ),
        loss_scale=lambda config: 1.0,
        normalize=lambda loss: 0.1 * loss,
    )
    theta, key = optimizer.init(jax.random.key(1)), jax.random.key(2)
    sampled = problems.sampled_coordinates(by_units(optimizer), task, every=1, separate_kernels=True)
    whole = problems.optimizer_weights(optimizer, task, second_derivatives=False)
    have, want = (jax.jit(lambda p=p: _window(p, theta, key))() for p in (sampled, whole))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), have, want)
    assert np.abs(want[0]["kernels"]["linear"]["b"] - want[0]["rest"]["linear"]["b"]) > 1e-3


@pytest.mark.optax_promotion
def test_truncated_backprop_takes_it(task):
    problem = problems.sampled_coordinates(by_units(OPTIMIZER), task, every=3, at_least=6)
    estimator = estimators.truncated_backprop(
        problem, num_particles=1, unroll_length=2, horizon=truncation.constant(5), stagger=False
    )
    theta = OPTIMIZER.init(jax.random.key(0))
    state = estimator.init(jax.random.key(1), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(2), theta, state, estimator.data)
    assert jax.tree.structure(gradient) == jax.tree.structure(theta)
    assert np.isfinite(info.loss)


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 2, "at_least": 0}])
def test_bad_sizes_are_an_error(task, options):
    with pytest.raises(ValueError, match="every and at_least must be at least 1, got every="):
        problems.sampled_coordinates(OPTIMIZER, task, **options)
