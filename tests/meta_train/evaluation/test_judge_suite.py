"""Several tasks are judged side by side; tables are printed as tasks are done, results come in order."""

import re

import optax

from meta_train import tasks
from meta_train.evaluation import judge_suite as suite
from meta_train.evaluation import protocol
from meta_train.evaluation.judge_suite import judge_suite


def test_results_are_in_the_order_asked_for_and_equal_to_those_of_the_protocol(capsys):
    chosen = [tasks.quadratic("second", size=2), tasks.quadratic("first", size=3)]
    common = {"horizons": (6, 3), "num_seeds": 2, "baselines": ()}
    found = judge_suite(chosen, {"sgd": optax.sgd(0.1)}, **common)
    assert {steps: list(of_tasks) for steps, of_tasks in found.items()} == {
        3: ["second", "first"],
        6: ["second", "first"],
    }
    printed = capsys.readouterr().out
    for task in chosen:
        alone = protocol.judge(task, {"sgd": optax.sgd(0.1)}, **common)
        for steps in (3, 6):
            (one,), (other,) = found[steps][task.name].contenders, alone[steps].contenders
            assert (one.losses == other.losses).all()
            assert f"\n{task.name}, {steps} steps, 2 seeds\n" in printed


class Clock:
    """A minute passes from each look to the next."""

    now = 0.0

    def __call__(self):
        self.now += 60.0
        return self.now


def _judge(task, contenders, *, horizons, progress, finished, baselines, **rest):
    """Two optimizers with work, and a baseline whose results are kept."""
    for name in contenders:
        progress(f"{task.name}: {name}")
        finished(name)
    for name in baselines:
        finished(name)
    return dict.fromkeys(horizons, protocol.Judgement([], [], {}))


def test_the_time_that_is_left_is_estimated_as_soon_as_an_optimizer_is_judged(capsys, monkeypatch):
    """Kept results count neither as done nor as to be done."""
    monkeypatch.setattr(protocol, "judge", _judge)
    monkeypatch.setattr(suite.TimeLeft.__init__, "__defaults__", (Clock(),))
    monkeypatch.setattr("meta_train.host.progress.LINE_SECONDS", -1.0)  # a line each time
    chosen = [tasks.quadratic("only", size=2)]
    judge_suite(chosen, {"a": None, "b": None}, horizons=(9,), num_seeds=2, baselines=["adam"], tables=False)
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1]) == ("0 of 1 task in 0:00, only: a", "1 of 1 task in 0:00")
    assert re.fullmatch(r"0 of 1 task in 0:00, about \d[\d:]+ left; only: b", lines[1])


def test_nothing_is_printed_where_nothing_is_wanted(capsys):
    judge_suite(
        [tasks.quadratic("only", size=2)],
        {"sgd": optax.sgd(0.1)},
        horizons=(3,),
        num_seeds=1,
        baselines=(),
        quiet=True,
        tables=False,
    )
    assert capsys.readouterr() == ("", "")


def test_what_is_tuned_is_expected_to_take_longer():
    sizes = suite._sizes({"mine": None}, (100,), 5, baselines=["adam-1e-3", "adam"], cache="ignored")
    assert sizes["mine"] == sizes["adam-1e-3"] < sizes["adam"]
    assert sizes["adam"] < suite._sizes({}, (1000,), 5, baselines=["adam"])["adam"]
