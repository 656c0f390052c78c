"""Synthetic data sets: matched gradients and unrolled training, against answers that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import data
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import truncation
from meta_train.data import Dataset
from meta_train.few_shot import Network
from meta_train.few_shot import perceptron
from meta_train.problems import Synthetic

X = np.array([[1.0, 2.0], [3.0, -1.0], [-2.0, 0.5], [0.0, 1.5], [2.0, 2.0]])
DATASET = Dataset(X, np.array([0, 1, 0, 1, 0], np.int32), X[:2], np.array([0, 1], np.int32))
W = np.array([[0.3, -0.2], [0.1, 0.4]])
LINEAR = Network(lambda key, inputs: {"w": jnp.asarray(W)}, lambda params, inputs: inputs @ params["w"], "w")


def _gradient(w, inputs, label):
    """Of the mean cross-entropy of a linear network, in NumPy."""
    logits = inputs @ w
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p[:, label] -= 1
    return inputs.T @ p / len(inputs)


def test_the_distance_of_a_match_is_that_of_the_formula_and_the_network_then_trains_on_the_synthetic_examples():
    """All examples of a class are alike, so that the draw does not matter."""
    same = DATASET._replace(train_x=np.array([X[0], X[1], X[0], X[1], X[0]]))
    inputs = np.array([[[0.5, 1.0]], [[-1.0, 0.2]]])
    with jax.enable_x64(True):
        problem = problems.gradient_matching(same, LINEAR, inner_optimizer=optax.sgd(0.5), inner_steps=2, batch_size=3)
        theta = jnp.asarray(inputs)
        state = problem.init(jax.random.key(0), theta, jnp.asarray(1))
        data = jax.tree.map(jnp.asarray, problem.data)
        state, distance = jax.jit(problem.step)(jax.random.key(1), theta, state, data)
    expected = 0.0
    for label in (0, 1):
        a, b = _gradient(W, X[label : label + 1], label), _gradient(W, inputs[label], label)
        cosines = (a * b).sum(axis=0) / (np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0) + 1e-6)
        expected += np.sum(1 - cosines)
    np.testing.assert_allclose(distance, expected, rtol=1e-10)
    w = W
    for _ in range(2):
        w = w - 0.5 * (_gradient(w, inputs[0], 0) + _gradient(w, inputs[1], 1)) / 2
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-10)


def test_no_derivative_of_a_match_goes_through_the_training_before_it():
    """The gradient of two matches by full backprop is the sum of those of the single matches."""
    with jax.enable_x64(True):
        problem = problems.gradient_matching(DATASET, LINEAR, inner_optimizer=optax.sgd(0.5), batch_size=2)
        theta, data = jnp.asarray([[[0.5, 1.0]], [[-1.0, 0.2]]]), jax.tree.map(jnp.asarray, problem.data)

        def matches(first, second):
            state = problem.init(jax.random.key(0), first, jnp.asarray(2))
            state, loss = problem.step(jax.random.key(1), first, state, data)
            return loss + problem.step(jax.random.key(2), second, state, data)[1]

        whole = jax.grad(lambda theta: matches(theta, theta))
        apart = lambda theta: jax.tree.map(jnp.add, *jax.grad(matches, (0, 1))(theta, jax.lax.stop_gradient(theta)))
        np.testing.assert_allclose(jax.jit(whole)(theta), jax.jit(apart)(theta), rtol=1e-12)


def test_unrolled_training_has_the_derivative_of_differences():
    """By an input and by the logarithm of the rate, after three steps on the synthetic examples."""
    with jax.enable_x64(True):
        bilevel = problems.synthetic_training(DATASET, LINEAR, batch_size=4)
        problem = problems.unrolled(bilevel, lambda theta: optax.sgd(jnp.exp(theta.log_rate)))
        estimator = estimators.truncated_backprop(
            problem,
            num_particles=1,
            unroll_length=3,
            horizon=truncation.constant(3),
            stagger=False,
            objective=lambda losses: losses[-1],
        )
        theta = Synthetic(jnp.asarray([[[0.5, 1.0]], [[-1.0, 0.2]]]), jnp.asarray(-0.7))
        state = estimator.init(jax.random.key(0), theta)
        data = jax.tree.map(jnp.asarray, estimator.data)
        estimate = jax.jit(lambda theta: estimator.estimate(jax.random.key(1), theta, state, data))
        gradient, _, info = estimate(theta)
        last = lambda theta: estimate(theta)[2].step_losses[-1]
        for name, place in (("inputs", (1, 0, 0)), ("log_rate", ())):
            moved = [theta._replace(**{name: getattr(theta, name).at[place].add(d)}) for d in (1e-5, -1e-5)]
            slope = (last(moved[0]) - last(moved[1])) / 2e-5
            np.testing.assert_allclose(getattr(gradient, name)[place], slope, rtol=1e-7)
        assert info.step_losses.shape == (3,)


@pytest.mark.optax_promotion
def test_fit_matches_gradients_and_resumes(tmp_path):
    digits = data.load("digits", size=4)
    problem = problems.gradient_matching(digits, perceptron(10, ()), inner_optimizer=optax.sgd(0.1), batch_size=8)
    estimator = estimators.truncated_backprop(
        problem, num_particles=1, unroll_length=1, horizon=truncation.constant(2), stagger=False
    )
    theta = problems.real_examples(jax.random.key(0), digits, per_class=1)
    arguments = {"clip_norm": None, "steps_per_dispatch": 4, "progress": False}
    train = lambda num_steps, **more: fit(
        estimator, theta, optax.sgd(0.1, 0.5), num_steps=num_steps, **arguments, **more
    )
    whole = train(8)
    train(4, run_dir=tmp_path)
    resumed = train(8, run_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    assert whole.theta.shape == (10, 1, 4, 4, 1) and np.any(whole.theta != theta)
    assert [row["step"] for row in resumed.metrics] == list(range(1, 9))


def test_real_examples_are_of_their_class_and_all_different():
    inputs = np.asarray(problems.real_examples(jax.random.key(3), DATASET, per_class=2))
    for label in (0, 1):
        own = X[DATASET.train_y == label].astype(np.float32).tolist()
        assert all(example in own for example in inputs[label].tolist())
        assert inputs[label][0].tolist() != inputs[label][1].tolist()


def test_bad_arguments():
    with pytest.raises(ValueError, match="batch_size must be at least 1 and inner_steps not negative, got 0 and 1"):
        problems.gradient_matching(DATASET, LINEAR, inner_optimizer=optax.sgd(0.1), batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        problems.synthetic_training(DATASET, LINEAR, batch_size=0)
    with pytest.raises(ValueError, match="per_class must lie between 1 and 2, the size of the smallest class, got 3"):
        problems.real_examples(jax.random.key(0), DATASET, per_class=3)
    with pytest.raises(ValueError, match=r"each class needs an example to train on, and \[1\] have none"):
        problems.real_examples(jax.random.key(0), DATASET._replace(train_y=np.array([0, 2, 0, 2, 0], np.int32)), 1)
