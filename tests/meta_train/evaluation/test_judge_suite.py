"""Several tasks are judged side by side; tables are printed as tasks are done, results come in order."""

import optax

from meta_train import tasks
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
