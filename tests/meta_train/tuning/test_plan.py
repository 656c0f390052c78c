"""The plan of a tuning: larger where there is time, refused where there is none."""

import pytest

from meta_train.adaptation.plan import Pace
from meta_train.tuning import plan as plans


def test_fewer_minutes_make_a_smaller_grid():
    pace = Pace(5.0, 1e-3, 2)
    long, short = (plans.choose(minutes, 10.0, 1000, pace) for minutes in (10.0, 2.0))
    assert (long.size, short.size) == plans.SIZES
    assert long.hypergradient_seeds == 4 and long.last_seconds > short.last_seconds > 0
    assert plans.choose(10.0, 0.0, 1000, pace._replace(devices=8)).hypergradient_seeds == 8


def test_too_few_minutes_say_how_many_are_enough():
    with pytest.raises(ValueError, match=r"1 minutes are too few: a training of 1,000 steps takes about 1\.0 seconds"):
        plans.choose(1.0, 10.0, 1000, Pace(5.0, 1e-3, 1))
