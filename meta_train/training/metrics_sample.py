"""A look at the `metrics.jsonl` of a run that takes milliseconds, however long the run is.

A short file is read whole. Of a long one, the end is read, and blocks at evenly spaced places, for the curve.
"""

from collections.abc import Sequence
import itertools
import json
import math
import os
import pathlib
from typing import Any
from typing import BinaryIO
from typing import NamedTuple

_BLOCK = 8_192  # bytes at each place of a long file
_TAIL = 131_072  # bytes at the end of a long file


class Sample(NamedTuple):
    """What was seen of the metrics.

    Fields:
      last: the records of the last outer steps, in their order; empty if there are none yet.
      curve: the mean loss at each of the places, from the beginning to the end; NaN where no loss was finite.
      damage: what is wrong with the file, as far as it was read; None if nothing is. A last line that is being written
        is no damage.
    """

    last: list[dict[str, Any]]
    curve: list[float]
    damage: str | None


def sample(path: str | os.PathLike[str], places: int = 60) -> Sample:
    """Reads the end of a file of metrics, and its curve at some places.

    Args:
      path: the file, which may be written meanwhile.
      places: at most so many values of the curve.

    Raises:
      FileNotFoundError: if there is none.

    Example:
      >>> import tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
      >>> _ = path.write_text('{"step": 1, "loss": 3.0}\\n{"step": 2, "loss": 2.0}\\n{"step": 3, "lo')
      >>> sample(path).curve
      [3.0, 2.0]
    """
    with pathlib.Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size <= max(places * _BLOCK, _TAIL):
            return _whole(file, places)
        tail = _TAIL
        while not (last := _records(_lines(file, size - tail, tail)))[0] and tail < size:
            tail = min(2 * tail, size)  # a line that is longer than the block
        offsets = [i * (size - _BLOCK) // (places - 1) for i in range(places)] if places > 1 else [size - _BLOCK]
        blocks = [_records(_lines(file, offset, _BLOCK)) for offset in offsets]
    seen = [last, *blocks]
    damaged = [offset for (_, bad), offset in zip(seen, [size - tail, *offsets], strict=True) if bad is not None]
    steps = [record["step"] for records, _ in blocks for record in records[:1]]
    damage = f"it is damaged near byte {damaged[0]:,}: a line is no record of an outer step" if damaged else None
    if damage is None and steps != sorted(steps):
        damage = "its steps are not in order"
    return Sample(last[0], [_mean(records) for records, _ in blocks if records], damage)


def _whole(file, places):
    records, bad = _records(_lines(file, 0, -1))
    damage = None if bad is None else f"line {bad} is damaged: it is no record of an outer step"
    wrong = [number for number, record in enumerate(records, 1) if record["step"] != number]
    if wrong and (bad is None or wrong[0] < bad):
        damage = f"line {wrong[0]} must be that of step {wrong[0]}, and is that of step {records[wrong[0] - 1]['step']}"
    share = max(1.0, len(records) / places)
    cuts = [round(i * share) for i in range(min(places, len(records)) + 1)]
    curve = [_mean(records[low:high]) for low, high in itertools.pairwise(cuts) if high > low]
    return Sample(records, curve, damage)


def _lines(file: BinaryIO, offset: int, count: int) -> list[bytes]:
    """The complete lines of a part of the file: those that begin in it and whose end is in it."""
    file.seek(max(offset - 1, 0))
    text = file.read(count if count < 0 else count + 1)
    lines = text.split(b"\n")[:-1]  # the rest has no end yet
    return lines[1:] if offset > 0 else lines


def _records(lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], int | None]:
    """The records up to the first line that is none, and the number of that line."""
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record["step"], int) or not isinstance(record["loss"], int | float | None):
                return records, number
        except (KeyError, TypeError, ValueError, RecursionError):
            return records, number
        records.append(record)
    return records, None


def _mean(records):
    losses = [record["loss"] for record in records if record["loss"] is not None and math.isfinite(record["loss"])]
    return sum(losses) / len(losses) if losses else math.nan
