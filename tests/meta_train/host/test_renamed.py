"""Old names: each gives what has its place now, with a warning that says so."""

import inspect
import warnings

import pytest

from meta_train import estimators
from meta_train import tasks
from meta_train.host.renamed import renamed
from meta_train.host.renamed import renamed_argument
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


def test_an_argument_s_old_name_warns_and_both_names_at_once_are_an_error():
    """The function keeps its signature; what it gets is the argument's value, whatever that is."""

    @renamed_argument("grey", "gray")
    def paint(picture, *, gray=False):
        return picture, gray

    assert list(inspect.signature(paint).parameters) == ["picture", "gray"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (paint(1), paint(1, gray=True)) == ((1, False), (1, True))
    message = r"^grey= is a deprecated name of an argument of paint: use gray=\.$"
    with pytest.warns(DeprecationWarning, match=message) as told:
        assert (paint(2, grey=True), paint(2, grey=False)) == ((2, True), (2, False))
    assert [warning.filename for warning in told] == [__file__] * 2
    with pytest.raises(TypeError, match="paint got both gray= and its old name grey=: give gray= alone"):
        paint(3, gray=False, grey=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'grau'"):
        paint(3, grau=True)
