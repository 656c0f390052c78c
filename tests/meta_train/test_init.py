"""What `meta_train` exports, and the modules that it named before they moved into rooms."""

import importlib
import importlib.util
import subprocess
import sys

import pytest

import meta_train


@pytest.mark.parametrize("name", sorted(meta_train._MOVED))
def test_moved_modules_are_found_under_their_old_names_with_a_warning(name):
    place = f"meta_train.{meta_train._MOVED[name]}"
    with pytest.warns(DeprecationWarning, match=f"meta_train.{name} has moved: import {place}"):
        found = getattr(meta_train, name)
    assert found is importlib.import_module(place)


@pytest.fixture
def forget(monkeypatch):
    """Makes the first import of an old name the first one again, and takes away what it leaves in the package."""

    def forget(name):
        monkeypatch.delitem(sys.modules, f"meta_train.{name}", raising=False)
        monkeypatch.delitem(vars(meta_train), name, raising=False)

    yield forget
    monkeypatch.undo()
    for name in meta_train._MOVED:
        sys.modules.pop(f"meta_train.{name}", None)
        vars(meta_train).pop(name, None)


@pytest.mark.parametrize("name", sorted(meta_train._MOVED))
def test_moved_modules_are_imported_by_their_old_names_with_a_warning(name, forget):
    """The module is the very one, which knows where it is now; the warning points to the line with the import."""
    forget(name)
    place = f"meta_train.{meta_train._MOVED[name]}"
    code = compile(f"import meta_train.{name} as found", "a_user.py", "exec")
    user = {}
    with pytest.warns(DeprecationWarning, match=f"^meta_train.{name} has moved: import {place}.$") as told:
        exec(code, user)
    assert [warning.filename for warning in told] == ["a_user.py"]
    assert user["found"] is importlib.import_module(place)
    assert user["found"].__spec__.name == user["found"].__name__ == place
    exec(code, {})  # it was told


def test_what_is_in_a_moved_module_can_be_imported_from_there(forget):
    forget("engine")
    with pytest.warns(DeprecationWarning, match="meta_train.engine has moved: import meta_train.training.engine"):
        from meta_train.engine import Engine  # pyright: ignore[reportMissingImports]
    assert Engine is importlib.import_module("meta_train.training.engine").Engine


def test_looking_for_a_module_does_not_import_it_and_unknown_ones_are_not_found(forget):
    forget("engine")
    assert importlib.util.find_spec("meta_train.engine") is not None
    assert "meta_train.engine" not in sys.modules
    assert importlib.util.find_spec("meta_train.engines") is None
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'meta_train\.engines'"):
        importlib.import_module("meta_train.engines")


LATE = ["cma", "diffrax", "lineax", "matplotlib", "sklearn"]


@pytest.fixture(scope="module")
def fresh_process(tmp_path_factory):
    """A process that has imported `meta_train` and then an old name; it prints what the first import loaded."""
    code = (
        "import sys, meta_train\n"
        "print([name for name in sys.modules if name.startswith('meta_train.evaluation')])\n"
        f"print([name for name in {LATE} if name in sys.modules])\n"
        "import meta_train.scores\n"
        "assert meta_train.scores.__name__ == 'meta_train.evaluation.scores'"
    )
    command = [sys.executable, "-W", "always", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path_factory.mktemp("empty"))


def test_old_names_cost_nothing_until_they_are_used(fresh_process):
    """In a fresh process `import meta_train` neither imports a module of evaluation nor warns."""
    assert fresh_process.stdout.splitlines()[0] == "[]"
    told = [line for line in fresh_process.stderr.splitlines() if "has moved" in line]
    assert told == ["<string>:4: DeprecationWarning: meta_train.scores has moved: import meta_train.evaluation.scores."]


def test_some_packages_are_loaded_only_where_they_are_used(fresh_process):
    """In a fresh process; all of them are installed."""
    assert all(importlib.util.find_spec(name) for name in LATE)
    assert fresh_process.stdout.splitlines()[1] == "[]"


def test_exports_are_there_and_other_names_are_not():
    assert all(getattr(meta_train, name) is not None for name in meta_train.__all__)
    with pytest.raises(AttributeError, match="'meta_train' has no attribute 'fitt'"):
        getattr(meta_train, "fit" + "t")
