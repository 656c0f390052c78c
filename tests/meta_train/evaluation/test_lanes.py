"""Runs side by side: steps, marks, what lanes may differ in, and what the optimizer is told."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation import lanes
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer

# A bowl that each step tilts at random, in units that each episode draws.
TILTED = Task(
    name="tilted",
    data=np.float32(2.0),
    sample=lambda key: jax.random.uniform(key, (), jnp.float32, 1.0, 2.0),
    init=lambda key, config: jax.random.normal(key, (3,)),
    loss=lambda params, key, data, config: config * jnp.sum(data * params**2 + jax.random.normal(key, (3,)) * params),
    evaluate=lambda params, key, data, config: {"loss": jnp.sum(params) + jax.random.normal(key, ())},
    normalize=log_normalizer(1.0),
    loss_scale=lambda config: config,
)


def _sgd(rate, num_steps):
    del num_steps
    return optax.sgd(rate)


def test_a_lane_is_a_hand_written_loop():
    program = lanes.build(TILTED, _sgd, width=2, size=9, num_marks=2)
    keys = lanes.keys(2, lanes.REPORT)
    losses, held_out = program.train([0.1, 0.2], program.begin(keys), (2, 5), 5)
    for lane, rate in enumerate((0.1, 0.2)):
        sample_key, init_key, train_key, evaluate_key = jax.random.split(keys[lane], 4)
        config = float(TILTED.sample(sample_key))
        params = np.asarray(TILTED.init(init_key, config))
        extra = float(jax.random.normal(evaluate_key, ()))
        for number in range(5):
            noise = np.asarray(jax.random.normal(jax.random.fold_in(train_key, number), (3,)))
            np.testing.assert_allclose(losses[lane, number], np.sum(2 * params**2 + noise * params), rtol=1e-4)
            params = params - rate * config * (4 * params + noise)
            if number in (1, 4):
                mark = (1, 4).index(number)
                np.testing.assert_allclose(held_out["loss"][mark, lane], params.sum() + extra, rtol=1e-3, atol=1e-5)


def test_the_optimizer_is_told_the_number_and_gets_the_loss():
    def make(rate, num_steps):
        def update(updates, state, params=None, *, value, **extra):
            del params, extra
            return jax.tree.map(lambda g: -rate * num_steps * value * jnp.sign(g), updates), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    program = lanes.build(TILTED, make, width=1, size=4)
    start = program.begin(lanes.keys(1, lanes.REPORT))
    (first,), _ = program.train([1e-3], start, (4,), 2)
    (same,), _ = program.train([2e-3], start, (4,), 1)
    (other,), _ = program.train([1e-3], start, (4,), 1)
    np.testing.assert_allclose(first, same, rtol=1e-6)
    assert np.all(first[1:] != other[1:])


def test_held_out_metrics_only_if_wanted():
    program = lanes.build(TILTED, _sgd, width=1, size=4, num_marks=3)
    start = program.begin(lanes.keys(1, lanes.REPORT))
    wanted, unwanted = (program.train([0.1], start, (1, 3), 3, held_out) for held_out in (True, False))
    np.testing.assert_array_equal(wanted[0], unwanted[0])
    assert wanted[1]["loss"].shape == unwanted[1]["loss"].shape == (2, 1)
    assert np.all(wanted[1]["loss"] != 0)
    assert np.all(unwanted[1]["loss"] == 0)


def test_losses_are_those_of_what_is_judged():
    nowhere = lanes.build(TILTED, _sgd, width=1, size=1, judged=lambda state, params: 0.0 * params)
    losses, held_out = nowhere.train([0.1], nowhere.begin(lanes.keys(1, lanes.REPORT)), (1,), 1)
    assert losses == 0
    evaluate_key = jax.random.split(lanes.keys(1, lanes.REPORT)[0], 4)[3]
    np.testing.assert_allclose(held_out["loss"][0, 0], jax.random.normal(evaluate_key, ()), rtol=1e-6)


@pytest.mark.parametrize("marks", [(2, 1), (1, 1), (0, 1), (5,), (1, 2, 3)])
def test_marks_that_cannot_be(marks):
    program = lanes.build(TILTED, _sgd, width=1, size=4, num_marks=2)
    with pytest.raises(ValueError, match="at most 2, increasing from 1 to at most 4"):
        program.train([0.1], None, marks, 4)


def test_two_streams_of_keys_that_do_not_meet_and_do_not_depend_on_their_number():
    reported, tuned = (np.asarray(jax.random.key_data(lanes.keys(6, stream))) for stream in (lanes.REPORT, lanes.TUNE))
    assert len({tuple(key) for key in (*reported, *tuned)}) == 12
    np.testing.assert_array_equal(jax.random.key_data(lanes.keys(3, lanes.TUNE)), tuned[:3])


def test_bytes_of_the_state_of_one_lane():
    program = lanes.build(TILTED, lambda rate, num_steps: optax.sgd(rate, momentum=0.9), width=5, size=1)
    assert program.state_bytes() == 3 * 4


def test_final_losses_are_means_of_the_last_tenth_and_nan_is_infinite():
    losses = np.stack([np.arange(20.0), np.full(20, np.nan)])
    np.testing.assert_array_equal(lanes.final_losses(losses), [18.5, np.inf])
    np.testing.assert_array_equal(lanes.final_losses(np.array([[3.0, 2.0]])), [2.0])


class _RateAndDecay(NamedTuple):
    rate: float
    decay: float


def test_lanes_with_several_hyperparameters_and_other_data():
    """A lane is what a program of one number makes of it. Data in place of the task's are trained and evaluated on."""
    task = TILTED._replace(evaluate=lambda params, key, data, config: {"loss": jnp.sum(data * params)})
    make = lambda point, num_steps: optax.chain(optax.add_decayed_weights(point.decay), optax.sgd(point.rate))
    pairs = _RateAndDecay(np.array([0.1, 0.2]), np.array([0.0, 0.5]))
    program = lanes.build(task, make, width=2, size=4, like=_RateAndDecay(0.0, 0.0))
    start = program.begin(lanes.keys(2, lanes.REPORT))
    losses, held_out = program.train(pairs, start, (4,), 4, True, np.float32(3.0))
    for lane in range(2):
        _, decay = alone = (pairs.rate[lane], pairs.decay[lane])
        single = lanes.build(
            task._replace(data=np.float32(3.0)),
            lambda rate, num_steps, decay=decay: optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate)),
            width=2,
            size=4,
        )
        expected = single.train([alone[0]] * 2, start, (4,), 4)
        np.testing.assert_allclose(losses[lane], expected[0][lane], rtol=1e-5)
        np.testing.assert_allclose(held_out["loss"][:, lane], expected[1]["loss"][:, lane], rtol=1e-4)
    assert not np.allclose(losses, program.train(pairs, start, (4,), 4)[0])
