"""Tasks whose data are at hand, and how to get the others."""

import pytest

from meta_train import data
from meta_train.data import tfds as data_tfds
from meta_train.tasks import at_hand

NAMES = ["wine-softmax", "cifar-mlp", "rosenbrock", "cifar-conv", "yacht-mlp"]


@pytest.fixture
def asked(monkeypatch):
    """The data sets that tensorflow-datasets was asked for, all in vain."""
    names = []
    monkeypatch.setattr(data_tfds, "read", names.append)
    monkeypatch.setattr(data_tfds, "installed", lambda: False)
    monkeypatch.delenv(data.DATA_DIR_VARIABLE, raising=False)
    return names


def test_what_is_missing_is_left_out(asked):
    found = at_hand.load(NAMES)
    assert [task.name for task in found.tasks] == ["wine-softmax", "rosenbrock"]
    assert found.left_out == {"cifar-mlp": "cifar10", "cifar-conv": "cifar10", "yacht-mlp": "yacht"}
    assert found.reasons == ()
    assert asked == ["cifar10", "yacht"]  # once each, for it may take long
    text = at_hand.explain(found)
    assert text.startswith("3 of 5 tasks left out, for their data are not at hand: cifar-mlp, cifar-conv, yacht-mlp.\n")
    assert "They need cifar10, yacht: " in text and "--data-dir" in text
    assert "tensorflow-datasets bring cifar10: " in text and "'.[tfds]'" in text


def test_nothing_is_said_where_all_is_there():
    assert at_hand.explain(at_hand.load(["wine-softmax"])) == ""


def _put_table(folder, num_rows):
    rows = [f"{x},{2 * x},{x**2 + 0.5}" for x in range(num_rows)]
    (folder / "yacht.csv").write_text("\n".join(rows), encoding="utf-8")
    mask = ["1" if row < num_rows // 10 else "0" for row in range(num_rows)]
    (folder / "yacht.test_mask.csv").write_text("\n".join(mask), encoding="utf-8")


def test_data_from_the_folder(asked, tmp_path, monkeypatch):
    _put_table(tmp_path, 308)
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path))
    assert [task.name for task in at_hand.load(["yacht-mlp"]).tasks] == ["yacht-mlp"]


def test_data_of_another_size_are_left_out_and_the_reason_is_told(asked, tmp_path, monkeypatch):
    _put_table(tmp_path, 40)
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path))
    found = at_hand.load(["wine-softmax", "yacht-mlp"])
    assert [task.name for task in found.tasks] == ["wine-softmax"]
    assert found.left_out == {"yacht-mlp": "yacht"}
    text = at_hand.explain(found)
    assert "1 of 2 tasks left out" in text
    assert text.splitlines()[-1].startswith("the data set 'yacht' of named tasks has 278 examples to train on and 30 ")
    assert "got 36 and 4 from the folder: " in text


def test_why_a_download_failed_is_told(asked, monkeypatch):
    def read(name):
        raise FileNotFoundError(f"tensorflow-datasets knows {name!r} but could not download it: no network")

    monkeypatch.setattr(data_tfds, "read", read)
    monkeypatch.setattr(data_tfds, "installed", lambda: True)
    found = at_hand.load(["cifar-mlp", "cifar-conv"])
    assert found.reasons == ("tensorflow-datasets knows 'cifar10' but could not download it: no network",)
    assert at_hand.explain(found).endswith("no network")
    assert "bring" not in at_hand.explain(found)


def test_errors_of_other_kinds_are_raised(asked, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no task 'wine'"):
        at_hand.load(["wine"])
    (tmp_path / "yacht.csv").write_text("not,a\ntable", encoding="utf-8")
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match="yacht"):
        at_hand.load(["yacht-mlp"])
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        at_hand.load(["wine-softmax", "yacht-mlp"])
    assert len(at_hand.load(["wine-softmax"]).tasks) == 1
