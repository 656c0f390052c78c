"""Tuning: the rates that remain, what is run, and that it finds what the full grid finds."""

from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest

from meta_train import tasks
from meta_train.evaluation import lanes
from meta_train.evaluation import trials
from meta_train.evaluation import tuning
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer

pytestmark = pytest.mark.optax_promotion

SEEDS = 8


def _table():
    """Losses float[1, rates, seeds] with their minimum at rate 9; seeds differ a little."""
    return np.abs(np.arange(19.0) - 9.2)[None, :, None] + 0.01 * np.arange(SEEDS)


def _narrow(table):
    """The winners, and the pairs that each call asks for."""
    asked = []

    def measure(pairs):
        asked.append(pairs)
        rates, seeds = np.array(pairs).T
        return table[:, rates, seeds]

    return tuning._narrow(measure, table.shape[1], table.shape[2]), asked


def test_all_rates_get_two_seeds_and_four_the_other_six():
    winners, (first, second) = _narrow(_table())
    assert winners == [9]
    assert first == [(rate, seed) for rate in range(19) for seed in (0, 1)]
    assert second == [(rate, seed) for rate in (8, 9, 10, 11) for seed in range(2, 8)]


def test_neighbours_of_the_best_remain_however_two_seeds_did():
    """Rate 10 is the best by far, but not with the first two seeds; rate 4 is not, with them it is the third best."""
    table = _table()
    table[0, 10] = -1e3
    table[0, 10, :2] = 50.0
    table[0, 4, :2] = 0.5
    winners, (_, second) = _narrow(table)
    assert winners == [10]
    assert {rate for rate, _ in second} == {4, 8, 9, 10}


@pytest.mark.parametrize(("best", "remain"), [(0, {0, 1, 2, 3}), (18, {15, 16, 17, 18})])
def test_at_the_ends_of_the_grid(best, remain):
    table = np.abs(np.arange(19.0) - best)[None, :, None] + np.zeros(SEEDS)
    winners, (_, second) = _narrow(table)
    assert winners == [best]
    assert {rate for rate, _ in second} == remain


def test_divergence_is_passed_over():
    table = _table()
    table[0, 10:] = np.inf
    assert _narrow(table)[0] == [9]
    assert _narrow(np.full((1, 19, SEEDS), np.inf))[0][0] in range(19)


def test_horizons_share_runs_but_are_narrowed_by_themselves():
    """Rate 9 would be best at the second horizon over all seeds, but is no candidate there, as it is not alone."""
    one, other = _table(), np.roll(_table(), -6, axis=1)  # minima at 9 and 3
    other[0, 9, 2:] = -1e3
    winners, (_, second) = _narrow(np.concatenate([one, other]))
    assert winners == [9, 3]
    assert {rate for rate, _ in second} == {8, 9, 10, 11, 2, 3, 4, 5}


def test_few_seeds_and_few_rates():
    winners, asked = _narrow(_table()[:, :, :1])
    assert winners == [9]
    assert len(asked) == 1
    assert _narrow(_table()[:, 8:10])[0] == [1]


@pytest.fixture(scope="module")
def program():
    make = lambda rate, num_steps: optax.adam(rate)
    with jax.numpy_dtype_promotion("standard"):
        yield lanes.build(tasks.quadratic(size=4), make, width=5, size=60)


def test_it_finds_the_rate_of_the_full_grid_and_runs_what_it_says(program):
    keys, grid = lanes.keys(SEEDS, lanes.TUNE), tuning.LEARNING_RATES
    finals = {steps: np.zeros((len(grid), SEEDS)) for steps in (6, 60)}
    for i, rate in enumerate(grid):
        for seeds in ([0, 1, 2, 3, 4], [5, 6, 7, 7, 7]):
            losses, _ = program.train(np.full(5, rate), program.begin(keys[np.array(seeds)]), (60,), 60)
            for steps, values in finals.items():
                values[i, seeds] = lanes.final_losses(losses[:, :steps])
    best = {steps: grid[int(np.argmin(values.mean(axis=1)))] for steps, values in finals.items()}
    assert best[6] != best[60]

    ran = []
    spy = program._replace(train=lambda rates, *rest: ran.append(rates) or program.train(rates, *rest))
    assert tuning.tune(spy, horizons=(6, 60)) == best
    both = len(ran)
    for steps in (6, 60):
        ran.clear()
        assert tuning.tune(spy, horizons=(steps,)) == {steps: best[steps]}
        assert len(ran) == 8 + 5  # 38 and 24 runs, five side by side
        assert set(np.concatenate(ran[:8])) == set(grid)
        assert len(set(np.concatenate(ran[8:]))) == 4
    assert 13 < both <= 8 + 10


