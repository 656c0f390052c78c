"""Means, intervals and held-out data of an evaluation, of what adapts in a way that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.few_shot import Batch
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import evaluate


def _sample(key, data):
    """An episode whose targets are all the number that it draws."""
    drawn = data[jax.random.randint(key, (), 0, len(data))]
    return Episode(Batch(jnp.zeros((2, 1)), jnp.full((2, 1), drawn)), Batch(jnp.zeros((3, 1)), jnp.full((3, 1), drawn)))


NUMBERS = Episodes(
    "numbers",
    train=jnp.array([5.0]),
    test=jnp.array([1.0, 2.0, 4.0]),
    sample=_sample,
    loss=lambda outputs, targets: jnp.mean(targets - outputs),
    num_outputs=1,
    input_shape=(1,),
    classifies=False,
)


def _constant(theta, key, support, query_inputs):
    return jnp.full((len(query_inputs), 1), theta)


@pytest.mark.parametrize("num_episodes", [1, 7, 45])
def test_means_and_intervals(num_episodes):
    found = evaluate(_constant, 1.0, NUMBERS, jax.random.key(0), num_episodes, batch_size=10, progress=False)
    assert found.losses.shape == (num_episodes,) and set(found.losses) <= {0.0, 1.0, 3.0}
    np.testing.assert_allclose(found.loss.mean, found.losses.mean(), rtol=1e-6)
    if num_episodes > 1:
        np.testing.assert_allclose(
            found.loss.half_width, 1.96 * found.losses.std(ddof=1) / num_episodes**0.5, rtol=1e-4
        )
    else:
        assert np.isnan(found.loss.half_width)
    assert found.accuracy is None and found.accuracies is None
    again = evaluate(_constant, 1.0, NUMBERS, jax.random.key(0), num_episodes, batch_size=10, progress=False)
    np.testing.assert_array_equal(again.losses, found.losses)


def test_support_set_key_and_other_data():
    """What adapts sees the support set, from which it reads the number, and a key of its own for each episode."""

    def read(theta, key, support, query_inputs):
        return support.targets[0] + theta * jax.random.uniform(key, (len(query_inputs), 1))

    assert evaluate(read, 0.0, NUMBERS, jax.random.key(0), 9, progress=False).loss.mean == 0.0
    noisy = evaluate(read, 1.0, NUMBERS, jax.random.key(0), 9, progress=False)
    assert len(set(noisy.losses)) == 9
    assert evaluate(_constant, 0.0, NUMBERS, jax.random.key(0), 9, data=NUMBERS.train, progress=False).loss.mean == 5.0


def test_accuracy():
    """Logits that find class 0 in every example: one in four is of class 0."""
    labels = jnp.array([0, 1, 1, 1])
    made = NUMBERS._replace(
        sample=lambda key, data: Episode(*[Batch(jnp.zeros((4, 1)), labels)] * 2),
        loss=lambda outputs, targets: outputs[0, 1],
        num_outputs=2,
        classifies=True,
    )
    found = evaluate(
        lambda theta, key, support, inputs: jnp.tile(jnp.array([1.0, 0.5]), (len(inputs), 1)),
        (),
        made,
        jax.random.key(0),
        3,
        progress=False,
    )
    assert found.accuracies.tolist() == [0.25] * 3
    assert (tuple(found.accuracy), str(found.accuracy)) == ((0.25, 0.0), "0.25 ± 0")
    assert found.loss.mean == 0.5


def test_it_compiles_once():
    traced = []

    def adapt(theta, key, support, query_inputs):
        traced.append(theta)
        return _constant(theta, key, support, query_inputs)

    for theta in (0.0, 1.0):
        evaluate(adapt, jnp.asarray(theta), NUMBERS, jax.random.key(0), 45, batch_size=10, progress=False)
    assert len(traced) == 1


def test_a_loss_that_is_not_finite_is_not_hidden():
    found = evaluate(_constant, jnp.asarray(jnp.nan), NUMBERS, jax.random.key(0), 5, progress=False)
    assert np.isnan(found.loss.mean)


def test_refusals():
    with pytest.raises(ValueError, match="num_episodes and batch_size must be at least 1, got 0 and 20"):
        evaluate(_constant, 0.0, NUMBERS, jax.random.key(0), 0)
    with pytest.raises(ValueError, match=r"float\[3, 1\], got float32\[3\]"):
        evaluate(lambda theta, key, support, inputs: jnp.zeros(len(inputs)), 0.0, NUMBERS, jax.random.key(0), 1)
