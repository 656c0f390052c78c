"""Files that are no weights are named."""

import pickle

import pytest

from learned_optim.convert import signatures


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "an empty file: download it again, as a binary file"),
        (pickle.dumps({}), "a pickle. Pickles can run any code"),
        (b"PK\x03\x04 rest", "a zip archive"),
        (b"<html>", "a web page: download the raw file"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of git-lfs, not the file itself: fetch it"),
    ],
)
def test_a_known_format_is_named(data, what):
    with pytest.raises(ValueError, match=f"^expected weights, got {what}"):
        signatures.check(data, "expected weights")


@pytest.mark.parametrize("data", [b"\x81\xa1w\x01", b"\x02" + bytes(7) + b"{}", b"text"])
def test_other_bytes_are_left_to_the_readers(data):
    signatures.check(data, "expected weights")
