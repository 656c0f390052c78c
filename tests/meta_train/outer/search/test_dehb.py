"""DEHB: what each rung is made of, that it beats random search at equal budget, and that its state is all there is."""

import itertools
import pickle

import numpy as np
import pytest

from meta_train.outer import search

SPACE = {"x": search.real(0.0, 1.0), "y": search.real(0.0, 1.0), "z": search.real(0.0, 1.0)}


def _units(trials):
    return np.array([list(trial.config.values()) for trial in trials])


def _run(strategy, state, loss, generations):
    for _ in range(generations):
        state = strategy.tell(state, [loss(trial) for trial in strategy.ask(state)])
    return state


def _sum(trial):
    return sum(trial.config.values()) / 3


def test_the_first_bracket_promotes_and_fills_the_subpopulations():
    strategy = search.dehb(SPACE, min_budget=1, max_budget=27)
    state = strategy.init(0)
    assert [len(p.vectors) for p in state.populations] == [27, 9, 6, 4]
    chosen, sizes = None, []
    while strategy.completed(state) == 0:
        trials = strategy.ask(state)
        sizes.append((len(trials), trials[0].budget))
        if chosen is not None:
            assert [(t.number, t.config) for t in trials] == [(t.number, t.config) for t in chosen]
        losses = np.array([_sum(trial) for trial in trials])
        chosen = [trials[i] for i in np.argsort(losses)[: len(trials) // 3]]
        state = strategy.tell(state, losses)
    assert sizes == [(27, 1), (9, 3), (3, 9), (1, 27)]
    counts = [int(np.isfinite(population.losses).sum()) for population in state.populations]
    assert counts == [27, 9, 3, 1]
    assert strategy.best(state).budget == 27


def test_later_brackets_evolve_from_the_budget_below():
    strategy = search.dehb(SPACE, min_budget=1, max_budget=9)  # rungs [9, 3, 1], [3, 1], [3]
    state = _run(strategy, strategy.init(0), _sum, 3)
    own = state.populations[1]
    trials = strategy.ask(state)  # the second bracket's first rung: offspring of the subpopulation of its budget
    assert [trial.budget for trial in trials] == [3, 3, 3]
    np.testing.assert_array_equal(state.asked.targets, [0, 1, 2])
    for vector, target in zip(_units(trials), own.vectors, strict=True):
        assert np.any(vector != target)
        assert not np.any(np.all(vector == own.vectors, axis=1))
    (promoted,) = strategy.ask(strategy.tell(state, [0.9, 0.9, 0.9]))  # nobody wins: the best not promoted before
    order = np.argsort(own.losses)
    assert promoted.number == own.numbers[order[1]]

    state = _run(strategy, state, _sum, 3)
    assert strategy.completed(state) == 3
    state = _run(strategy, state, _sum, 1)  # the fourth bracket: its second rung mixes the best three of budget 1
    below, own = state.populations[0], state.populations[1]
    parents = below.vectors[np.argsort(below.losses)[:3]]
    for vector, target in zip(state.asked.vectors, own.vectors[state.asked.targets], strict=True):
        mutants = [a + 0.5 * (b - c) for a, b, c in itertools.permutations(parents)]
        inside = (vector == target) | np.any([np.isclose(vector, m, rtol=0, atol=1e-15) for m in mutants], axis=0)
        assert inside.sum() >= 2  # the rest left the range and was drawn anew
    np.testing.assert_array_equal(state.asked.numbers, np.arange(3) + state.next_number - 3)


def test_an_offspring_replaces_its_target_unless_it_is_worse():
    strategy = search.dehb(SPACE, min_budget=1, max_budget=9)
    state = _run(strategy, strategy.init(1), _sum, 6)  # an iteration
    before, asked = state.populations[0], state.asked
    losses = before.losses[asked.targets] + np.array([0.1, 0.0, -0.1] * 3)
    losses[8] = np.nan
    after = strategy.tell(state, losses).populations[0]
    won = np.array([False, True, True] * 2 + [False, True, False])
    np.testing.assert_array_equal(after.vectors[asked.targets], np.where(won[:, None], asked.vectors, before.vectors))
    np.testing.assert_array_equal(after.losses[asked.targets], np.where(won, losses, before.losses))
    np.testing.assert_array_equal(after.numbers[asked.targets], np.where(won, asked.numbers, before.numbers))
    np.testing.assert_array_equal(before.numbers, state.populations[0].numbers)  # the state told is as it was


def _mixed(config):
    """20 settings: real, logarithmic, whole and chosen; 0 at best."""
    real = sum((config[f"r{i}"] - 0.3) ** 2 for i in range(5))
    logs = sum((np.log10(config[f"l{i}"]) + 3) ** 2 / 16 for i in range(5))
    whole = sum(((config[f"n{i}"] - 7) / 20) ** 2 for i in range(5))
    return real + logs + whole + sum(config[f"c{i}"] != "right" for i in range(5)) / 3


def test_it_beats_random_search_on_twenty_mixed_settings_at_equal_budget():
    space = {f"r{i}": search.real(0.0, 1.0) for i in range(5)}
    space |= {f"l{i}": search.real(1e-4, 1.0, log=True) for i in range(5)}
    space |= {f"n{i}": search.integer(1, 20) for i in range(5)}
    space |= {f"c{i}": search.choice("left", "right", "middle") for i in range(5)}
    evaluate = lambda config, budget: _mixed(config) * (1 + 1 / budget)
    found = {"dehb": [], "hyperband": [], "random": []}
    for seed in range(3):
        for name, strategy, count in (
            ("dehb", search.dehb(space, min_budget=1, max_budget=9), 60),
            ("hyperband", search.hyperband(space, min_budget=1, max_budget=9), 60),
            ("random", search.hyperband(space, min_budget=9, max_budget=9), 160),
        ):
            result = search.minimize(strategy, evaluate, num_brackets=count, seed=seed)
            assert sum(trial["budget"] for trial in result.trials) == 160 * 9
            found[name].append(_mixed(result.best.config))
    assert max(found["dehb"]) < 0.6 * min(found["random"] + found["hyperband"])


def test_the_state_is_all_there_is():
    strategy = search.dehb(SPACE, min_budget=1, max_budget=9)
    whole = _run(strategy, strategy.init(5), _sum, 20)
    half = pickle.loads(pickle.dumps(_run(strategy, strategy.init(5), _sum, 9)))
    other = search.dehb(SPACE, min_budget=1, max_budget=9)
    resumed = _run(other, half, _sum, 11)
    assert strategy.ask(whole) == other.ask(resumed)
    for one, two in zip(whole.populations, resumed.populations, strict=True):
        np.testing.assert_array_equal(one.vectors, two.vectors)
        np.testing.assert_array_equal(one.losses, two.losses)
    assert strategy.ask(_run(strategy, strategy.init(6), _sum, 20)) != strategy.ask(whole)


def test_it_goes_on_where_everything_fails():
    strategy = search.dehb(SPACE, min_budget=1, max_budget=9)
    state = _run(strategy, strategy.init(0), lambda trial: np.nan, 20)
    assert strategy.best(state) is None
    assert strategy.best(_run(strategy, state, _sum, 9)).budget == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 0.0}, "factor must be positive, got 0.0"),
        ({"probability": 1.5}, "probability must lie between 0 and 1, got 1.5"),
        ({"min_budget": 9}, "budgets that make two rungs or more, got 9 to 9"),
        ({"min_budget": 0}, "at least 1 and in order, got 0 to 9"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        search.dehb(SPACE, **{"min_budget": 1, "max_budget": 9} | arguments)
