"""Hyperband: rungs and brackets by hand, who goes on, and the answer."""

import numpy as np
import pytest

from meta_train.outer import search
from meta_train.outer.search.hyperband import brackets
from meta_train.outer.search.hyperband import rungs

SPACE = {"x": search.real(0.0, 1.0), "n": search.integer(1, 5)}


@pytest.mark.parametrize(
    ("low", "high", "eta", "expected"),
    [
        (1, 27, 3, (1, 3, 9, 27)),
        (1, 243, 3, (1, 3, 9, 27, 81, 243)),  # int(log(243) / log(3)) is 4: a rung would be lost
        (1, 1000, 10, (1, 10, 100, 1000)),  # and here log(1000) / log(10) is 2.9999999999999996
        (5, 40, 2, (5, 10, 20, 40)),
        (2, 53, 3, (5, 17, 53)),
        (7, 7, 3, (7,)),
        (1, 2, 3, (2,)),
    ],
)
def test_rungs(low, high, eta, expected):
    assert rungs(low, high, eta=eta) == expected


def test_brackets_by_hand():
    made = brackets(rungs(1, 27))
    assert [bracket.sizes for bracket in made] == [(27, 9, 3, 1), (9, 3, 1), (6, 2), (4,)]
    assert [bracket.budgets for bracket in made] == [(1, 3, 9, 27), (3, 9, 27), (9, 27), (27,)]
    assert [bracket.sizes for bracket in brackets((1, 2, 4), eta=2)] == [(4, 2, 1), (2, 1), (3,)]
    assert [bracket.sizes for bracket in brackets((7,))] == [(1,)]


def test_the_best_go_on_and_the_next_bracket_is_new():
    strategy = search.hyperband(SPACE, min_budget=1, max_budget=9)
    state = strategy.init(3)
    first = strategy.ask(state)
    assert strategy.ask(state) == first
    assert [trial.number for trial in first] == list(range(9))
    assert {trial.budget for trial in first} == {1}
    losses = [5.0, np.nan, 3.0, 1.0, -np.inf, 2.0, 8.0, 9.0, 7.0]  # what is not finite failed
    state = strategy.tell(state, losses)
    second = strategy.ask(state)
    assert [(trial.number, trial.budget) for trial in second] == [(3, 3), (5, 3), (2, 3)]
    assert [trial.config for trial in second] == [first[i].config for i in (3, 5, 2)]
    assert strategy.best(state) == (first[3].config, 1.0, 1)
    state = strategy.tell(state, [4.0, 3.5, 6.0])
    (third,) = strategy.ask(state)
    assert third == (5, first[5].config, 9)
    assert strategy.best(state) == (first[5].config, 3.5, 3)  # a larger budget counts more than a loss of 1
    assert strategy.completed(state) == 0
    state = strategy.tell(state, [7.0])
    assert strategy.completed(state) == 1
    assert [(trial.number, trial.budget) for trial in strategy.ask(state)] == [(9, 3), (10, 3), (11, 3)]
    state = strategy.tell(state, [0.0, 0.0, 0.0])
    assert strategy.best(state) == (first[5].config, 7.0, 9)
    state = strategy.tell(state, [np.nan])  # the only one of its rung: there is still an answer
    assert strategy.best(state) == (first[5].config, 7.0, 9)
    state = strategy.tell(state, [9.0, 6.5, 8.0])
    assert strategy.best(state).loss == 6.5
    again = strategy.ask(state)  # the first bracket once more, with other candidates
    assert len(again) == 9 and {trial.budget for trial in again} == {1}
    assert not {trial.config["x"] for trial in again} & {trial.config["x"] for trial in first}
    assert strategy.ask(strategy.init(4))[0].config != first[0].config


def test_without_a_finite_loss_there_is_no_answer():
    strategy = search.hyperband(SPACE, min_budget=1, max_budget=1)
    state = strategy.init(0)
    assert strategy.best(state) is None
    state = strategy.tell(state, [np.inf])
    assert strategy.best(state) is None
    assert strategy.completed(state) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"min_budget": 0}, ValueError, "at least 1 and in order, got 0 to 9"),
        ({"min_budget": 10}, ValueError, "at least 1 and in order, got 10 to 9"),
        ({"max_budget": 9.0}, TypeError, "max_budget must be an integer, got 9.0"),
        ({"eta": 1}, ValueError, "eta must be at least 2, got 1"),
    ],
)
def test_arguments_out_of_range(arguments, error, message):
    with pytest.raises(error, match=message):
        search.hyperband(SPACE, **{"min_budget": 1, "max_budget": 9} | arguments)


def test_a_loss_for_each_trial():
    strategy = search.hyperband(SPACE, min_budget=1, max_budget=9)
    with pytest.raises(ValueError, match=r"a loss for each of the 9 trials that ask gave, got \(2,\)"):
        strategy.tell(strategy.init(0), [1.0, 2.0])
