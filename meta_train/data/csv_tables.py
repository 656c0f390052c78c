"""Tables of comma-separated values in UTF-8, with or without a byte order mark; a name in `.gz` is unpacked.

A malformed file raises a ValueError that names the file, and the line and column, counted from 1.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
import re
from typing import TYPE_CHECKING

import numpy as np

from meta_train.data.formats import read_text

if TYPE_CHECKING:
    from jaxtyping import Bool
    from jaxtyping import Float64
    from jaxtyping import Shaped

_MAX_INTEGER_CLASSES = 20  # a target with more different integers than these is a quantity, not a label
_MIN_NUMBERED_COLUMNS = 3  # fewer, as in the line 0,1, could well be a row


def read_csv(path: Path) -> tuple[Float64[np.ndarray, "num columns"], Shaped[np.ndarray, " num"]]:
    """Reads a table, the target in its last column.

    The first line is a header if none of its cells but the last is a number, or if its cells are 0, 1, 2, …: pandas
    writes these for columns without names. The line `0,1` counts as a row, unless no cell below it is an integer.

    The target is class labels if its cells are text, or if they are integers written without a point, at most 20
    different ones and fewer than rows. Otherwise it is numbers to predict. All other cells must be finite numbers;
    blank lines are skipped.

    Returns:
      x, and y: labels as texts or int64, or numbers as float64.

    Raises:
      ValueError: if the file holds no rows, rows of different lengths, a single column, an empty label, or a cell that
        is no number.
    """
    lines, rows = _read_cells(path)
    if len(rows[0]) < 2:
        raise ValueError(
            f"{path}: expected at least two columns, the last one the target, got {len(rows[0])}. Commas separate them."
        )
    if _is_header(rows[0], rows[1:]):
        lines, rows = lines[1:], rows[1:]
    if not rows:
        raise ValueError(f"{path}: there is a header and no row of numbers.")
    x = _numbers(path, lines, [row[:-1] for row in rows])
    return x, _target(path, lines, [row[-1:] for row in rows], len(rows[0]))


def read_mask(path: Path) -> Bool[np.ndarray, " num"]:
    """Reads the first column of a table of zeros and ones. A first line 0, 1, 2, … of three cells or more is a header.

    Returns:
      True where there is a one.

    Raises:
      ValueError: if the file is damaged or holds anything else.
    """
    lines, rows = _read_cells(path)
    if len(rows[0]) >= _MIN_NUMBERED_COLUMNS and _counts(rows[0]):
        lines, rows = lines[1:], rows[1:]
    if not rows:
        raise ValueError(f"{path}: there is a header and no row.")
    mask = _numbers(path, lines, [row[:1] for row in rows])[:, 0]
    if not np.all((mask == 0) | (mask == 1)):
        raise ValueError(f"{path}: expected zeros and ones, got {mask[(mask != 0) & (mask != 1)][0]}.")
    return mask == 1


def _read_cells(path):
    """The numbers of the lines that are not blank, and their cells, as many in each."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        numbered = [(reader.line_num, row) for row in reader if len(row) > 1 or (row and row[0].strip())]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num} is not comma-separated values ({error}).") from error
    first, width = numbered[0][0], len(numbered[0][1])
    for line, row in numbered:
        if len(row) != width:
            raise ValueError(f"{path}: line {line} has {len(row)} columns and line {first} has {width}.")
    return [line for line, _ in numbered], [row for _, row in numbered]


def _is_header(first, below):
    """Whether the first line names the columns."""
    if all(math.isnan(_number(cell)) for cell in first[:-1]):
        return True
    if not _counts(first) or not below:
        return False
    return len(first) >= _MIN_NUMBERED_COLUMNS or not any(_is_integer(cell) for row in below for cell in row)


def _counts(row):
    """Whether the cells are 0, 1, 2, …"""
    return row == [str(column) for column in range(len(row))]


def _target(path, lines, cells, column):
    """The cells of the last column, [rows, 1] -> labels or numbers [rows]."""
    target = [" ".join(cell.split()) for (cell,) in cells]
    texts = [cell for cell in target if cell and math.isnan(_number(cell))]
    if texts and len(texts) == sum(map(bool, target)):
        if "" in target:
            raise ValueError(
                f"{path}: line {lines[target.index('')]}, column {column}: expected a class label, as in the other "
                "lines, got ''. Fill it in, or remove the line."
            )
        return np.array(target)
    if all(map(_is_integer, target)):
        integers = np.array([int(cell) for cell in target])
        if len(np.unique(integers)) < min(len(integers), _MAX_INTEGER_CLASSES + 1):
            return integers
    return _numbers(path, lines, cells, first_column=column)[:, 0]


def _numbers(path, lines, rows, first_column=1):
    """Cells as float64[rows, columns]."""
    values = np.array([[_number(cell) for cell in row] for row in rows])
    wrong = np.argwhere(np.isnan(values))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"{path}: line {lines[row]}, column {first_column + column}: expected a finite number, got "
            f"{rows[row][column]!r}."
        )
    return values


def _number(cell):
    """The finite number that the cell spells, or NaN."""
    try:
        number = float(cell)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) and "_" not in cell else math.nan


def _is_integer(cell):
    return re.fullmatch(r"[+-]?[0-9]{1,18}", cell.strip()) is not None
