"""Finding the files of a data set in a folder: each format and layout, files packed or not, and what is ambiguous."""

import gzip
import struct

import numpy as np
import pytest

from meta_train.data import data_folder

IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TABLE = "1,2,0.5\n3,4,1.5\n5,6,2.5\n7,8,3.5\n"
MASK = "0,1\n1,0\n0,0\n0,0\n"


def _idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def _put(folder, name, content):
    """Writes text or bytes, packed if the name ends in .gz."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def _put_idx(folder, suffix=""):
    """Four idx files: five pictures to train on, two held out."""
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 2)).astype(np.uint8)
    labels = np.arange(7, dtype=np.uint8)
    for name, array in zip(IDX_NAMES, (images[:5], labels[:5], images[5:], labels[5:]), strict=True):
        _put(folder, name + suffix, _idx(array))
    return images, labels


def _read(folder, name):
    paths = data_folder.find(folder, name)
    assert paths
    return data_folder.read(paths)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["drawn", "collection/drawn"])
def test_idx_files_in_a_folder_of_the_name(tmp_path, place, suffix):
    images, labels = _put_idx(tmp_path / place, suffix)
    _put(tmp_path / place, "LICENSE.txt", "not a data set")
    parts = _read(tmp_path, "drawn")
    for result, expected in zip(parts, (images[:5], labels[:5], images[5:], labels[5:]), strict=True):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("place", ["subset.npz", "small.npz"])
def test_an_archive_in_a_folder_of_the_name(tmp_path, place):
    arrays = [np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.array([0, 1])]
    (tmp_path / "small").mkdir()
    np.savez(tmp_path / "small" / place, train_x=arrays[0], train_y=arrays[1], test_x=arrays[0], test_y=arrays[1])
    _put(tmp_path, "small/jpeg.tar.xz", "ignored")
    parts = _read(tmp_path, "small")
    np.testing.assert_array_equal(parts.train_x, arrays[0])
    np.testing.assert_array_equal(parts.test_y, arrays[1])


@pytest.mark.parametrize("place", ["poems/input.txt", "poems.txt", "texts/poems.txt", "texts/poems/poems.txt"])
def test_texts(tmp_path, place):
    _put(tmp_path, place, "a rose\nis a rose")
    assert _read(tmp_path, "poems") == "a rose\nis a rose"


@pytest.mark.parametrize("kind", [".csv", ".csv.gz", ".data.csv", ".data.csv.gz"])
@pytest.mark.parametrize("place", ["boats", "uci/boats", "boats/boats"])
def test_tables_with_a_mask(tmp_path, place, kind):
    _put(tmp_path, place + kind, TABLE)
    _put(tmp_path, place + ".test_mask.csv" + (".gz" if kind.endswith(".gz") else ""), MASK)
    parts = _read(tmp_path, "boats")
    np.testing.assert_array_equal(parts.train_x, [[1, 2], [5, 6], [7, 8]])
    np.testing.assert_array_equal(parts.train_y, [0.5, 2.5, 3.5])
    np.testing.assert_array_equal(parts.test_x, [[3, 4]])
    np.testing.assert_array_equal(parts.test_y, [1.5])


def test_a_table_without_a_mask_is_split_at_random(tmp_path):
    _put(tmp_path, "boats/measured.csv", TABLE)
    _put(tmp_path, "boats/readme.md", "ignored")
    parts = _read(tmp_path, "boats")
    assert (len(parts.train_x), len(parts.test_x)) == (3, 1)
    assert sorted([*parts.train_y, *parts.test_y]) == [0.5, 1.5, 2.5, 3.5]
    x = np.concatenate([parts.train_x, parts.test_x])
    np.testing.assert_array_equal(x[:, 0], 2 * np.concatenate([parts.train_y, parts.test_y]))


def test_a_mask_of_another_length_is_refused(tmp_path):
    _put(tmp_path, "boats.csv", TABLE)
    _put(tmp_path, "boats.test_mask.csv", MASK + "0,0\n")
    with pytest.raises(ValueError, match=r"boats.csv has 4 rows and .*boats.test_mask.csv has 5"):
        _read(tmp_path, "boats")


def test_a_mask_beside_data_csv(tmp_path):
    """As in a clone of https://github.com/treforevans/uci_datasets."""
    _put(tmp_path, "uci_datasets/boats/data.csv.gz", TABLE)
    _put(tmp_path, "uci_datasets/boats/test_mask.csv.gz", MASK)
    parts = _read(tmp_path, "boats")
    np.testing.assert_array_equal(parts.train_y, [0.5, 2.5, 3.5])
    np.testing.assert_array_equal(parts.test_y, [1.5])


def test_a_table_and_its_mask_as_pandas_writes_them(tmp_path):
    _put(tmp_path, "boats.csv", "0,1,2\n" + TABLE)
    _put(tmp_path, "boats.test_mask.csv", "0,1,2\n0,1,0\n1,0,0\n0,0,0\n0,0,1\n")
    parts = _read(tmp_path, "boats")
    np.testing.assert_array_equal(parts.train_y, [0.5, 2.5, 3.5])
    np.testing.assert_array_equal(parts.test_y, [1.5])


def test_what_is_nearer_and_named_goes_first(tmp_path):
    _put(tmp_path, "b/poems.txt", "second subfolder")
    _put(tmp_path, "a/poems.txt", "first subfolder")
    assert _read(tmp_path, "poems") == "first subfolder"
    _put(tmp_path, "poems.txt", "file")
    assert _read(tmp_path, "poems") == "file"
    _put(tmp_path, "poems/NOTES.txt", "notes")
    _put(tmp_path, "poems/poems.txt", "named")
    assert _read(tmp_path, "poems") == "named"


def test_nothing_is_found_where_there_is_nothing(tmp_path):
    _put(tmp_path, "poems/picture.png", "")
    _put(tmp_path, "a/b/c.txt", "too deep")
    _put(tmp_path, "outside.txt", "not in the folder")
    (tmp_path / "data").mkdir()
    for name in ("poems", "c", "other", "", ".", "..", "x" * 300, "x\0y"):  # some cannot be names of files
        assert data_folder.find(tmp_path, name) == ()
    assert data_folder.find(tmp_path / "data", "../outside") == ()


def test_several_files_of_one_kind_are_refused(tmp_path):
    _put(tmp_path, "poems/one.txt", "1")
    _put(tmp_path, "poems/two.txt", "2")
    with pytest.raises(ValueError, match=r"which file is poems: one.txt, two.txt\? Rename it to poems.txt"):
        data_folder.find(tmp_path, "poems")


def test_missing_idx_files_are_named(tmp_path):
    _put_idx(tmp_path / "drawn")
    (tmp_path / "drawn" / IDX_NAMES[1]).unlink()
    with pytest.raises(ValueError, match=r"drawn has some of the four idx files but not train-labels-idx1-ubyte \(or"):
        data_folder.find(tmp_path, "drawn")


def test_pictures_of_two_shapes_are_refused(tmp_path):
    _put_idx(tmp_path / "drawn")
    _put(tmp_path / "drawn", IDX_NAMES[2], _idx(np.zeros((2, 3, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"has pictures of \(3, 2\) and .*t10k-images-idx3-ubyte of \(3, 3\)"):
        _read(tmp_path, "drawn")
