"""Augmentations change what the optimizer sees as they say, and nothing of what is evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_optim import LearnedOptimizer
from meta_train.tasks import augment
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer

KEY = jax.random.key(3)
# Two tensors, loss Σ k (w - 1)² with a factor from the episode.
BOWL = Task(
    "bowl",
    (),
    sample=lambda key: jax.random.uniform(key, (), jnp.float32, 1.0, 2.0),
    init=lambda key, config: {"a": jax.random.normal(key, (3,)), "b": jnp.full((2, 2), 0.5)},
    loss=lambda w, key, data, k: sum(k * jnp.sum(jnp.square(x - 1.0)) for x in w.values()),
    evaluate=lambda w, key, data, k: {"loss": sum(jnp.sum(jnp.square(x - 1.0)) for x in w.values())},
    normalize=log_normalizer(1.0),
    loss_scale=lambda config: config,
)
SCALINGS = [
    augment.reparametrized,
    augment.reparametrized_per_tensor,
    augment.reparametrized_per_parameter,
]


def test_wrappers_can_be_stacked():
    """Whatever the wrappers do to the parameters' scale, the loss at the start is that of the task."""
    task = BOWL
    for wrap in (*SCALINGS, augment.noisy_gradients, *SCALINGS):
        task = wrap(task)
    config = task.sample(KEY)
    params = task.init(jax.random.key(1), config)
    inner = config
    for _ in range(7):
        inner = inner[1]
    plain = BOWL.init(jax.random.key(1), inner)
    np.testing.assert_allclose(task.loss(params, KEY, (), config), BOWL.loss(plain, KEY, (), inner), rtol=1e-5)
    np.testing.assert_allclose(
        task.evaluate(params, KEY, (), config)["loss"], BOWL.evaluate(plain, KEY, (), inner)["loss"], rtol=1e-5
    )
    assert task.loss_scale(config) == inner
    assert task.name == "bowl"


@pytest.mark.parametrize("wrap", SCALINGS)
def test_reparametrized_gradients(wrap):
    """Parameters are divided by the factors, gradients multiplied."""
    task = wrap(BOWL, 0.1, 10.0)
    factors, inner = config = task.sample(KEY)
    params, plain = task.init(jax.random.key(1), config), BOWL.init(jax.random.key(1), inner)
    grads, plain_grads = (
        jax.grad(of.loss)(at, KEY, (), c) for of, at, c in ((task, params, config), (BOWL, plain, inner))
    )
    for name in plain:
        np.testing.assert_allclose(params[name] * factors[name], plain[name], rtol=1e-6)
        np.testing.assert_allclose(grads[name], plain_grads[name] * factors[name], rtol=1e-5)


@pytest.mark.parametrize(("wrap", "distinct"), list(zip(SCALINGS, (1, 2, 7), strict=True)))
def test_factors_are_log_uniform_and_shared_as_the_name_says(wrap, distinct):
    task = wrap(BOWL, 1e-3, 1e3)
    count = 3_000
    drawn, _ = jax.jit(jax.vmap(task.sample))(jax.random.split(KEY, count))
    widened = [np.broadcast_to(np.reshape(drawn[n], (count, -1)), (count, size)) for n, size in (("a", 3), ("b", 4))]
    exponents = np.log10(np.concatenate(widened, axis=1))
    assert len(np.unique(exponents[0])) == distinct
    assert -3 <= exponents.min() < -2.9
    assert 2.9 < exponents.max() <= 3.001
    assert np.all(abs(exponents.mean(axis=0)) < 4 * np.sqrt(36 / 12 / count))
    if distinct > 1:
        assert abs(np.corrcoef(exponents[:, 0], exponents[:, -1])[0, 1]) < 4 / np.sqrt(count)


def test_noise_in_the_gradient():
    """Unbiased, in units of the tensor's gradient, independent between steps; the loss is what it was."""
    task = augment.noisy_gradients(BOWL, 0.5, 0.5)
    std, inner = config = task.sample(KEY)
    np.testing.assert_allclose(std, 0.5, rtol=1e-6)
    params = task.init(jax.random.key(1), config)
    exact_loss, exact = jax.value_and_grad(BOWL.loss)(params, KEY, (), inner)
    count = 4_000
    losses, grads = jax.jit(jax.vmap(lambda key: jax.value_and_grad(task.loss)(params, key, (), config)))(
        jax.random.split(jax.random.key(0), count)
    )
    np.testing.assert_array_equal(losses, exact_loss)
    for name, value in exact.items():
        size = np.sqrt(np.mean(np.square(value)))
        assert np.all(abs(np.mean(grads[name], axis=0) - value) < 4.5 * 0.5 * size / np.sqrt(count))
        np.testing.assert_allclose(np.std(grads[name], axis=0), 0.5 * size, rtol=0.06)
    noise = [np.asarray(grads[name] - exact[name]).reshape(count, -1) for name in exact]
    assert abs(np.corrcoef(noise[0][:, 0], noise[1][:, 0])[0, 1]) < 4 / np.sqrt(count)


