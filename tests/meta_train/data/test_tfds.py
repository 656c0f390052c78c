"""tensorflow-datasets, really: sets built and prepared here, without TensorFlow, and read through `data.load`."""

import io
import os
import sys
import threading

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from meta_train import data
from meta_train.data import dataset
from meta_train.data import tfds as data_tfds
from meta_train.host import cache_folder

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 4, 3, 3)).astype(np.uint8)
LABELS = np.arange(12) % 3
LABEL = tfds.features.ClassLabel(num_classes=3)
VECTOR = tfds.features.Tensor(shape=(2,), dtype=np.float32)
ANY_HEIGHT = tfds.features.Tensor(shape=(None, 2), dtype=np.uint8)


class _Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set whose features and examples a test chooses."""

    VERSION = tfds.core.Version("1.2.3")
    FEATURES = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(4, 3, 3)), "label": LABEL})
    KEYS = ("image", "label")
    SPLITS = (("train", range(9)), ("test", range(9, 12)))

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=self.FEATURES, supervised_keys=self.KEYS)

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples(part, rows) for part, rows in self.SPLITS}

    def _generate_examples(self, part, rows):
        for row in rows:  # a picture as a PNG file: to make one of an array, tensorflow-datasets needs TensorFlow
            file = io.BytesIO()
            Image.fromarray(PICTURES[row]).save(file, format="png")
            yield row, {"image": file.getvalue(), "label": LABELS[row]}


class TinyPictures(_Tiny):
    pass


class TinyUnsplit(_Tiny):
    SPLITS = (("train", range(10)),)
    KEYS = None  # then the features are image and label


class TinyText(_Tiny):
    FEATURES = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    KEYS = None
    SPLITS = (("test", ("twig.",)), ("train", ("By the well\n", "at the")), ("validation", (" gate,\na ",)))

    def _generate_examples(self, part, rows):
        for row, text in enumerate(rows):
            yield row, {"text": text}


class TinyTable(_Tiny):
    FEATURES = tfds.features.FeaturesDict({"columns": VECTOR, "kind": LABEL})
    KEYS = ("columns", "kind")
    SPLITS = (("train", range(6)), ("validation", range(6, 9)))

    def _generate_examples(self, part, rows):
        for row in rows:
            yield row, {"columns": np.array([row, 1.0], np.float32), "kind": row % 3}


class TinySizes(_Tiny):
    FEATURES = tfds.features.FeaturesDict({"image": ANY_HEIGHT, "label": LABEL})

    def _generate_examples(self, part, rows):
        for row in rows:
            yield row, {"image": np.zeros((1 + row % 2, 2), np.uint8), "label": 0}


class TinyUnreachable(_Tiny):
    def _split_generators(self, dl_manager):
        raise ConnectionError("no route to host")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Empty folders for the cache and for what tensorflow-datasets prepares, and nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.delenv(data.DATA_DIR_VARIABLE, raising=False)
    dataset._load.cache_clear()
    yield tmp_path / "cache" / "learned_optim" / "data"
    dataset._load.cache_clear()


def _sorted(x, y):
    return sorted((picture.tobytes(), int(label)) for picture, label in zip(x, y, strict=True))


def test_pictures_are_read_once_and_then_from_the_cache(folders, monkeypatch):
    assert data.available("tiny_pictures") is None
    pictures = data.load("tiny_pictures")
    expected = PICTURES.astype(np.float32) / np.float32(255)
    assert _sorted(*pictures[:2]) == _sorted(expected[:9], LABELS[:9])
    assert _sorted(*pictures[2:]) == _sorted(expected[9:], LABELS[9:])
    assert (pictures.train_x.dtype, pictures.train_y.dtype) == (np.float32, np.int32)
    assert data.num_classes(pictures) == 3
    assert [path.name for path in folders.iterdir()] == ["tiny_pictures-1.2.3.npz"]
    assert data.available("tiny_pictures") == "tensorflow-datasets"

    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # from here on it cannot be imported
    dataset._load.cache_clear()
    for again, before in zip(data.load("tiny_pictures"), pictures, strict=True):
        np.testing.assert_array_equal(again, before)
    assert data.load("tiny_pictures", size=2, gray=True).test_x.shape == (3, 2, 2, 1)


def test_what_is_prepared_counts_as_at_hand(tmp_path):
    tfds.builder("tiny_pictures", data_dir=tmp_path / "prepared").download_and_prepare(file_format="array_record")
    assert data_tfds.cached("tiny_pictures") is None
    assert data.available("tiny_pictures") == "tensorflow-datasets"
    assert data.available("tiny_text") is None


def test_the_newest_version_in_the_cache_is_read(folders):
    folders.mkdir(parents=True)
    for version in ("9.0.0", "10.0.0", "10.0"):
        (folders / f"kept-{version}.txt").write_text(version * 10)
    (folders / "kept-more-11.0.0.txt").write_text("another set")
    assert data_tfds.read("kept") == "10.0.0" * 10
    (folders / "a+b-1.0.0.txt").write_text("with a configuration")
    assert data_tfds.read("a/b") == "with a configuration"


def test_texts_are_joined_in_order(folders):
    text = data_tfds.read("tiny_text")
    assert text in ("By the well\n\nat the gate,\na twig.", "at the\nBy the well\n gate,\na twig.")
    assert [path.name for path in folders.iterdir()] == ["tiny_text-1.2.3.txt"]
    assert data_tfds.read("tiny_text") == text
    assert len(data.load("tiny_text").test) == len(text) // 10


def test_without_a_test_split(folders):
    parts = data_tfds.read("tiny_unsplit")
    assert (len(parts.train_x), len(parts.test_x)) == (8, 2)
    x, y = [*parts.train_x, *parts.test_x], [*parts.train_y, *parts.test_y]
    assert _sorted(x, y) == _sorted(PICTURES[:10], LABELS[:10])


def test_vectors_with_labels_are_a_table(folders):
    parts = data_tfds.read("tiny_table")
    assert sorted(map(tuple, parts.train_x)) == [(float(row), 1.0) for row in range(6)]
    np.testing.assert_array_equal(parts.test_y, parts.test_x[:, 0] % 3)


def test_other_sets_are_refused(folders):
    with pytest.raises(ValueError, match=r"'tiny_sizes' .* one shape with a number as label; its features are"):
        data.load("tiny_sizes")
    assert not folders.exists()


def test_a_failed_download_is_told_with_its_cause_and_the_other_ways():
    with pytest.raises(FileNotFoundError, match=r"ConnectionError: no route to host\n- .*--data-dir") as raised:
        data.load("tiny_unreachable")
    assert isinstance(raised.value.__cause__.__cause__, ConnectionError)


def test_names_that_it_does_not_know():
    for name in ("no_such_set", "tiny_pictures:7.0.0", "tiny_pictures/other", "what is this?"):
        assert data_tfds.read(name) is None
    with pytest.raises(ValueError, match=r"no data set 'tiny_picture'.\n- Put files into") as raised:
        data.load("tiny_picture")
    assert "tensorflow-datasets" not in str(raised.value)


def test_without_tensorflow_datasets(monkeypatch):
    monkeypatch.setattr(data_tfds, "installed", lambda: False)
    assert data_tfds.read("tiny_pictures") is None
    with pytest.raises(
        FileNotFoundError, match=r"(?s)'mnist' is not at hand\..*is not installed: pip install '\.\[tfds\]'"
    ):
        data.load("mnist")


def test_without_tensorflow_nothing_is_downloaded_in_vain(monkeypatch):
    monkeypatch.setattr(data_tfds, "_importable", lambda module: module != "tensorflow")
    with pytest.raises(
        FileNotFoundError, match=r"^to prepare 'kmnist', .* needs TensorFlow.*: pip install tensorflow\.\n- "
    ):
        data.load("kmnist")


def test_a_file_is_never_half_written(folders, monkeypatch, capsys):
    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    monkeypatch.setattr(cache_folder, "_told", threading.Event())
    assert len(data_tfds.read("tiny_pictures").train_x) == 9  # what was read is there all the same
    assert list(folders.iterdir()) == []
    assert "disk full" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_no_trouble(folders, monkeypatch, capsys):
    monkeypatch.setattr(cache_folder, "_told", threading.Event())
    folders.parent.parent.write_bytes(b"no folder")
    assert data_tfds.at_hand("tiny_text") is False
    for _ in range(2):
        assert "By the well\n" in data_tfds.read("tiny_text")
    assert capsys.readouterr().err.count("cannot keep files") == 1


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut short"])
def test_a_damaged_file_in_the_cache_is_read_again_and_replaced(folders, content, monkeypatch):
    parts = data_tfds.read("tiny_pictures")
    (path,) = folders.iterdir()
    path.write_bytes(content)
    for again, before in zip(data_tfds.read("tiny_pictures"), parts, strict=True):
        np.testing.assert_array_equal(again, before)
    assert list(folders.iterdir()) == [path] and path.stat().st_size > len(content)
    path.write_bytes(content)
    monkeypatch.setattr(data_tfds, "installed", lambda: False)
    with pytest.raises(
        FileNotFoundError, match=r"kept of 'tiny_pictures' is damaged, .* is not installed: .*\.npz: not"
    ):
        data.load("tiny_pictures")


def test_without_a_home_folder_it_asks_for_a_place(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    assert data_tfds.at_hand("tiny_pictures") is False
    with pytest.raises(FileNotFoundError, match=r"home folder .* is unknown, .*: set TFDS_DATA_DIR to a folder\.\n- "):
        data.load("tiny_pictures")
