"""What `meta_train` exports, and the modules that it named before they moved into rooms."""

import importlib

import pytest

import meta_train


@pytest.mark.parametrize("name", sorted(meta_train._MOVED))
def test_moved_modules_are_found_under_their_old_names_with_a_warning(name):
    place = f"meta_train.{meta_train._MOVED[name]}"
    with pytest.warns(DeprecationWarning, match=f"meta_train.{name} has moved: import {place}"):
        found = getattr(meta_train, name)
    assert found is importlib.import_module(place)


def test_exports_are_there_and_other_names_are_not():
    assert all(getattr(meta_train, name) is not None for name in meta_train.__all__)
    with pytest.raises(AttributeError, match="'meta_train' has no attribute 'fitt'"):
        getattr(meta_train, "fit" + "t")
