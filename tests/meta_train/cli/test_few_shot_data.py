"""What --data of `meta-train few-shot` names."""

import pytest

from meta_train.cli import few_shot_data
from meta_train.cli.few_shot_data import DataKind


def test_defaults():
    digits, sinusoid = few_shot_data.build(DataKind.DIGITS), few_shot_data.build(DataKind.SINUSOID)
    assert digits[-3:] == (5, 1, 5) and digits.training.classifies
    assert sinusoid[-3:] == (None, 10, 10) and not sinusoid.training.classifies


@pytest.mark.parametrize(
    ("kind", "given", "hint"),
    [
        (DataKind.SINUSOID, {"ways": 5}, "--ways is for pictures, and --data sinusoid has none: leave it out"),
        (DataKind.SINUSOID, {"channels": 5}, "--channels is for pictures"),
        (DataKind.SINUSOID, {"shots": 0}, "at least 1"),
        (DataKind.DIGITS, {"ways": 1}, "--ways must be at least 2"),
        (DataKind.DIGITS, {"ways": 17}, "17 ways need as many classes, and the part 'test' of 'digits' has 16"),
        (DataKind.DIGITS, {"shots": 0}, "shots must be at least 1, got 0"),
        (DataKind.DIGITS, {"queries": 500}, "ask for fewer"),
        (DataKind.DIGITS, {"channels": 0}, "channels must be at least 1, got 0"),
    ],
)
def test_refused(kind, given, hint):
    with pytest.raises(ValueError, match=hint):
        few_shot_data.build(kind, **given)
