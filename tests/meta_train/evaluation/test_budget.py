"""What fits into a number of minutes: the estimate counts the runs of the protocol, and the largest plan wins."""

import numpy as np
import optax
import pytest

from meta_train import tasks
from meta_train.evaluation import budget
from meta_train.evaluation import lanes
from meta_train.evaluation import protocol
from meta_train.evaluation import side_by_side
from meta_train.evaluation.budget import Pace
from meta_train.evaluation.budget import Plan

TASK = tasks.get("quadratic")
STEP, EVALUATION, COMPILATION = Pace(0.0, 1.0, 0.0), Pace(0.0, 0.0, 1.0), Pace(1.0, 0.0, 0.0)


class Clock:
    """A clock, and programs whose work makes it advance."""

    def __init__(self):
        self.now, self.run_steps = 0.0, 0

    def build(self, task, make, *, width, size, **rest):
        def train(hyperparameters, start, marks, num_steps, held_out=True, data=None):
            assert marks[-1] <= size
            self.run_steps += width * marks[-1]
            self.now += 0.02 * marks[-1] + 0.3 * held_out
            losses = np.random.default_rng(self.run_steps).uniform(size=(width, marks[-1]))
            return losses, {"loss": np.ones((len(marks), width))}

        def wait():
            self.now += 2.0

        return lanes.Lanes(lambda keys: None, train, wait, lambda: "", lambda: 0, width)


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(lanes, "build", found.build)
    monkeypatch.setattr(budget.time, "perf_counter", lambda: found.now)
    return found


def test_the_calibration_measures_compilation_steps_and_evaluations_apart(clock):
    np.testing.assert_allclose(budget.calibrate(TASK, lambda rate, num_steps: None), (2.0, 0.02 / 5, 0.3 / 5, 5))
    assert clock.run_steps <= 5 * 200


def test_the_calibration_of_a_large_model_has_one_lane(clock, monkeypatch):
    monkeypatch.setattr(side_by_side, "MOST_PARAMETERS", 1)
    np.testing.assert_allclose(budget.calibrate(TASK, lambda rate, num_steps: None), (2.0, 0.02, 0.3, 1))


def test_runs_of_a_large_model_fill_no_lanes():
    """One tuning seed of each rate; then as many runs as are reported, not five."""
    plan = Plan((10,), 2, (0.1, 0.2, 0.3), (), tuning_seeds=1)
    assert budget.estimate(plan, Pace(0.0, 1.0, 0.0, 1), [], ["adam"]) == (3 + 2) * 10
    assert budget.estimate(plan._replace(tuning_seeds=8), Pace(0.0, 1.0, 0.0, 1), [], ["adam"]) == (3 * 8 + 2) * 10
    assert budget.estimate(plan, STEP, [], ["adam"]) == (3 + 5) * 10


@pytest.mark.parametrize(
    "baselines", [("adam-1e-3", "prodigy"), ("adam", "momentum"), ("adamw-cosine", "muon"), ("schedule-free", "adam")]
)
@pytest.mark.parametrize("plan", [budget.plans([20, 40])[0], budget.plans([40])[-1]], ids=["full", "small"])
def test_the_estimate_counts_the_steps_of_all_runs(baselines, plan, clock):
    """It may count more: runs that are made for two purposes, and the second round of tuning where it is smaller."""
    protocol.judge(
        TASK,
        {"mine": lambda num_steps: optax.sgd(0.1)},
        horizons=plan.horizons,
        num_seeds=plan.num_seeds,
        baselines=baselines,
        pacemakers=plan.pacemakers,
        learning_rates=plan.learning_rates,
    )
    estimated = budget.estimate(plan, STEP, [STEP], baselines)
    assert clock.run_steps / 1.1 <= estimated <= 1.6 * clock.run_steps


def test_each_optimizer_has_its_own_pace():
    plan = Plan((10,), 2, (0.1, 0.2), ())
    nothing = Pace(0.0, 0.0, 0.0)
    assert budget.estimate(plan, nothing, [STEP], ["adam"]) == 20
    assert budget.estimate(plan, nothing, [COMPILATION] * 3, ["adam"]) == 3
    assert budget.estimate(plan, COMPILATION, [nothing], ["adam", "prodigy", "momentum"]) == 3
    assert budget.estimate(plan, nothing, [EVALUATION], ["adam"]) == 2
    muon = budget.estimate(plan, nothing, [STEP], ["muon"])
    assert muon > 100 > budget.estimate(plan, nothing, [STEP], ["lion"])


def test_plans_become_smaller():
    times = [budget.estimate(plan, STEP, [STEP], ["adam", "adamw-cosine", "prodigy"]) for plan in budget.plans()]
    assert times == sorted(times, reverse=True) and len(set(times)) == len(times)
    assert {plan.horizons for plan in budget.plans([30, 300])} == {(30, 300)}
    assert {plan.num_seeds for plan in budget.plans(num_seeds=4)} == {4}


def test_the_largest_plan_that_fits_is_chosen(monkeypatch):
    monkeypatch.setattr(budget, "calibrate", lambda task, make: Pace(0.0, 1e-3, 0.0))
    contenders, baselines = {"mine": optax.sgd(0.1)}, ["adam", "prodigy"]
    for wanted in budget.plans():
        needed = budget.estimate(wanted, Pace(0.0, 1e-3, 0.0), [Pace(0.0, 1e-3, 0.0)], baselines) / 60
        found, minutes = budget.choose(1.01 * needed + 0.01, [TASK], contenders, baselines)
        assert found == wanted and minutes == pytest.approx(needed)
    with pytest.raises(
        ValueError, match=r"--minutes 0.001 is too little: the smallest comparison, 50 steps, 2 seeds, ba"
    ):
        budget.choose(0.001, [TASK], contenders, baselines)


def test_tasks_side_by_side_share_the_time(monkeypatch):
    """There are two devices."""
    monkeypatch.setattr(budget, "calibrate", lambda task, make: Pace(0.0, 1e-3, 0.0))
    minutes = [budget.choose(9.0, [TASK] * count, {}, ["adam"], horizons=[100])[1] for count in (1, 2, 3)]
    np.testing.assert_allclose(minutes, np.multiply([1.0, 1.0, 1.5], minutes[0]))
