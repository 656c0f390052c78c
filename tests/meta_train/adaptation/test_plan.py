"""The plan: what fits into the minutes."""

import pytest

from meta_train.adaptation import plan as plans
from meta_train.adaptation.plan import Pace


def test_dear_trainings_become_shorter_and_verdicts_smaller():
    cheap = plans.choose(10.0, 30.0, 1000, ("muon",), Pace(5.0, 1e-4, 2))
    assert (cheap.horizon, cheap.size) == (1000, plans.SIZES[0])
    dear = plans.choose(10.0, 30.0, 1000, ("muon",), Pace(5.0, 8e-3, 2))
    assert dear.horizon == 500 and dear.size in plans.SIZES[1:]
    assert 100 <= dear.num_trainings < 200
    assert dear.search_seconds + dear.verdict_seconds <= 570.0
    assert "500 steps, shorter than the 1,000 asked for" in plans.as_text(dear, 1000)


def test_without_rivals_the_search_has_more_time():
    pace = Pace(5.0, 1e-3, 2)
    with_rivals, without = (plans.choose(5.0, 10.0, 1000, rivals, pace) for rivals in (("muon", "adamw-cosine"), ()))
    assert without.search_seconds > with_rivals.search_seconds
    assert plans.as_text(without, 1000).endswith("no rivals")


def test_too_few_minutes_say_how_many_are_enough():
    with pytest.raises(ValueError, match=r"1 minutes are too few: a training of 1,000 steps takes about 10\.0 seconds"):
        plans.choose(1.0, 10.0, 1000, (), Pace(5.0, 1e-2, 1))
    with pytest.raises(
        ValueError, match=r"and the least search and verdict (\d+\.\d) minutes\. .*--no-rivals"
    ) as error:
        plans.choose(1.0, 10.0, 1000, ("muon",), Pace(5.0, 1e-2, 1))
    enough = float(str(error.value).partition("verdict ")[2].split()[0]) + 0.1
    assert plans.choose(enough, 10.0, 1000, ("muon",), Pace(5.0, 1e-2, 1)).num_trainings >= plans.FEWEST
