"""Hints for names that do not exist."""

import pytest

from learned_optim import nearest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamm", "Did you mean 'adam'? "),
        ("ADAMW_COSINE", "Did you mean 'adamw-cosine'? "),
        ("adam 1e-3", "Did you mean 'adam-1e-3'? "),
        ("sophia", ""),
        ("", ""),
    ],
)
def test_hint(name, expected):
    assert nearest.hint(name, ["adam", "adam-1e-3", "adamw-cosine"]) == expected