def test_reduced_precision():
    seen = []
    spy = BOWL._replace(loss=lambda w, key, data, k: seen.append((w["a"].dtype, k.dtype)) or BOWL.loss(w, key, data, k))
    task = augment.reduced_precision(spy)
    config = task.sample(KEY)
    params = task.init(jax.random.key(1), config)
    loss, grads = jax.value_and_grad(task.loss)(params, KEY, (), config)
    assert seen[0] == (jnp.bfloat16, jnp.bfloat16)
    assert loss.dtype == grads["a"].dtype == params["a"].dtype == jnp.float32
    exact, exact_grads = jax.value_and_grad(BOWL.loss)(params, KEY, (), config)
    assert 0 < abs(loss - exact) < 0.02 * exact
    np.testing.assert_allclose(grads["a"], exact_grads["a"], rtol=0.02)
    with pytest.raises(TypeError, match="a task computes in a floating-point type"):
        augment.reduced_precision(BOWL, jnp.int32)


def test_random_subspace():
    """z = 0 is the start, the gradient is the projection's, and the columns have a length of about 1."""
    size = 2
    wide = BOWL._replace(init=lambda key, config: {"a": jax.random.normal(key, (400,))})
    task = augment.random_subspace(wide, size)
    config = task.sample(KEY)
    params = task.init(jax.random.key(1), config)
    np.testing.assert_array_equal(params["z"], np.zeros(size))
    origin, basis = config.origin["a"], config.basis["a"]
    assert basis.shape == (400, size)
    np.testing.assert_allclose(np.linalg.norm(basis, axis=0), 1, atol=4 / np.sqrt(2 * 400))
    z = jnp.array([0.5, -2.0])
    place = {"a": origin + basis @ z}
    loss, grads = jax.value_and_grad(task.loss)({"z": z}, KEY, (), config)
    np.testing.assert_allclose(loss, wide.loss(place, KEY, (), config.inner), rtol=1e-5)
    exact = jax.grad(wide.loss)(place, KEY, (), config.inner)["a"]
    np.testing.assert_allclose(grads["z"], basis.T @ exact, rtol=1e-4)
    assert task.evaluate({"z": z}, KEY, (), config)["loss"] == wide.evaluate(place, KEY, (), config.inner)["loss"]
    assert task.loss_scale(config) == config.inner
    other = task.sample(jax.random.key(4))
    assert np.all(other.basis["a"] != basis)


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_delayed_gradients(delay):
    sgd = LearnedOptimizer(
        init=lambda key: jnp.float32(0.1),
        transform=lambda theta, *, num_steps=None: optax.GradientTransformationExtraArgs(
            lambda params: (), lambda updates, state, params=None, **extra: (jax.tree.map(jnp.negative, updates), state)
        ),
        spec={"kind": "sgd"},
    )
    late = augment.delayed_gradients(sgd, delay)
    assert late.spec == sgd.spec
    tx = late.transform(late.init(KEY), num_steps=5)
    state = tx.init({"w": jnp.zeros(2)})
    got = []
    for step in range(6):
        updates, state = jax.jit(tx.update)({"w": jnp.full(2, step + 1.0)}, state, {"w": jnp.zeros(2)})
        got.append(-float(updates["w"][0]))
    assert got == [max(1.0, step + 1.0 - delay) for step in range(6)]


def test_bad_arguments():
    for wrap in (*SCALINGS, augment.noisy_gradients):
        with pytest.raises(ValueError, match=r"a range must be 0 < low <= high, got 0\.0 and 1\.0"):
            wrap(BOWL, 0.0, 1.0)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        augment.random_subspace(BOWL, 0)
    with pytest.raises(ValueError, match="delay must be at least 0 steps, got -1"):
        augment.delayed_gradients(LearnedOptimizer(None, None, {}), -1)
