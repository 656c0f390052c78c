"""Durations as text, at the borders of their units."""

import pytest

from meta_train.host import durations


@pytest.mark.parametrize(
    ("seconds", "clock", "ago"),
    [
        (-1.0, "0:00", "0 s ago"),
        (59.9, "0:59", "59 s ago"),
        (60.0, "1:00", "1 min ago"),
        (3_599.0, "59:59", "59 min ago"),
        (3_600.0, "1:00:00", "1 h ago"),
        (86_399.0, "23:59:59", "23 h ago"),
        (86_400.0, "1 d 0:00:00", "1 d ago"),
    ],
)
def test_units(seconds, clock, ago):
    assert (durations.clock(seconds), durations.ago(seconds)) == (clock, ago)
