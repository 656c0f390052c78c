"""The choice among the search's answers."""

import numpy as np

from meta_train.adaptation import choice
from meta_train.adaptation.plan import NUM_CANDIDATES
from meta_train.adaptation.trainings import CHOOSE


def test_shares_of_the_last_answer_and_the_latest_of_the_others():
    points = {f"answer {i}": np.full(2, float(i)) for i in range(1, 7)}
    named = choice.candidates(points)
    assert len(named) == NUM_CANDIDATES
    assert [named[name][0] for name in named] == [1.5, 3.0, 4.5, 6.0, 5.0, 4.0, 3.0]


def test_seeds_are_those_of_the_choice_and_the_default_is_measured_beside():
    asked = []

    def measure(points, seeds, stream, num_steps):
        asked.append((len(points), seeds, stream, num_steps))
        return np.stack([points[:, 0] + seed for seed in seeds], axis=1)

    named = {"a": np.array([-1.0]), "b": np.array([2.0])}
    values = choice.measured(measure, named, 3, 50)
    assert asked == [(3, range(3), CHOOSE, 50)]
    found = choice.judged(named, values)
    assert [(each.name, each.change, each.error) for each in found] == [("a", -1.0, 0.0), ("b", 2.0, 0.0)]
    assert choice.best(found) is found[0]


def test_an_answer_within_the_noise_is_not_taken():
    values = np.array([[0.0, 0.0, 0.0], [-1.0, 0.5, 0.4]])
    assert choice.best(choice.judged({"a": np.ones(1)}, values)) is None
    values[1, 1:] = -0.5
    assert choice.best(choice.judged({"a": np.ones(1)}, values)) is not None
