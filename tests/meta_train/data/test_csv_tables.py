"""Tables of comma-separated values: right arrays, headers, labels, and errors that name file, line and column."""

import gzip
import re

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from meta_train.data import csv_tables

FUZZ = settings(max_examples=150, deadline=None, database=None)


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes bytes or text to a file of that name, over what is there, and returns its path."""
    folder = tmp_path_factory.mktemp("tables")

    def write_one(name, content):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write_one


def refuses(path, message):
    """The reader must raise a ValueError that starts with the path and says that."""
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{message}"):
        csv_tables.read_csv(path)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@FUZZ
@given(st.integers(2, 4).flatmap(lambda width: st.lists(st.tuples(*[FINITE] * width), min_size=1, max_size=5)))
def test_csv_gives_back_what_was_written(write, rows):
    x, y = csv_tables.read_csv(write("table.csv", "".join(f"{', '.join(map(repr, row))}\r\n" for row in rows)))
    np.testing.assert_array_equal(x, np.array(rows)[:, :-1])
    np.testing.assert_array_equal(y, np.array(rows)[:, -1])


@FUZZ
@given(st.one_of(st.text("0123456789.,,,-e_an \n\n", max_size=30).map(str.encode), st.binary(max_size=20)))
def test_any_bytes_are_a_table_or_a_clear_error(write, content):
    path = write("fuzz.csv", content)
    try:
        x, y = csv_tables.read_csv(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        lines = [line.split(",") for line in content.decode().splitlines() if line.strip()]
        assert x.ndim == 2 and len(x) == len(y) and len(lines) - len(x) in (0, 1)
        np.testing.assert_array_equal(x, [[float(cell) for cell in line[:-1]] for line in lines[-len(x) :]])


def test_csv_with_and_without_a_header_and_packed(write):
    rows = "\n1.5,2,0.5\n\n3,4,0.25\n"
    expected = [[1.5, 2], [3, 4]], [0.5, 0.25]
    for path in (
        write("plain.csv", rows),
        write("header.csv", "\ufeffwidth,height,price" + rows),
        write("quoted.csv", '"width, in mm",height,price' + rows),
        write("packed.csv.gz", gzip.compress(rows.encode())),
    ):
        for result, wanted in zip(csv_tables.read_csv(path), expected, strict=True):
            assert result.dtype == np.float64
            np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_and_blank_lines_of_any_kind(write, ending):
    lines = ("\ufeffwidth,price", "1.5,0.5", " ", "", "2.5,0.25", "\t", "")
    x, y = csv_tables.read_csv(write("lines.csv", ending.join(lines)))
    np.testing.assert_array_equal(x, [[1.5], [2.5]])
    np.testing.assert_array_equal(y, [0.5, 0.25])


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("0,1,2", "0.5,1.5,2.5\n3.5,4.5,5.5\n"),
        ("0,1,2", "1,2,0\n3,4,1\n5,6,0\n"),  # integers
        ("0,1,2", "1,2,cat\n3,4,dog\n5,6,cat\n"),
        ("0,1", "0.5,1.5\n0.25,2.5\n"),
        ("0,1", "0.5,cat\n0.25,cat\n"),
        (",".join(map(str, range(12))), ",".join(["7"] * 12) + "\n"),
    ],
)
def test_column_numbers_are_a_header(write, header, rows):
    """As `to_csv(index=False)` of pandas writes it for columns without names."""
    expected = csv_tables.read_csv(write("plain.csv", rows))
    for result, wanted in zip(csv_tables.read_csv(write("pandas.csv", f"{header}\n{rows}")), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize(
    "first",
    [
        "0,1,3",
        "1,2,3",
        "0,2,1",
        "0.0,1.0,2.0",
        "0,1,2.0",
        "0,1,+2",
        "0,1",  # below it are integers
    ],
)
def test_other_numbers_are_a_row(write, first):
    cells = first.split(",")
    x, y = csv_tables.read_csv(write("rows.csv", f"{first}\n{','.join(['1.5'] * (len(cells) - 1))},5\n"))
    np.testing.assert_array_equal([*x[0], y[0]], [float(cell) for cell in cells])
    assert len(x) == 2


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (["setosa", "virginica", "setosa"], ["setosa", "virginica", "setosa"]),
        (["New  York", " New York ", "Rome"], ["New York", "New York", "Rome"]),  # spaces tell no classes apart
        (["7", "-3", "10", "7"], [7, -3, 10, 7]),
        (["+1", "-1", "-1", "+1"], [1, -1, -1, 1]),
        (["1", "+1", "01", "2"], [1, 1, 1, 2]),
        ([str(n) for n in range(20)] * 2, list(range(20)) * 2),
        ([str(n) for n in range(21)] * 2, [float(n) for n in range(21)] * 2),  # too many to be classes
        (["3", "5", "7"], [3.0, 5.0, 7.0]),  # as many as rows
        (["7", "3.0", "7"], [7.0, 3.0, 7.0]),
        (["1" * 19, "2"], [1111111111111111111.0, 2.0]),
    ],
)
def test_the_target_is_labels_or_numbers(write, target, expected):
    x, y = csv_tables.read_csv(write("target.csv", "".join(f"1.5,{cell}\n" for cell in target)))
    assert x.shape == (len(target), 1)
    assert y.dtype.kind == {str: "U", int: "i", float: "f"}[type(expected[0])]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("a,b\n", "there is a header and no row"),
        ("1\n2\n", "at least two columns, the last one the target, got 1"),
        ("1,2,3\n4,5\n", "line 2 has 2 columns and line 1 has 3"),
        ("1,2\n\n3,4,5\n", "line 3 has 3 columns"),
        ("a,b,c\n1,2,3\n4,five,6\n", "line 3, column 2: expected a finite number, got 'five'"),
        ("1,2,3\n4,,6\n", "line 2, column 2: .*, got ''"),
        ("1,2,3\nnan,5,6\n", "line 2, column 1: .*, got 'nan'"),
        ("1,2,3\n4,1e999,6\n", "line 2, column 2: .*, got '1e999'"),
        ("1,2,3\n4,1_0,6\n", "line 2, column 2: .*, got '1_0'"),
        ("1,2.5\n3,rest\n", "line 2, column 2: .*, got 'rest'"),
        ("1,\n2,\n", "line 1, column 2: .*, got ''"),
        ('1,"2\n', "line 1 is not comma-separated values"),
        (b"1,\xff\n", "expected UTF-8 text"),
        ("1;2\n3;4\n", "at least two columns, .*, got 1. Commas separate them"),
        ("1,2,cat\n3,4,\n5,6,dog\n", "line 2, column 3: expected a class label, as in the other lines, got ''"),
        ("a,kind\n\n1,cat\n2,dog\n3, \n", "line 5, column 2: expected a class label"),
        ("1,2\n3,4\n,\n", "line 3, column 1: .*, got ''"),
    ],
)
def test_csv_errors_say_what_is_wrong(write, content, message):
    refuses(write("wrong.csv", content), message)


def test_mask(write):
    for content in ("1,0\n0,1\n0,0\n", "0,1,2\n1,0,0\n0,1,1\n0,0,0\n", "\ufeff1\r\n0\r\n0\r\n\r\n"):
        np.testing.assert_array_equal(csv_tables.read_mask(write("mask.csv", content)), [True, False, False])
    np.testing.assert_array_equal(csv_tables.read_mask(write("mask.csv", "0,1\n1,0\n")), [False, True])
    for content, message in (
        ("1,0\n2,0\n", "expected zeros and ones, got 2.0"),
        ("fold\n1\n", "line 1, column 1: .*, got 'fold'"),
        ("0,1,2\n", "there is a header and no row"),
    ):
        path = write("mask.csv", content)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{message}"):
            csv_tables.read_mask(path)
