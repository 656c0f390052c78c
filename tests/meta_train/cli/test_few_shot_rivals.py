"""Training from scratch, and a network that was pretrained on all tasks: what they learn on problems with an answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.cli import few_shot_rivals
from meta_train.few_shot import Batch
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network

pytestmark = pytest.mark.optax_promotion
LINE = Network(lambda key, inputs: jnp.zeros(()), lambda w, inputs: w * inputs, head="")


@pytest.fixture
def slopes():
    """Lines y = a x with the slopes a = 1 and a = 3, x = 1: on all tasks at once a = 2 is best."""

    def sample(key, data):
        slope = jax.random.choice(key, jnp.array([1.0, 3.0]))
        batch = Batch(jnp.ones((2, 1)), jnp.full((2, 1), slope))
        return Episode(batch, batch)

    loss = lambda outputs, targets: jnp.mean(jnp.square(outputs - targets))
    return Episodes("slopes", (), (), sample, loss, 1, (1,), False)


def test_pretraining_ends_at_the_mean_and_finds_the_rate_that_adapts(slopes):
    made = few_shot_rivals.pretrained(
        slopes, LINE, jax.random.key(0), num_steps=4000, num_episodes=8, adaptation=(1, 10)
    )
    assert sorted(made) == [1, 10]
    for params, rate in made.values():
        assert float(params) == pytest.approx(2.0, abs=0.15)
        assert float(rate) == pytest.approx(max(few_shot_rivals.RATES))  # the loss falls by 1 - (1 - 2 rate)^2 a step
    adapt = few_shot_rivals.fine_tuning(slopes, LINE)
    support = Batch(jnp.ones((1, 1)), jnp.full((1, 1), 3.0))
    answer = adapt((jnp.float32(2.0), jnp.float32(0.1)), jax.random.key(0), support, jnp.ones((1, 1)), 2)
    np.testing.assert_allclose(answer, 3.0 - 0.8**2, rtol=1e-6)


def test_the_rate_is_zero_where_adaptation_only_harms(slopes):
    flipped = slopes._replace(sample=lambda key, data: _flipped(slopes.sample(key, data)))
    rate = few_shot_rivals._tuned_rate(flipped, LINE, jnp.float32(2.0), jax.random.key(0), 3)
    assert float(rate) == 0.0


def test_from_scratch_learns_the_support_set(slopes):
    adapt = few_shot_rivals.from_scratch(slopes, LINE)
    support = Batch(jnp.ones((1, 1)), jnp.full((1, 1), 0.1))
    start, end = (adapt((), jax.random.key(0), support, jnp.ones((1, 1)), steps) for steps in (0, 50))
    assert float(start[0, 0]) == 0.0
    assert float(end[0, 0]) == pytest.approx(0.1, abs=0.02)


def _flipped(episode):
    """The support set says the opposite of the query set."""
    return episode._replace(support=episode.support._replace(targets=4.0 - episode.support.targets))