def test_a_schedule_is_tuned_for_each_horizon_by_runs_of_that_length():
    """Of which it is told: here the rate is in units of one over the number of steps."""
    make = lambda rate, num_steps: optax.sgd(rate / num_steps)
    bowl = lanes.build(tasks.quadratic(size=1), make, width=4, size=40)
    told = []
    spy = bowl._replace(train=lambda *args: told.append((args[2], args[3])) or bowl.train(*args))
    found = tuning.tune(spy, horizons=(10, 40), scheduled=True, learning_rates=(0.1, 1.0, 1e30))
    assert found == {10: 1.0, 40: 1.0}
    assert {*told} == {((10,), 10), ((40,), 40)}


def test_progress_tells_how_much_there_is(program):
    lines = []
    tuning.tune(program, horizons=(2,), num_seeds=3, learning_rates=(0.1, 0.2, 0.3), progress=lines.append)
    assert lines == ["rates, run 1 of 6", "rates, run 6 of 6", "rates, run 1 of 3"]


def test_trials_have_no_neighbours():
    """The four best of all remain."""
    table = np.array([9.0, 0.0, 8.0, 1.0, 7.0, 2.0, 6.0, 3.0])[None, :, None] + np.zeros(SEEDS)
    asked = []

    def measure(pairs):
        asked.append(pairs)
        return table[:, *np.array(pairs).T]

    assert tuning._narrow(measure, 8, SEEDS, ordered=False) == [1]
    assert {candidate for candidate, _ in asked[1]} == {1, 3, 5, 7}


class _Pull(NamedTuple):
    rate: float
    decay: float


# A number that training pulls to the first of the data. Held-out loss wants it at the second.
PULL = Task(
    "pull",
    (np.float32(1.0), np.float32(9.0)),
    sample=lambda key: (),
    init=lambda key, config: 0.1 * jax.random.normal(key, ()),
    loss=lambda x, key, data, config: 0.5 * (x - data[0]) ** 2,
    evaluate=lambda x, key, data, config: {"loss": (x - data[1]) ** 2},
    normalize=log_normalizer(1.0),
)


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_choice_for_each_horizon_and_each_kind_of_loss(scheduled):
    """A decay of 1 is best for held-out data at 0.5, at a fair rate; where they are is in the data for the choice."""
    make = lambda point, num_steps: optax.chain(optax.add_decayed_weights(point.decay), optax.sgd(point.rate))
    candidates = (_Pull(0.01, 0.0), _Pull(0.5, 0.0), _Pull(0.5, 1.0), _Pull(0.25, 3.0), _Pull(1e30, 0.0))
    program = lanes.build(PULL, make, width=5, size=30, num_marks=2, like=candidates[0])
    choose = lambda data: tuning.choose(
        program, candidates, horizons=(10, 30), scheduled=scheduled, ordered=False, num_seeds=2, data=data
    )
    for target, best in ((0.5, 2), (1.0, 1), (0.25, 3)):
        data = (np.float32(1.0), np.float32(target))
        assert choose(data) == dict.fromkeys((10, 30), tuning.Choice(training=1, held_out=best))
    assert choose(None) == dict.fromkeys((10, 30), tuning.Choice(training=1, held_out=None))


def test_twenty_trials_find_a_known_optimum():
    """Plain descent at the rate r leaves (1 - r)² of the loss after each step, so 1 is the best rate."""
    points = trials.trials(trials.SPACE._replace(learning_rate=(1e-2, 1e2), weight_decay=(1e-9, 1e-8)))
    make = lambda point, num_steps: optax.sgd(point.learning_rate)
    program = lanes.build(PULL, make, width=10, size=10, like=points[0])
    found = tuning.choose(program, points, horizons=(10,), scheduled=True, ordered=False, num_seeds=2)
    rates = np.array([point.learning_rate for point in points])
    assert found[10].training == np.argmin(np.abs(1 - rates))
