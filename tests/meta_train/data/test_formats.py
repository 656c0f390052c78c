"""The readers of files: right arrays from files written here, and for damaged ones a ValueError that names the file."""

import gzip
import re
import struct

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from meta_train.data import formats

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
FUZZ = settings(max_examples=150, deadline=None, database=None)


def idx(array):
    """The bytes of an idx file."""
    kind = array.dtype.str[1:]
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[kind], array.ndim, *array.shape)
    return header + array.astype(f">{kind}").tobytes()


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes bytes or text to a file of that name, over what is there, and returns its path."""
    folder = tmp_path_factory.mktemp("files")

    def write_one(name, content):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_one


def refuses(path, reader, message):
    """The reader must raise a ValueError that starts with the path and says that."""
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{message}"):
        reader(path)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_gives_back_what_was_written(write, kind, packed):
    for shape in ((5,), (2, 3), (2, 3, 4), (1, 2, 3, 2)):
        array = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
        path = write("a.gz" if packed else "a", gzip.compress(idx(array)) if packed else idx(array))
        result = formats.read_idx(path)
        assert result.dtype == np.dtype(kind) and result.dtype.isnative
        np.testing.assert_array_equal(result, array)


@FUZZ
@given(
    head=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x08\x02\0\0\0\1", b"\0\0\x0d\x01\0\0\0\1"]),
    tail=st.binary(max_size=12),
)
def test_any_bytes_are_an_idx_file_or_a_clear_error(write, head, tail):
    path = write("fuzz-idx", head + tail)
    try:
        array = formats.read_idx(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert idx(array) == head + tail  # and no other array would be written so


@pytest.mark.parametrize("packed", [False, True])
def test_idx_cut_short_anywhere_is_refused(write, packed):
    content = idx(np.arange(6, dtype="u1").reshape(1, 2, 3))
    content = gzip.compress(content) if packed else content
    for length in range(len(content)):
        refuses(write("short.gz" if packed else "short", content[:length]), formats.read_idx, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with 4 bytes, this one has 0"),
        (b"\x89PNG\r\n", "two zero bytes, got 8950"),
        (b"\0\0\x0a\x01\0\0\0\1\0", "one of 0x08, .*, got 0x0a"),
        (b"\0\0\x08\x00\0", "1 to 4 dimensions, got 0"),
        (b"\0\0\x08\x05" + b"\0\0\0\1" * 5 + b"\0", "1 to 4 dimensions, got 5"),
        (b"\0\0\x08\x02\0\0\0\1", "header for 2 dimensions has 12 bytes, the file 8"),
        (idx(np.ones(3, "i2"))[:-1], r"\(3,\) numbers of 2 bytes, .* 6 bytes; 5 follow"),
        (idx(np.ones(3, "u1")) + b"\0", "3 bytes; 4 follow"),
        (b"\0\0\x08\x02\0\0\0\0\xff\xff\xff\xff", "at least one, which makes 0 bytes; 0 follow"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff\0", "18446744065119617025 bytes; 1 follow"),
    ],
)
def test_idx_errors_say_what_is_wrong(write, content, message):
    refuses(write("wrong-idx", content), formats.read_idx, message)


def test_damaged_gzip_is_refused(write):
    whole = gzip.compress(idx(np.arange(200, dtype="u1")))
    flipped = bytearray(whole)
    flipped[30] ^= 0xFF
    for content in (b"not gzip", whole + b"rest", bytes(flipped)):
        refuses(write("damaged.gz", content), formats.read_idx, "cut short or damaged")


def test_pictures_and_labels_must_fit(write):
    pictures, labels = np.zeros((3, 2, 2), "u1"), np.zeros(3, "u1")
    for x, y, message in (
        (pictures, labels[:2], "has 3 pictures and .* has 2 labels"),
        (pictures[0], labels, r"expected pictures uint8\[num, height, width\], got uint8\[2, 2\]"),
        (pictures.astype("f4"), labels, r"got float32\[3, 2, 2\]"),
    ):
        paths = write("images", idx(x)), write("labels", idx(y))
        refuses(paths[0], lambda _, paths=paths: formats.read_idx_pair(*paths), message)
    for y in (labels[:, None], labels.astype("i4")):
        paths = write("images", idx(pictures)), write("labels", idx(y))
        refuses(paths[1], lambda _, paths=paths: formats.read_idx_pair(*paths), r"expected labels uint8\[num\]")
    x, y = formats.read_idx_pair(write("images", idx(pictures + 1)), write("labels", idx(labels)))
    np.testing.assert_array_equal(x, pictures + 1)
    np.testing.assert_array_equal(y, labels)


def save(write, **arrays):
    """Writes an npz file of one name."""
    path = write("arrays.npz", b"")
    np.savez(path, **arrays)
    return path


PARTS = (np.arange(12.0).reshape(3, 4), np.array([0, 1, 0]), np.arange(8.0).reshape(2, 4), np.array([1, 1]))


@pytest.mark.parametrize(
    "keys", [("train_x", "train_y", "test_x", "test_y"), ("x_train", "y_train", "x_test", "y_test")]
)
def test_npz_with_both_parts(write, keys):
    for arrays in (PARTS, (PARTS[0], PARTS[1][:, None], PARTS[2], PARTS[3][:, None])):  # labels as in Keras' CIFAR-10
        parts = formats.read_npz(save(write, **dict(zip(keys, arrays, strict=True)), classes=np.array(["a", "b"])))
        for result, expected in zip(parts, PARTS, strict=True):
            np.testing.assert_array_equal(result, expected)


def test_npz_with_one_part_is_split(write):
    x = np.random.default_rng(0).integers(0, 256, (10, 2, 2)).astype("u1")
    parts = formats.read_npz(save(write, x=x, y=np.arange(10)))
    assert (len(parts.train_x), len(parts.test_x)) == (8, 2)
    np.testing.assert_array_equal(parts.train_x, x[parts.train_y])
    np.testing.assert_array_equal(parts.test_x, x[parts.test_y])
    assert sorted([*parts.train_y, *parts.test_y]) == list(range(10))


def test_npz_errors_say_what_is_wrong(write):
    x, y = PARTS[:2]
    for arrays, message in (
        ({"x": x}, "expected the keys train_x, train_y, test_x, test_y or x_train.* or x, y, got x"),
        ({"train_x": x, "train_y": y, "test_x": x}, "expected the keys .*, got train_x, train_y, test_x"),
        ({"x": x, "y": y[:2]}, r"got float64\[3, 4\] and int64\[2\]"),
        ({"x": x[:, 0], "y": y}, r"got float64\[3\] and int64\[3\]"),
        ({"x": x, "y": np.stack([y, y], 1)}, r"got float64\[3, 4\] and int64\[3, 2\]"),
        ({"x": x, "y": np.array(["a", "b", "c"])}, "expected numbers, got float64 and <U1"),
        ({"x": x, "y": np.array([{}, {}, {}])}, "without pickle"),
        ({"train_x": x, "train_y": y, "test_x": x[:, :2], "test_y": y}, r"float64\[3, 4\] and float64\[3, 2\]"),
    ):
        refuses(save(write, **arrays), formats.read_npz, message)
    array = write("array.npz", b"")
    with array.open("wb") as file:
        np.save(file, x)  # an array without an archive
    refuses(array, formats.read_npz, "not a NumPy archive")


def test_numbers_that_are_not_finite_are_named(write):
    x, y = np.arange(12.0).reshape(3, 4), np.array([0.5, np.inf, 1.5])
    refuses(save(write, x=x, y=y), formats.read_npz, r"got NaN or infinity: y\[1\] is inf")
    x[2, 1] = np.nan
    refuses(save(write, x=x, y=y), formats.read_npz, r"expected finite numbers, .*: x\[2, 1\] is nan")


def test_npz_cut_short_or_changed_anywhere_is_refused_or_read(write):
    """No other error comes out of a damaged archive; a byte that is not checked may change."""
    content = save(write, x=PARTS[0], y=PARTS[1]).read_bytes()
    for length in range(0, len(content), 3):
        refuses(write("short.npz", content[:length]), formats.read_npz, "not a NumPy archive")
    refused = 0
    for position in range(0, len(content), 2):
        changed = bytearray(content)
        changed[position] ^= 0x55
        path = write("changed.npz", bytes(changed))
        try:
            formats.read_npz(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
            refused += 1
    assert refused > len(content) // 4


def test_text(write):
    for mark in ("", "\ufeff"):  # as editors on Windows write it
        assert formats.read_text(write("a.txt", f"{mark}Ä\r\nb")) == "Ä\r\nb"
    refuses(write("b.txt", b"\xff\xfe"), formats.read_text, "expected UTF-8 text")
    refuses(write("c.txt", ""), formats.read_text, "the file is empty")
