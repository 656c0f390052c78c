"""Learned losses: Meta-Weight-Net's gradient by hand, and a network that is the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import estimators
from meta_train import problems
from meta_train import truncation
from meta_train.few_shot import Network
from meta_train.few_shot import perceptron
from meta_train.problems import TrustedData

Y, TRUSTED = np.array([1.0, -2.0, 4.0]), np.array([0.5, 1.0])
DATA = TrustedData(np.zeros((3, 1)), Y, np.zeros((2, 1)), TRUSTED)
CONSTANT = Network(
    lambda key, inputs: jnp.full((), 0.25), lambda params, inputs: jnp.broadcast_to(params, len(inputs)), ""
)
SLOPE = Network(lambda key, inputs: jnp.zeros(()), lambda theta, losses: theta * losses, "")
HALF_SQUARES = lambda outputs, y: 0.5 * jnp.square(outputs - y)
RATE, THETA = 0.3, -0.2


def test_meta_weight_net_by_one_unrolled_step():
    """The weights V = sigmoid(theta l) are constants to the inner gradient, sum(V (w - y)) / sum(V)."""

    def step(theta, w=0.25):
        losses = 0.5 * (w - Y) ** 2
        v = 1 / (1 + np.exp(-theta * losses))
        return w - RATE * v @ (w - Y) / v.sum(), losses, v

    w, losses, v = step(THETA)
    slopes = v * (1 - v) * losses  # of the weights by theta
    pull = 0.25 - Y
    moved = -RATE * (slopes @ pull - slopes.sum() * (v @ pull) / v.sum()) / v.sum()
    with jax.enable_x64(True):
        bilevel = problems.meta_weight_net(DATA, CONSTANT, SLOPE, batch_size=3, losses=HALF_SQUARES)
        problem = problems.unrolled(bilevel, optax.sgd(RATE))
        estimator = estimators.truncated_backprop(
            problem, num_particles=1, unroll_length=1, horizon=truncation.constant(2), stagger=False
        )
        theta, data = jnp.asarray(THETA), jax.tree.map(jnp.asarray, estimator.data)
        state = estimator.init(jax.random.key(0), theta)
        gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, data)
        np.testing.assert_allclose(state.states.params[0], w, rtol=1e-12)
        np.testing.assert_allclose(gradient, (w - TRUSTED.mean()) * moved, rtol=1e-10)
        np.testing.assert_allclose(info.loss, np.mean((w - TRUSTED) ** 2) / 2, rtol=1e-12)


def test_the_loss_is_the_cross_entropy_and_what_the_network_adds():
    """The network adds label times log-probability times theta, so that the loss is 1 - theta cross-entropies."""
    random = np.random.default_rng(0)
    data = TrustedData(random.normal(size=(4, 3)), np.array([0, 1, 1, 0], np.int32), np.zeros((1, 3)), np.zeros(1, int))
    linear = Network(lambda key, inputs: jnp.zeros((3, 2)), lambda params, inputs: inputs @ params, "")
    product = Network(lambda key, inputs: jnp.zeros(()), lambda theta, x: theta * x[:, :1] * x[:, 1:], "")
    with jax.enable_x64(True):
        bilevel = problems.learned_loss(jax.tree.map(jnp.asarray, data), linear, product, batch_size=4)
        params = jnp.asarray(random.normal(size=(3, 2)))
        logits = data.train_x @ np.asarray(params)
        cross_entropy = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), data.train_y])
        for theta in (0.0, 0.75):
            found = bilevel.inner_loss(params, jnp.asarray(theta), jax.random.key(0), bilevel.data)
            np.testing.assert_allclose(found, (1 - theta) * cross_entropy, rtol=1e-12)


def test_the_first_theta_of_a_learned_loss_adds_nothing_and_can_be_trained():
    theta = problems.loss_theta(jax.random.key(0))
    network = perceptron(1, (40,))
    seen = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
    added, gradient = jax.value_and_grad(lambda theta: jnp.sum(network.apply(theta, seen)))(theta)
    assert added == 0
    assert np.all(gradient[network.head]["b"] == 5) and np.any(gradient[network.head]["w"] != 0)
