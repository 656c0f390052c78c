"""Old names: each gives what has its place now, with a warning that says so."""

import pytest

from meta_train import estimators
from meta_train import tasks
from meta_train.host.renamed import renamed
from meta_train.tasks import augment

OLD_NAMES = [
    (estimators, "normalised", "normalized"),
    (tasks, "matrix_factorisation", "matrix_factorization"),
    (augment, "reparametrised", "reparametrized"),
    (augment, "reparametrised_per_tensor", "reparametrized_per_tensor"),
    (augment, "reparametrised_per_parameter", "reparametrized_per_parameter"),
]


@pytest.mark.parametrize(("module", "old", "new"), OLD_NAMES)
def test_an_old_name_warns_and_is_the_new_one(module, old, new):
    message = rf"{module.__name__}\.{old} is a deprecated name: use {module.__name__}\.{new}\."
    with pytest.warns(DeprecationWarning, match=message) as told:
        found = getattr(module, old)
    assert found is getattr(module, new)
    assert told[0].filename == __file__


@pytest.mark.parametrize("module", [estimators, tasks, augment])
def test_other_names_are_errors_as_ever(module):
    with pytest.raises(AttributeError, match=rf"module '{module.__name__}' has no attribute 'nonsense'"):
        _ = module.nonsense


def test_a_new_name_does_not_come_through_here():
    with pytest.raises(AttributeError, match="module 'math' has no attribute 'sqrt'"):
        renamed("math", {"squareroot": "sqrt"})("sqrt")
