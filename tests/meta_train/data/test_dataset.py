"""`load`: which source, the same read-only arrays for equal calls, scaling that sees the training part only, errors."""

import os
import re

import numpy as np
import pytest

from meta_train import data
from meta_train.data import missing
from meta_train.data import tfds

# name -> shape of an example, training examples, held-out ones, classes or None for targets to predict
SIZES = {
    "breast_cancer": ((30,), 455, 114, 2),
    "diabetes": ((10,), 353, 89, None),
    "digits": ((8, 8, 1), 1437, 360, 10),
    "iris": ((4,), 120, 30, 3),
    "photos": ((8, 8, 3), 6784, 1696, 2),
    "wine": ((13,), 142, 36, 3),
}


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch, tmp_path_factory):
    """Neither a folder nor what this machine keeps of tensorflow-datasets, unless a test brings it."""
    empty = tmp_path_factory.getbasetemp() / "nowhere"
    monkeypatch.delenv(data.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty))
    monkeypatch.setenv("TFDS_DATA_DIR", str(empty))
    monkeypatch.setattr(tfds, "installed", lambda: False)


def _write_table(path, y, test_rows=1):
    """A table of one column 0, 1, 2, … with a mask that holds out its last rows."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{row},{target}\n" for row, target in enumerate(y)), encoding="utf-8")
    mask = [int(row >= len(y) - test_rows) for row in range(len(y))]
    path.with_suffix(".test_mask.csv").write_text("".join(f"{held_out}\n" for held_out in mask), encoding="utf-8")


@pytest.mark.parametrize("name", SIZES)
def test_shapes_dtypes_and_classes(name):
    shape, num_train, num_test, classes = SIZES[name]
    dataset = data.load(name)
    assert (dataset.train_x.shape, dataset.test_x.shape) == ((num_train, *shape), (num_test, *shape))
    assert (dataset.train_y.shape, dataset.test_y.shape) == ((num_train,), (num_test,))
    assert dataset.train_x.dtype == dataset.test_x.dtype == np.float32
    assert dataset.train_y.dtype == dataset.test_y.dtype == (np.float32 if classes is None else np.int32)
    if classes is None:
        with pytest.raises(ValueError, match="expected integer labels, got targets to predict of float32"):
            data.num_classes(dataset)
    else:
        assert data.num_classes(dataset) == classes
        assert set(dataset.train_y) == set(dataset.test_y) == set(range(classes))


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "iris", "wine"])
def test_tables_are_standardized_by_the_training_part(name):
    dataset = data.load(name)
    pairs = [(dataset.train_x, dataset.test_x)] + [(dataset.train_y, dataset.test_y)] * (name == "diabetes")
    for train, test in pairs:
        train, test = train.astype(np.float64), test.astype(np.float64)
        np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-6)
        assert np.max(abs(test.mean(axis=0))) > 0.005  # it had no say


def test_images_are_scaled_to_the_unit_interval():
    x = np.concatenate([data.load("digits").train_x, data.load("digits").test_x])
    assert set(np.unique(x)) == {level / 16 for level in range(17)}


def test_constant_columns_become_zero(tmp_path):
    (tmp_path / "flat.csv").write_text("0.1,1,5\n0.1,2,5\n0.1,4,5.5\n0.7,8,7\n")
    (tmp_path / "flat.test_mask.csv").write_text("0\n0\n0\n1\n")
    dataset = data.load("flat", data_dir=tmp_path)
    assert not dataset.train_x[:, 0].any() and not dataset.test_x[:, 0].any()
    np.testing.assert_allclose(dataset.train_x[:, 1], (np.array([1, 2, 4]) - 7 / 3) / np.std([1, 2, 4]), rtol=1e-6)
    np.testing.assert_allclose(dataset.test_y, (7 - 15.5 / 3) / np.std([5, 5, 5.5]), rtol=1e-6)


def test_equal_calls_give_the_same_arrays_that_cannot_be_written_to(tmp_path, monkeypatch):
    _write_table(tmp_path / "steps.csv", range(5))
    monkeypatch.chdir(tmp_path)
    for first, second in (
        (data.load("digits", size=4), data.load("digits", size=4, data_dir=tmp_path)),
        (data.load("steps", data_dir=tmp_path), data.load("steps", data_dir=".")),
        (data.load("sklearn_docs"), data.load("sklearn_docs")),
    ):
        for one, other in zip(first, second, strict=True):
            assert one is other
            if isinstance(one, np.ndarray):
                with pytest.raises(ValueError, match="read-only"):
                    one[0] = 0
    assert data.load("digits").train_x.shape != data.load("digits", size=4).train_x.shape


def test_a_text_is_tokens_of_its_characters(tmp_path):
    text = "emma\nolivia\nava\nzoë\n"
    (tmp_path / "children.txt").write_text(text, encoding="utf-8")
    loaded = data.load("children", data_dir=tmp_path)
    assert loaded.vocabulary == tuple(sorted(set(text)))
    assert loaded.train.dtype == loaded.test.dtype == np.int32
    decode = lambda tokens: "".join(loaded.vocabulary[token] for token in tokens)
    assert (decode(loaded.train), decode(loaded.test)) == (text[:-2], text[-2:])


def test_the_embedded_text_has_enough_to_learn_from():
    text = data.load("sklearn_docs")
    assert len(text.train) > 20_000 and len(text.test) == (len(text.train) + len(text.test)) // 10
    assert len(text.vocabulary) > 60
    words = "".join(text.vocabulary[token] for token in text.train).split()
    assert words.count("the") > 100


def test_embedded_sets_go_before_the_folder_and_the_folder_before_tensorflow_datasets(tmp_path, monkeypatch):
    _write_table(tmp_path / "iris.csv", range(5))
    _write_table(tmp_path / "mnist.csv", range(5))
    monkeypatch.setattr(tfds, "at_hand", lambda name: True)
    assert data.available("iris", tmp_path) == "scikit-learn"
    assert data.load("iris", data_dir=tmp_path).train_x.shape == (120, 4)
    assert data.available("mnist", tmp_path) == "folder"
    assert data.load("mnist", data_dir=tmp_path).train_x.shape == (4, 1)
    assert data.available("mnist") == "tensorflow-datasets"
    monkeypatch.undo()
    assert [data.available(name) for name in data.embedded()] == ["scikit-learn"] * 7


def test_the_folder_can_be_given_by_the_environment(tmp_path, monkeypatch):
    _write_table(tmp_path / "given" / "steps.csv", range(5))
    _write_table(tmp_path / "named" / "steps.csv", range(9))
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path / "named"))
    assert data.available("steps") == "folder"
    assert len(data.load("steps").train_x) == 8
    assert len(data.load("steps", data_dir=tmp_path / "given").train_x) == 4
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, "")
    assert data.available("steps") is None


def test_a_folder_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=f"data_dir must name a folder that exists, got '{tmp_path}/no'"):
        data.load("steps", data_dir=tmp_path / "no")
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, "no")
    with pytest.raises(FileNotFoundError, match="LEARNED_OPTIM_DATA must name a folder that exists, got 'no'"):
        data.available("steps")
    assert data.load("iris").train_x.shape == (120, 4)  # needs no folder


def test_missing_data_are_answered_with_the_ways_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^the data set 'mnist' is not at hand\.\n") as raised:
        data.load("mnist", data_dir=tmp_path)
    assert missing.ways("mnist", tmp_path) in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"^the data set 'yacht' is not at hand\.\n") as raised:
        data.load("yacht")
    assert missing.ways("yacht", None) in str(raised.value)


def test_a_home_folder_that_is_unknown_is_no_trouble(monkeypatch):
    for variable in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    with pytest.raises(FileNotFoundError, match="'mnist' is not at hand"):
        data.load("mnist")
    assert data.available("mnist") is None
    with pytest.raises(FileNotFoundError, match="data_dir must name a folder that exists, got '~/data'"):
        data.load("mnist", data_dir="~/data")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no data set 'digit'. Did you mean 'digits'\?\n- Put files into"):
        data.load("digit")
    with pytest.raises(ValueError, match=r"no data set 'fashion-mnist'. Did you mean 'fashion_mnist'\?"):
        data.load("fashion-mnist")
    with pytest.raises(ValueError, match=r"no data set 'xyz'.\n- Put files into"):
        data.load("xyz")


def test_size_and_gray_are_for_pictures():
    with pytest.raises(ValueError, match="size and gray are for pictures; 'iris' is a table"):
        data.load("iris", size=2)
    with pytest.raises(ValueError, match="size and gray are for pictures; 'sklearn_docs' is a text"):
        data.load("sklearn_docs", gray=True)
    with pytest.raises(ValueError, match="size must be an int in 1…8 for pictures of 8×8, got 9"):
        data.load("digits", size=9)
    gray = data.load("photos", size=4, gray=True).train_x
    color = data.load("photos").train_x
    expected = color.reshape(-1, 4, 2, 4, 2, 3).mean(axis=(2, 4)) @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(gray[..., 0], expected, rtol=0, atol=1e-6)
    with pytest.warns(DeprecationWarning, match="use gray="):
        old = data.load("photos", size=4, grey=True).train_x
    assert old is gray


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((1, 2)), "y": np.zeros(1, int)}, "needs examples to train on and held-out ones, got 0 and 1"),
        ({"x": np.zeros((5, 2)), "y": np.arange(5)}, "wrong.npz: the labels look like ids, for 5 examples have 5"),
        ({"x": np.zeros((5, 2)), "y": np.arange(5) // 2 + 2**31}, r"labels must be below 1,000,000, got 2147483648…"),
        ({"x": np.zeros((5, 2)), "y": np.array([0, 1, 1, 0, 2 * 10**9])}, "got 0…2000000000, which look like ids"),
        ({"x": np.full((5, 2), np.nan), "y": np.arange(5)}, "expected finite numbers, got NaN or infinity"),
        ({"x": np.full((5, 2), 1e200) * np.arange(5)[:, None], "y": np.zeros(5)}, "numbers whose squares .* too large"),
        ({"x": np.zeros((5, 4, 8, 8), "u1"), "y": np.zeros(5)}, r"wrong.npz: channels must be the last axis"),
        ({"x": np.zeros((5, 2)), "y": np.full(5, np.inf)}, "expected finite numbers, got NaN or infinity"),
        ({"x": np.zeros((5, 2, 2), int), "y": np.arange(5)}, "pictures must be uint8 or floats in 0…1, got int64"),
        (
            {"train_x": np.zeros((2, 1)), "train_y": [0, 1], "test_x": np.zeros((1, 1)), "test_y": [0.5]},
            "targets of both parts must be labels, or numbers to predict, got int64 and float64",
        ),
    ],
)
def test_arrays_that_are_no_data_set(tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load("wrong", data_dir=tmp_path)


def test_a_text_must_have_a_tenth_to_hold_out(tmp_path):
    (tmp_path / "short.txt").write_text("123456789")
    with pytest.raises(ValueError, match="'short': a text needs at least 10 characters, got 9"):
        data.load("short", data_dir=tmp_path)


@pytest.mark.parametrize("labels", [[1, 2, 3], [-1, 1], [7, 20, 4]])
def test_labels_mean_the_same_in_every_format(tmp_path, labels):
    y = np.array(labels * 4)
    x = np.random.default_rng(0).normal(size=(len(y), 2))
    np.savez(tmp_path / "archive.npz", x=x, y=y)
    np.savez(tmp_path / "column.npz", x=x, y=y[:, None])
    for name, spell in (("plain", "{}"), ("signed", "{:+}"), ("named", "class {}")):  # the last are texts
        rows = [f"{a!r},{b!r},{spell.format(label)}" for (a, b), label in zip(x.tolist(), y, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows), encoding="utf-8")
    expected = data.load("archive", data_dir=tmp_path)
    assert set(expected.train_y) == set(range(len(labels)))
    assert data.num_classes(expected) == len(labels)
    for name in ("column", "plain", "signed"):
        for part, wanted in zip(data.load(name, data_dir=tmp_path), expected, strict=True):
            assert part.dtype == wanted.dtype
            np.testing.assert_allclose(part, wanted, rtol=1e-6, atol=1e-6)
    assert data.num_classes(data.load("named", data_dir=tmp_path)) == len(labels)


def test_minus_one_and_one_are_classes_as_floats_too(tmp_path):
    np.savez(tmp_path / "signs.npz", x=np.arange(8.0)[:, None], y=np.array([1.0, -1.0] * 4))
    dataset = data.load("signs", data_dir=tmp_path)
    assert data.num_classes(dataset) == 2
    np.savez(tmp_path / "halves.npz", x=np.arange(8.0)[:, None], y=np.array([1.0, 0.5] * 4))
    assert data.load("halves", data_dir=tmp_path).train_y.dtype == np.float32


def test_pictures_with_channels_first_are_turned(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3)).astype(np.uint8)
    y = np.arange(10) % 2
    np.savez(tmp_path / "last.npz", x=pictures, y=y)
    np.savez(tmp_path / "first.npz", x=pictures.transpose(0, 3, 1, 2), y=y)
    for turned, expected in zip(*(data.load(name, data_dir=tmp_path) for name in ("first", "last")), strict=True):
        np.testing.assert_array_equal(turned, expected)


def test_labels_of_a_data_set_made_by_hand_are_checked():
    x, y = np.zeros((3, 1), np.float32), np.array([0, 1, 1], np.int32)
    for wrong, message in ((y - 1, "got -1…1"), (y * 2_000_000_000, "got 0…2000000000")):
        with pytest.raises(ValueError, match=f"the classes' numbers 0, 1, … below 1,000,000, {message}"):
            data.num_classes(data.Dataset(x, wrong, x, y))


def test_errors_of_files_name_the_file(tmp_path):
    (tmp_path / "broken.csv").write_text("1,2\n3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path))}.broken.csv: line 2 has 1 columns"):
        data.load("broken", data_dir=tmp_path)
