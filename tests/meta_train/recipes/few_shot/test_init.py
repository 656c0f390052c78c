"""Every few-shot method learns to learn: on two clusters whose centres lie in three of six directions, the rest is
noise; or, where nothing but the initial parameters' mean is learned, on sinusoids."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import fit
from meta_train.few_shot import Batch
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.few_shot import evaluate
from meta_train.few_shot import perceptron
from meta_train.few_shot import sinusoids
from meta_train.recipes.few_shot import METHODS
from meta_train.recipes.few_shot import Learner

TO_THE_MEAN = ("reptile", "aruba")  # methods that move to where adaptation ends


def _sample(key, data):
    centre_key, noise_key = jax.random.split(key)
    labels = jnp.arange(10, dtype=jnp.int32) % 2
    centres = jax.random.normal(centre_key, (2, 3)) @ data
    spread = jnp.array([0.3, 0.3, 0.3, 2.0, 2.0, 2.0])
    inputs = centres[labels] + spread * jax.random.normal(noise_key, (10, 6))
    return Episode(Batch(inputs[:4], labels[:4]), Batch(inputs[4:], labels[4:]))


def _loss(outputs, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1))


@functools.cache
def _clusters():
    directions = np.eye(3, 6, dtype=np.float32)
    episodes = Episodes("clusters", directions, directions, _sample, _loss, 2, (6,), classifies=True)
    layers = lambda x: hk.Linear(2, name="head")(jax.nn.relu(hk.Linear(16, name="body")(x)))
    made = hk.without_apply_rng(hk.transform(layers))
    return episodes, Network(made.init, made.apply, "head")


def _setting(method):
    return (sinusoids(), perceptron(1)) if method in TO_THE_MEAN else _clusters()


def _score(learner: Learner, theta):
    adapt = lambda theta, key, support, query_inputs: learner.adapt(
        theta, key, support, query_inputs, learner.num_steps
    )
    episodes, _ = _setting(learner.name)
    found = evaluate(adapt, theta, episodes, jax.random.key(1), 100, batch_size=100, progress=False)
    return found.loss.mean


@pytest.mark.optax_promotion
@pytest.mark.parametrize("method", METHODS)
def test_it_learns_to_learn(method):
    """Without adaptation, no answer has a loss below log 2 in the mean on clusters, nor below 2.8 on sinusoids."""
    outer_rate = None if method in TO_THE_MEAN else 2e-2
    learner = METHODS[method](*_setting(method), key=jax.random.key(0), outer_rate=outer_rate)
    assert learner.name == method
    result = fit(
        learner.estimator,
        learner.theta,
        learner.outer_optimizer,
        num_steps=200 if method in TO_THE_MEAN else 60,
        clip_norm=learner.clip_norm,
        steps_per_dispatch=100,
        progress=False,
        devices=jax.devices()[:1],
    )
    before, after = (_score(learner, theta) for theta in (learner.theta, result.theta))
    assert after < 0.9 * before
    assert after < (2.0 if method in TO_THE_MEAN else 0.62)
    if method != "adjoint":  # whose solver chooses its steps
        assert result.metrics[-1]["inner_steps"] == learner.inner_steps_per_outer_step


def test_numbers_out_of_range():
    for given, message in (({"num_steps": 0}, "at least 1 inner step"), ({"num_particles": 0}, "at least 1 episode")):
        for method in METHODS:
            with pytest.raises(ValueError, match=message):
                METHODS[method](*_clusters(), key=jax.random.key(0), **given)


@pytest.mark.parametrize("method", ["maml", "comln"])
def test_no_steps_are_no_adaptation(method):
    episodes, network = _clusters()
    learner = METHODS[method](episodes, network, key=jax.random.key(0))
    support, query = episodes.sample(jax.random.key(1), episodes.test)
    params = learner.theta if method == "maml" else learner.theta.params
    outputs = learner.adapt(learner.theta, jax.random.key(2), support, query.inputs, 0)
    np.testing.assert_allclose(outputs, network.apply(params, query.inputs), rtol=1e-6)
