"""Headers, missing cells, separators and line ends of text tables."""

import gzip

import numpy as np
import pytest

from dgmzoo.data import Data, load_dataset
from dgmzoo.data.readers.text_table import read_table

X = np.random.default_rng(0).normal(3, 2, (40, 3)).round(4)
ROWS = [",".join(map(str, row)) for row in X]


@pytest.fixture
def write(tmp_path):
    """Write lines to a table and return its path: `write(lines, end="\\n")`."""

    def write(lines, end="\n"):
        path = tmp_path / "t.csv"
        path.write_bytes(end.join(lines).encode())
        return path

    return write


@pytest.mark.parametrize(
    ("first", "cell"),
    [
        ("NA,0.1,0.2", "'NA' in column 1"),
        ("0.1,,0.2", "'' in column 2"),
        (",0.1,0.2", "'' in column 1"),
        ("0.1,0.2,?", r"'\?' in column 3"),
        ("1.5,2.5,setosa", "'setosa' in column 3"),
        ("NA,NA,NA", "'NA' in column 1"),
        ('"label","0","1"', "'label' in column 1"),
    ],
)
def test_f8_first_line_of_numbers_and_other_cells_is_refused(first, cell, write):
    if first.startswith('"'):  # quoted as a whole above quoted rows: no telling what it is
        path = write([first, *(row.replace(",", '","').join('""') for row in ROWS)])
    else:
        path = write([first, *ROWS])
    with pytest.raises(ValueError, match=f"numbers and other cells .{cell}.*write a line of names"):
        load_dataset(Data(str(path)))


def test_f9_quoted_first_line_above_unquoted_rows_is_a_header(write):
    for lines in (['"2019","2020","2021"', *ROWS], ["a,b,c", *ROWS], ['"0","1","2"', *ROWS]):
        names, values = read_table(write(lines))
        np.testing.assert_array_equal(values, X)
        assert names == [cell.strip('"') for cell in lines[0].split(",")]
    names, values = read_table(write([row.replace(",", '","').join('""') for row in ROWS]))
    assert names == [] and len(values) == len(X)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_f9_numbers_of_columns_by_pandas_are_refused(columns, write):
    lines = [",".join(map(str, range(columns))), *(",".join(map(str, row[:columns])) for row in X)]
    with pytest.raises(ValueError, match="header=False"):
        load_dataset(Data(str(write(lines))))
    index = ["," + lines[0], *(f"{number},{line}" for number, line in enumerate(lines[1:]))]
    with pytest.raises(ValueError, match="index=False"):
        load_dataset(Data(str(write(index))))


def test_f9_columns_that_start_with_zero_are_read(write):
    assert read_table(write(["0", "1", "2", "0"]))[1].tolist() == [[0], [1], [2], [0]]
    assert read_table(write(["0.0", "1.5", "2"]))[1].tolist() == [[0], [1.5], [2]]
    assert read_table(write(["0.0,1.0", "1.5,2", "3,4"]))[1].shape == (3, 2)


def test_f9_number_with_underscores_is_a_name(write):
    assert read_table(write(["2019_20,2020_21,2021_22", *ROWS]))[0] == ["2019_20", "2020_21", "2021_22"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("lines", [["a,b,c", *ROWS], ROWS, ["", *ROWS, "", ""]], ids=["header", "rows", "blank lines"])
def test_f32_lines_may_end_as_on_any_system(lines, end, write, tmp_path):
    path = write(lines, end)
    np.testing.assert_array_equal(read_table(path)[1], X)
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_table(packed)[1], X)


@pytest.mark.parametrize("mark", ["", " ", "NA", "NaN", "nan", "?", "null", "None", "N/A", "<NA>"])
def test_f47_missing_cells_become_a_mask(mark, write):
    missing = np.zeros(X.shape, bool)
    missing[[3, 7, 7, 39], [0, 1, 2, 2]] = True
    cells = [
        [mark if hidden else str(v) for v, hidden in zip(*pair, strict=True)] for pair in zip(X, missing, strict=True)
    ]
    data = load_dataset(Data(str(write(["a,b,c", *map(",".join, cells)])), standardize=False))
    for split, rows in data.splits.items():
        numbers = data.row_numbers[split]
        np.testing.assert_array_equal(rows["mask"], ~missing[numbers])
        expected = np.where(missing, 0, X).astype(np.float32)[numbers]
        np.testing.assert_array_equal(np.where(rows["mask"], rows["x"], 0), expected)


def test_f47_missing_cells_of_a_binary_table_leave_it_binary(write):
    data = load_dataset(Data(str(write(["a,b", "0,1", "1,", *["1,0", "0,1"] * 9]))))
    assert data.entry.maximum == 1 and np.concatenate([r["mask"] for r in data.splits.values()]).sum() == 39


def test_f47_missing_labels_and_columns_are_refused(write):
    with pytest.raises(ValueError, match=r"a label in every row .* row 1"):
        load_dataset(Data(str(write(["a,label", "0.5,1", "0.7,", "0.1,0"]))))
    with pytest.raises(ValueError, match=r"column 1 'b' of .* no value"):
        load_dataset(Data(str(write(["a,b", *(f"{row[0]}," for row in X)]))))


def test_missing_cells_of_registered_tables_are_refused(write):
    with pytest.raises(ValueError, match="table of numbers"):
        read_table(write(["a,b,c", *ROWS, "1,,2"]))


@pytest.mark.parametrize(
    ("first", "names"),
    [
        ("a;b, in cm;c", ["a", "b, in cm", "c"]),
        ('"a, in m";"b, in m";"c, in m"', ["a, in m", "b, in m", "c, in m"]),
        ("a;b;c", ["a", "b", "c"]),
    ],
)
def test_f9_separator_inside_names_is_no_separator(first, names, write):
    found, values = read_table(write([first, *(row.replace(",", ";") for row in ROWS)]))
    assert found == names
    np.testing.assert_array_equal(values, X)


@pytest.mark.parametrize(
    ("first", "columns", "message"),
    [
        ("sepal length sepal width", 2, "quote names that hold blanks"),
        ("a,b", 3, "row.names=FALSE"),
        ("a,,c", 3, "name column 2"),
        (",a,b", 3, "index=False"),
        ("a,label,label", 3, "named label"),
    ],
)
def test_f50_names_that_do_not_fit_are_explained(first, columns, message, write):
    separator = "," if "," in first else " "
    path = write([first, *(separator.join(map(str, row[:columns])) for row in X)])
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(Data(str(path)))
    assert ("pandas" in str(caught.value)) == (message == "index=False")


def test_f50_name_of_one_column_may_hold_blanks(write):
    names, values = read_table(write(["sepal length", *(str(row[0]) for row in X)]))
    assert names == ["sepal length"] and values.shape == (40, 1)
