"""`minimize`: what it evaluates, what the journal keeps, and that a killed search goes on as if it had not been."""

import json

import numpy as np
import pytest

from meta_train.outer import search

SPACE = {"x": search.real(0.0, 1.0), "n": search.integer(1, 9, log=True), "kind": search.choice("a", "b", None)}


def _strategy(constructor=search.dehb, space=SPACE):
    return constructor(space, min_budget=1, max_budget=9)


class Evaluate:
    """Losses, some of which are not finite; raises when the trials for which it is paid are over."""

    def __init__(self, most=10_000):
        self.left = most
        self.budgets = []

    def __call__(self, config, budget):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.budgets.append(budget)
        loss = (config["x"] - 0.3) ** 2 / 3 + abs(config["n"] - 4) + (config["kind"] == "a") + 1 / budget
        return np.nan if config["n"] == 9 else loss


@pytest.mark.parametrize("constructor", [search.hyperband, search.dehb])
def test_a_killed_search_goes_on_bit_for_bit(tmp_path, constructor):
    whole = search.minimize(_strategy(constructor), Evaluate(), num_brackets=7, seed=2)
    path = tmp_path / "deeper" / "trials.jsonl"
    for most in (5, 0, 20):
        with pytest.raises(KeyboardInterrupt):
            search.minimize(
                _strategy(constructor), Evaluate(most), num_brackets=7, seed=2, journal=path, resume=path.exists()
            )
        with path.open("a") as file:
            file.write('{"number": 3, "bud')  # killed while it wrote
    last = Evaluate()
    resumed = search.minimize(_strategy(constructor), last, num_brackets=7, seed=2, journal=path, resume=True)
    assert resumed == whole
    assert len(last.budgets) == len(whole.trials) - 25
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[1:] == whole.trials
    assert any(trial["loss"] is None for trial in whole.trials) and whole.best.loss < 1
    further = Evaluate()
    longer = search.minimize(_strategy(constructor), further, num_brackets=8, seed=2, journal=path, resume=True)
    assert longer.trials[: len(whole.trials)] == whole.trials
    assert 0 < len(further.budgets) == len(longer.trials) - len(whole.trials)


def test_the_budgets_are_those_of_the_brackets():
    evaluate = Evaluate()
    result = search.minimize(_strategy(search.hyperband), evaluate, num_brackets=3)
    assert evaluate.budgets == [1] * 9 + [3] * 3 + [9] + [3] * 3 + [9] + [9] * 3
    assert [trial["budget"] for trial in result.trials] == evaluate.budgets
    assert result.best.loss == min(t["loss"] for t in result.trials if t["budget"] == 9 and t["loss"] is not None)


def test_another_search_s_journal_is_refused(tmp_path):
    path = tmp_path / "trials.jsonl"
    arguments = {"num_brackets": 1, "journal": path}
    search.minimize(_strategy(), Evaluate(), **arguments)
    with pytest.raises(ValueError, match="holds a search already: give resume=True"):
        search.minimize(_strategy(), Evaluate(), **arguments)
    other = {**SPACE, "x": search.real(0.0, 2.0)}
    for strategy, seed in ((_strategy(), 1), (_strategy(search.hyperband), 0), (_strategy(space=other), 0)):
        with pytest.raises(ValueError, match=r"is the journal of another search: .* Choose another file"):
            search.minimize(strategy, Evaluate(), seed=seed, resume=True, **arguments)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]) + "\n")
    with pytest.raises(ValueError, match=r"has .* where the search asks for .*: choose another file"):
        search.minimize(_strategy(), Evaluate(), resume=True, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_brackets": 0}, "num_brackets must be at least 1, got 0"), ({"seed": -1}, "seed must not be negative")],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        search.minimize(_strategy(), Evaluate(), **{"num_brackets": 1} | arguments)
