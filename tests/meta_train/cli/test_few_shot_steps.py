"""The default numbers of outer steps."""

from meta_train.cli import few_shot_steps
from meta_train.cli.few_shot_data import DataKind
from meta_train.recipes import few_shot


def test_every_method_has_some_and_no_other_is_named():
    assert all(few_shot_steps.default(method, kind) >= 100 for method in few_shot.METHODS for kind in DataKind)
    assert {*few_shot_steps._SHARES} <= {*few_shot.METHODS}
