"""Few-shot learning by a head that flows, against a head trained in fine steps."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.few_shot import Batch
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.problems import HeadFlowTheta
from meta_train.problems import head_flow

LABELS = jnp.array([0, 1, 2], jnp.int32)


def _sample(key, data):
    inputs = data[:, None] + jnp.arange(3.0)[:, None] * jax.random.normal(key, (3, 2), data.dtype)
    return Episode(Batch(inputs, LABELS), Batch(inputs[::-1] + 0.1, LABELS[::-1]))


def _loss(outputs, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1))


EPISODES = Episodes("three", np.array([1.0, 0.0, -1.0]), (), _sample, _loss, 3, (2,), classifies=True)
LAYERS = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(3, name="head")(jnp.tanh(hk.Linear(4, name="body")(x)))))
NETWORK = Network(LAYERS.init, LAYERS.apply, "head")


def _by_descent(theta, key, data, num_steps):
    """The query loss after gradient descent on the head alone, whose rate is the time over the number of steps."""
    support, query = EPISODES.sample(key, data)
    loss = lambda head, batch: _loss(NETWORK.apply({**theta.params, "head": head}, batch.inputs), batch.targets)
    rate = jnp.exp(theta.log_time) / num_steps

    def step(head, _):
        return jax.tree.map(lambda w, g: w - rate * g, head, jax.grad(loss)(head, support)), None

    head, _ = jax.lax.scan(step, theta.params["head"], None, length=num_steps)
    return loss(head, query)


def test_the_gradient_by_features_head_and_time_is_that_of_descent_in_fine_steps():
    """With an error of Euler's method that falls with the step; Richardson's extrapolation takes it out."""
    with jax.enable_x64(True):
        key, data = jax.random.key(1), jnp.asarray(EPISODES.train)
        params = NETWORK.init(jax.random.key(0), _sample(key, data).support.inputs)
        theta = HeadFlowTheta(params, jnp.asarray(0.5))
        problem = head_flow(EPISODES, NETWORK, step_share=0.02)
        found = jax.jit(jax.grad(lambda theta: problem.step(key, theta, (), data)[1]))(theta)
        rows = [
            jax.jit(jax.grad(lambda theta, num=num: _by_descent(theta, key, data, num)))(theta)
            for num in (500, 1000, 2000)
        ]
        extrapolate = lambda power, a, b: jax.tree.map(lambda a, b: (power * b - a) / (power - 1), a, b)
        once = extrapolate(2, rows[0], rows[1]), extrapolate(2, rows[1], rows[2])
        expected = extrapolate(4, *once)
        compare = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8)
        jax.tree.map(compare, found, expected)
        assert all(np.any(np.abs(leaf) > 1e-4) for leaf in jax.tree.leaves(found))


def test_it_needs_labels():
    with pytest.raises(ValueError, match=r"the targets of 'curves' are not labels"):
        head_flow(EPISODES._replace(name="curves", classifies=False), NETWORK)
