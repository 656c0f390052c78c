"""Flax's files, and what a hostile one can declare."""

import tracemalloc

import flax.serialization
import msgpack
import numpy as np
import pytest

from learned_optim.convert import flax_msgpack


def test_reads_what_flax_writes():
    tree = {
        "nested": {"~": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}},
        "pair": (np.ones((), np.int64), np.float32(3)),
        "gen_id": "text",
        "step": 7,
    }
    found = flax_msgpack.decode(flax.serialization.to_bytes(tree))
    assert (found["gen_id"], found["step"]) == ("text", 7)
    assert np.array_equal(found["nested"]["~"]["w"], tree["nested"]["~"]["w"])
    assert found["nested"]["~"]["w"].dtype == np.float32
    assert {name: array.dtype.name for name, array in found["pair"].items()} == {"0": "int64", "1": "float32"}


def test_arrays_belong_to_the_reader(made):
    (array,) = flax_msgpack.decode(made.packed({"w": np.ones(3, np.float32)})).values()
    array[0] = 2.0


def _array(*parts):
    return msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb(parts))})


# Each declares far more than it has, or nests for ever.
BOMBS = {
    "a map of 4e9 entries": b"\xdf\xff\xff\xff\xff",
    "a list of 4e9 entries": b"\x81\xa1w\xdd\xff\xff\xff\xff",
    "bytes": b"\x81\xa1w\xc6\xff\xff\xff\xff",
    "a text": b"\x81\xa1w\xdb\xff\xff\xff\xff",
    "a key": b"\x81\xdb\xff\xff\xff\xff",
    "an extension": b"\x81\xa1w\xc9\xff\xff\xff\xff\x01",
    "a shape": _array([1 << 40, 1 << 20], "float32", b"1234"),
    "a shape whose size overflows": _array([1 << 63, 1 << 63], "float32", b""),
    "a shape of size 0": _array([0, (1 << 64) - 1], "float32", b""),
    "a list in an array": msgpack.packb({"w": msgpack.ExtType(1, b"\xdd\xff\xff\xff\xff")}),
    "many dimensions": _array([1] * 33, "float32", b"1234"),
    "deep maps": b"\x81\xa1w" * 300 + b"\x01",
    "deeper maps": b"\x81\xa1w" * 3000 + b"\x01",
    "maps without end": b"\x81\xa1w" * 3000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_sizes_that_are_declared_take_no_memory(name):
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected"):
        flax_msgpack.flatten(flax_msgpack.decode(BOMBS[name]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_array([1], "object", b"12345678"), "an array of dtype 'object', where float32 is expected"),
        (_array([1], "bfloat16", b"12"), "an array of dtype 'bfloat16'"),
        (_array([1], ["float32"], b"1234"), "an array of dtype"),
        (_array([-1], "float32", b""), r"an array of shape \[-1\]"),
        (_array([True], "float32", b"1234"), r"an array of shape \[True\]"),
        (_array([2], "float32", b"1234"), "with another number of bytes"),
        (_array([1], "float32", "1234"), "with another number of bytes"),
        (_array([1], "float32"), "not shape, dtype and bytes"),
        (msgpack.packb({"w": msgpack.ExtType(2, b"")}), "an extension of type 2, where flax has arrays"),
        (msgpack.packb({"w": b"bytes"}), "max_bin_len"),
        (msgpack.packb({"w": [1.0]}), "max_array_len"),
        (msgpack.packb({str(i): 1.0 for i in range(4097)}), "max_map_len"),
        (b"\x82\xa1w\x01\xa1w\x02", "a key twice"),
        (msgpack.packb({1: 2}), "expected the msgpack of a dict"),
        (msgpack.packb([1]), "begins with"),
        (b"\x81\xa1w\xc1", "FormatError"),
        (b"\x81\xa1\xff\x01", "utf-8"),
    ],
)
def test_what_flax_does_not_write_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        flax_msgpack.decode(content)


def test_two_arrays_of_one_path_are_refused():
    array = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="two arrays are called 'a/b'"):
        flax_msgpack.flatten({"a": {"b": array}, "a/b": array})


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "film"
    with path.open("wb") as file:
        file.truncate(flax_msgpack.MAX_BYTES + 1)  # a file with a hole, which takes no room
    with pytest.raises(ValueError, match="the file has 1,073,741,825 bytes, expected at most 1,073,741,824"):
        flax_msgpack.read(path)
