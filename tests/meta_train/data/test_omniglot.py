"""Omniglot from archives made here, whole and small, and from a set built as tensorflow-datasets builds its own."""

import importlib
import io
import zipfile

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from meta_train import data
from meta_train.data import tfds as data_tfds

CHARACTERS = {"Korean": 2, "Greek": 1, "Tagalog": 2}  # alphabets and their characters
DRAWINGS = 2  # of each character


def _drawing(alphabet, character, number):
    """105×105, white, with a black square whose place tells what it is."""
    image = np.full((105, 105), 255, np.uint8)
    row, column = 15 * list(CHARACTERS).index(alphabet) + 30 * (character - 1), 30 * number
    image[row : row + 15, column : column + 15] = 0
    return image


def _png(image):
    file = io.BytesIO()
    Image.fromarray(image).convert("1").save(file, format="png")
    return file.getvalue()


def _write(path, alphabets, spoil=None):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/", "")
        for alphabet in alphabets:
            for character in range(1, CHARACTERS[alphabet] + 1):
                for number in range(DRAWINGS):
                    name = f"{path.stem}/{alphabet}/character{character:02}/01_{number:02}.png"
                    archive.writestr(name, spoil or _png(_drawing(alphabet, character, number)))


def _check(classes, alphabets, size):
    """All characters of the alphabets, reduced by areas: ink is 255, and paper 0."""
    names = sorted(f"{alphabet}/character{i + 1:02}" for alphabet in alphabets for i in range(CHARACTERS[alphabet]))
    assert classes.names == tuple(names)
    assert classes.counts.tolist() == [DRAWINGS] * len(names)
    assert (classes.pictures.dtype, classes.pictures.shape[2:]) == (np.uint8, (size, size, 1))
    for name, rows in zip(classes.names, classes.pictures, strict=True):
        alphabet, character = name.split("/character")
        for number, row in enumerate(rows):
            cells = 255.0 - _drawing(alphabet, int(character), number).reshape(size, 105 // size, size, 105 // size)
            np.testing.assert_array_equal(row[..., 0], np.round(cells.mean(axis=(1, 3))))


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.delenv(data.DATA_DIR_VARIABLE, raising=False)


def test_the_small_archives_without_the_doubles(tmp_path, monkeypatch):
    folder = tmp_path / "omniglot_small"
    _write(folder / "images_background_small1.zip", ["Korean", "Greek"])
    _write(folder / "images_background_small2.zip", ["Greek", "Tagalog"])
    split = data.omniglot(data_dir=tmp_path, size=21)
    assert split.name == "omniglot-small"
    _check(split.train, ["Greek", "Korean"], 21)
    _check(split.test, ["Tagalog"], 21)
    assert data.omniglot(data_dir=folder, size=21).train.names == split.train.names  # the folder itself
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path))
    assert data.omniglot().train.pictures.shape == (3, 2, 28, 28, 1)


def test_the_whole_archives_come_first(tmp_path):
    _write(tmp_path / "omniglot_small" / "images_background_small1.zip", ["Greek"])
    _write(tmp_path / "omniglot" / "images_background.zip", ["Korean", "Tagalog"])
    _write(tmp_path / "omniglot" / "images_evaluation.zip", ["Greek"])
    split = data.omniglot(data_dir=tmp_path, size=35)
    assert split.name == "omniglot"
    _check(split.train, ["Korean", "Tagalog"], 35)
    _check(split.test, ["Greek"], 35)


