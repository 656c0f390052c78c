"""A task's name stands for one data set: data of another size are refused."""

import pathlib
import re

import numpy as np
import pytest

from meta_train import data
from meta_train import tasks
from meta_train.data import missing as data_missing
from meta_train.tasks.source import COUNTS
from meta_train.tasks.source import Source
from meta_train.tasks.source import WrongSizeError

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def _save(folder, name, num_train, num_test):
    x, y = np.zeros((num_train + num_test, 8, 8, 3), np.uint8), np.arange(num_train + num_test) % 10
    arrays = {"train_x": x[:num_train], "train_y": y[:num_train], "test_x": x[num_train:], "test_y": y[num_train:]}
    np.savez(folder / f"{name}.npz", **arrays)


def test_every_set_that_is_not_bundled_has_a_size():
    sources = [entry.source for name, entry in tasks.TASKS.items() if not tasks.is_embedded(name)]
    assert {source.name for source in sources} == set(COUNTS)
    assert set(COUNTS) <= set(data_missing.KNOWN)
    for source in sources:
        assert source.counts == COUNTS[source.name]
    assert Source("digits").counts is None


def test_names_that_hold_a_number_have_so_many_examples():
    assert Source("cifar2k").counts.train == 2_000
    assert Source("cifar10").counts.train == 50_000


def test_the_right_size_is_loaded(tmp_path):
    _save(tmp_path, "cifar2k", 2_000, 500)
    assert tasks.get("cifar2k-softmax", data_dir=str(tmp_path)).data.train_x.shape == (2_000, 8, 8, 3)


@pytest.mark.parametrize(("name", "counts"), [("cifar10", (2_000, 500)), ("cifar2k", (2_000, 499))])
def test_another_size_is_refused(tmp_path, name, counts):
    _save(tmp_path, name, *counts)
    task = f"{name.replace('10', '')}-mlp"
    with pytest.raises(WrongSizeError) as caught:
        tasks.get(task, data_dir=str(tmp_path))
    first, *others = str(caught.value).splitlines()
    expected = Source(name).counts
    assert f"{name!r} of named tasks has {expected.train:,} examples to train on and {expected.held_out:,}" in first
    assert f"got {counts[0]:,} and {counts[1]:,} from the folder" in first
    assert "\n".join(others).endswith(data_missing.ways(name, None))


def test_texts_are_counted_in_characters(tmp_path):
    (tmp_path / "names.txt").write_text("ann\nbob\nzoe\n")
    with pytest.raises(WrongSizeError, match=r"205,331 characters to train on and 22,814 held out, got 11 and 1 from"):
        tasks.get("names-gru", data_dir=str(tmp_path))


def test_the_documented_sizes_are_these():
    line = r"^\| ((?:`\w+`(?:, )?)+) \| ([\d,]+) \+ ([\d,]+) (?:pictures|characters|rows)"
    rows = re.findall(line, PAGE, re.MULTILINE)
    number = lambda text: int(text.replace(",", ""))
    documented = {name: (number(a), number(b)) for names, a, b in rows for name in re.findall(r"\w+", names)}
    assert documented == COUNTS


def test_the_documented_way_to_make_a_part_of_cifar10(tmp_path, monkeypatch):
    """Of pictures that are not balanced: 200 and 50 of each class, the classes in turn, their pixels as they were."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.repeat(np.arange(10), np.arange(250, 350, 10)))
    pixels = draw.integers(0, 256, (len(labels), 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "cifar10.npz", train_x=pixels, train_y=labels, test_x=pixels, test_y=labels)
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path))
    (code,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code.replace("FOLDER", str(tmp_path)), "data.md", "exec"), {})
    made = tasks.get("cifar2k-mlp").data
    assert made.train_y.tolist() == [*range(10)] * 200
    assert made.test_y.tolist() == [*range(10)] * 50
    third = np.flatnonzero(labels == 7)[2]
    np.testing.assert_array_equal(made.train_x[27], (pixels[third] / 255).astype(np.float32))
