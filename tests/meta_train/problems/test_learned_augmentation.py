"""A learned augmentation: what it does to examples, and that trusted examples tell it what to do."""

import jax
import numpy as np
import optax
import pytest

from meta_train import estimators
from meta_train import few_shot
from meta_train import problems
from meta_train.problems import TrustedData

RNG = np.random.default_rng(0)
LABELS = np.arange(20, dtype=np.int32) % 2
TRUSTED = np.stack([4.0 * LABELS - 2.0, RNG.normal(size=20)], axis=1).astype(np.float32)
SHIFTED = TRUSTED + np.array([3.0, 0.0], np.float32)  # the training examples lie elsewhere
DATA = TrustedData(SHIFTED, LABELS, TRUSTED, LABELS)
AUGMENTER = few_shot.perceptron(2, ())


def test_it_begins_with_small_changes_that_noise_makes():
    theta = problems.augmenter_theta(DATA, AUGMENTER, jax.random.key(0), num_noise=3)
    one, other = (problems.augmented(AUGMENTER, theta, jax.random.key(i), SHIFTED, num_noise=3) for i in (1, 2))
    assert one.shape == SHIFTED.shape and one.dtype == np.float32
    assert 0 < np.abs(one - SHIFTED).mean() < 0.5 and 0 < np.abs(one - other).mean() < 0.5


@pytest.mark.optax_promotion
def test_trusted_examples_tell_it_to_undo_a_shift():
    """The boundary that training examples give is off by 3; what the augmenter learns brings it back."""
    bilevel = problems.learned_augmentation(DATA, few_shot.perceptron(2, ()), AUGMENTER, num_noise=1, batch_size=20)
    theta = problems.augmenter_theta(DATA, AUGMENTER, jax.random.key(0), num_noise=1)
    solver = estimators.linear_solvers.neumann(num_terms=10, step_size=0.2)
    estimator = estimators.implicit(bilevel, inner_optimizer=optax.sgd(0.2), inner_steps=20, solver=solver)
    optimizer = optax.adam(0.03)

    def step(carry, key):
        theta, state, opt_state = carry
        gradient, state, info = estimator.estimate(key, theta, state, estimator.data)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(theta, updates), state, opt_state), info.loss

    carry = theta, estimator.init(jax.random.key(1), theta), optimizer.init(theta)
    _, losses = jax.jit(lambda carry: jax.lax.scan(step, carry, jax.random.split(jax.random.key(2), 40)))(carry)
    assert losses[0] > 0.2 and losses[-1] < losses[0] / 100


@pytest.mark.optax_promotion
def test_the_penalty_is_on_the_classifier_alone():
    network = few_shot.perceptron(2, ())
    theta = problems.augmenter_theta(DATA, AUGMENTER, jax.random.key(0))
    build = lambda penalty: problems.learned_augmentation(DATA, network, AUGMENTER, batch_size=20, penalty=penalty)
    params = network.init(jax.random.key(1), SHIFTED)
    found = [build(penalty).inner_loss(params, theta, jax.random.key(2), DATA) for penalty in (0.0, 0.4)]
    np.testing.assert_allclose(found[1] - found[0], 0.2 * sum(np.sum(w**2) for w in jax.tree.leaves(params)), rtol=1e-4)
    with pytest.raises(ValueError, match=r"penalty must not be negative, got -1\.0"):
        build(-1.0)


@pytest.mark.parametrize("argument", ["batch_size", "num_noise"])
def test_arguments_out_of_range(argument):
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        problems.learned_augmentation(DATA, few_shot.perceptron(2, ()), AUGMENTER, **{argument: 0})