def test_what_is_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_dir must name a folder that exists"):
        data.omniglot(data_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"size must lie in 1…105, .*, got 106"):
        data.omniglot(data_dir=tmp_path, size=106)
    first, second = (tmp_path / "omniglot_small" / f"images_background_small{i}.zip" for i in (1, 2))
    _write(first, ["Korean"])
    with pytest.raises(FileNotFoundError, match=r"small1\.zip needs images_background_small2\.zip beside it"):
        data.omniglot(data_dir=tmp_path)
    _write(second, ["Greek"])
    with pytest.raises(ValueError, match="have no alphabets Early_Aramaic or Tagalog: fetch them again"):
        data.omniglot(data_dir=tmp_path)
    second.write_bytes(first.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"small2\.zip: the archive is cut short or damaged"):
        data.omniglot(data_dir=tmp_path)
    _write(second, ["Tagalog"], spoil=b"no picture")
    with pytest.raises(ValueError, match=r"character01/01_00.png cannot be read as a picture"):
        data.omniglot(data_dir=tmp_path)
    _write(second, ["Tagalog"], spoil=_png(np.zeros((20, 20), np.uint8)))
    with pytest.raises(ValueError, match=r"expected black-and-white drawings of 105×105 pixels, got \[\(20, 20\)\]"):
        data.omniglot(data_dir=tmp_path)
    _write(second, [])
    with pytest.raises(ValueError, match=r"expected pictures ALPHABET/characterNN/\*.png, got none"):
        data.omniglot(data_dir=tmp_path)


class DrawnCharacters(tfds.core.GeneratorBasedBuilder):
    """As tensorflow-datasets has Omniglot, with few characters."""

    VERSION = tfds.core.Version("3.0.0")

    def _info(self):
        label = tfds.features.ClassLabel
        features = {
            "image": tfds.features.Image(shape=(105, 105, 3)),
            "alphabet": label(names=list(CHARACTERS)),
            "alphabet_char_id": np.int64,
            "label": label(num_classes=5),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        parts = {"train": ["Korean", "Greek"], "test": ["Tagalog"], "small1": ["Greek"]}
        return {part: self._generate_examples(alphabets) for part, alphabets in parts.items()}

    def _generate_examples(self, alphabets):
        keys = [(a, c, n) for a in alphabets for c in range(1, CHARACTERS[a] + 1) for n in range(DRAWINGS)]
        for alphabet, character, number in keys:
            file = io.BytesIO()
            Image.fromarray(_drawing(alphabet, character, number)).convert("RGB").save(file, format="png")
            yield (
                f"{alphabet} {character} {number}",
                {"image": file.getvalue(), "alphabet": alphabet, "alphabet_char_id": character - 1, "label": 0},
            )


def test_of_tensorflow_datasets_once_and_then_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(data_tfds, "_BY_EXAMPLE", ())  # it needs no TensorFlow, other than the real one
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: DrawnCharacters(data_dir=data_dir))
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        split = data.omniglot(data_dir=tmp_path / "empty", size=21)
        assert split.name == "omniglot"
        for classes, alphabets in ((split.train, ["Korean", "Greek"]), (split.test, ["Tagalog"])):
            assert sum(classes.counts) == sum(CHARACTERS[name] for name in alphabets) * DRAWINGS
            order = [[row.tobytes() for row in rows] for rows in classes.pictures]  # of examples: as they are stored
            pictures = np.array([[np.frombuffer(row, np.uint8) for row in sorted(rows)[::-1]] for rows in order])
            _check(classes._replace(pictures=pictures.reshape(classes.pictures.shape)), alphabets, 21)
        monkeypatch.setattr(data_tfds, "installed", lambda: False)  # from here on it is of no use
    (kept,) = (tmp_path / "cache" / "learned_optim" / "data").iterdir()
    assert kept.name == "omniglot_21x21-3.0.0.npz"
    kept.write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match=r"(?s)not at hand.*omniglot_small/.*is not installed.*digit_classes"):
        data.omniglot(size=21)


def test_tensorflow_is_asked_for(monkeypatch):
    monkeypatch.setattr(data_tfds, "_importable", lambda module: module != "tensorflow")
    with pytest.raises(FileNotFoundError, match=r"(?s)needs TensorFlow, .*- Put images_background.zip and"):
        data.omniglot()


def test_held_out_alphabets_are_those_of_the_docstring():
    data_omniglot = importlib.import_module("meta_train.data.omniglot")
    assert data_omniglot.SMALL_HELD_OUT == ("Early_Aramaic", "Tagalog")
    assert "Early Aramaic and Tagalog" in data_omniglot.__doc__
