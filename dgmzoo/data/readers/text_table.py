"""`read_table`: a text table of numbers and the names of its columns, with missing cells, in any line ends."""

import contextlib
import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmzoo.data.readers import files

_MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "<na>", "null", "none", "?"})
"""Marks of a missing cell, in lower case, as spreadsheets, pandas, R and the UCI repository write them."""
_MAX_LINE = 1 << 20
"""Characters of the longest line."""


class _Layout(NamedTuple):
    """Separator of the cells (None: blanks), and names of the columns (empty: the first line is a row)."""

    separator: str | None
    names: list[str]


def read_table(
    path: Path, columns: int | None = None, limit: int = files.LIMIT, allow_missing: bool = False
) -> tuple[list[str], np.ndarray]:
    """Read a text table: column names (empty without a header line) and values float64 [rows, columns].

    The separator is a comma, semicolon, tab or blanks. The first line is a header if none of its cells is a number, or if
    its cells are quoted and those of the second line are not.

    Args:
      columns: number of columns to read, from the first on; None: all.
      limit: largest number of characters.
      allow_missing: read blank cells, `NA`, `?` and the like as NaN; otherwise they are refused.

    Raises:
      ValueError: cells that are not numbers, lines of different lengths, or a first line of which it cannot be told
        whether it is a header.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "t.csv"
    >>> _ = path.write_text("a,b\\n1,2\\n3,\\n")
    >>> read_table(path, allow_missing=True)
    (['a', 'b'], array([[ 1.,  2.],
           [ 3., nan]]))
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty table
            layout = _read_layout(path, columns, limit)
            try:
                values = _read_values(path, layout, columns, limit)
            except ValueError:
                if not allow_missing:
                    raise
                values = _read_values(
                    path, layout, columns, limit, _number_or_nan
                )  # slower: a Python call for each cell
    except (ValueError, UserWarning, csv.Error) as error:
        reason = _reason(error)
        raise ValueError(f"expected a table of numbers with one header line at most, got {path}: {reason}") from error
    return layout.names, values


def _reason(error: Exception) -> str:
    """The reason for which a table was refused, with advice."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8; save it in that encoding"
    if "contained no data" in text:
        return "it has no rows"
    if found := re.search(
        r"could not convert (?:string )?'(.*)' to (?:float64|a number)(?: at row (\d+), column (\d+))?", text
    ):
        cell, row, column = found.groups()
        where = f" (row {int(row) + 1}, column {column})" if row else ""
        if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", cell):
            return f"{cell!r}{where} has a decimal comma; write decimal points"
        return (
            f"{cell!r}{where} is not a number; remove the column, or number its values from 0: in a column named `label` where "
            "they are the class of the row"
        )
    return text


def _read_layout(path: Path, columns: int | None, limit: int) -> _Layout:
    """The separator and the names, from the first two lines that are not blank."""
    with contextlib.closing(_lines(path, limit)) as lines:
        first, second = [*itertools.islice(lines, 2), "", ""][:2]
    separator = _find_separator(first, second)
    cells = _cells(first, separator)
    if separator is None and len(cells) > 1 and len(second.split()) == 1 and not any(map(_is_number, cells)):
        return _Layout(None, [first.strip().strip('"')])  # one column, whose name has blanks
    if _is_quoted(first, separator) and second and '"' not in second:
        return _Layout(separator, cells)
    used = cells[:columns]
    if len(used) > 1 and used == [str(number) for number in range(len(used))]:
        raise ValueError(
            f"its first line is {', '.join(used[:3])}{', ...' if len(used) > 3 else ''}, which pandas writes for columns "
            f"without names: use header=False, or name them; if it is a row, write a line of names above it"
        )
    numbers = [_is_number(cell) for cell in used]
    if all(numbers):
        return _Layout(separator, [])
    if not any(numbers) and not all(cell.lower() in _MISSING for cell in used):
        return _Layout(separator, cells)
    if used[0] == "" and all(numbers[1:]) and used[1:] == [str(n) for n in range(len(used) - 1)]:
        raise ValueError(
            "its first line is '', 0, 1, ..., and pandas writes its index and numbers of columns so: use index=False, "
            "header=False"
        )
    other = numbers.index(False)
    raise ValueError(
        f"its first line has {numbers.count(True)} numbers and other cells ({used[other]!r} in column {other + 1}), so that "
        f"it is neither a row nor a line of names; write a line of names above the rows, and leave missing cells blank"
    )


def _read_values(path: Path, layout: _Layout, columns: int | None, limit: int, converter=None) -> np.ndarray:
    """The numbers [rows, columns] below the header."""
    with contextlib.closing(_lines(path, limit)) as lines:
        if layout.names:
            next(lines)
        values = np.loadtxt(
            lines,
            delimiter=layout.separator,
            usecols=range(columns) if columns else None,
            converters=converter,
            encoding="utf-8",
            comments=None,
            quotechar='"',
            ndmin=2,
        )
    if not layout.names and values.shape[1] == 1 and values[0, 0] == 0 and not (values == np.rint(values)).all():
        with contextlib.closing(_lines(path, limit)) as lines:
            if next(lines).strip().strip('"') == "0":
                raise ValueError(
                    "its first line is 0 above numbers that are not whole; pandas writes that for a column without a name: "
                    "use header=False, or name it; if it is a row, write 0.0"
                )
    return values


def _lines(path: Path, limit: int) -> Iterator[str]:
    """The lines of a text that are not blank, each below `_MAX_LINE` characters and all together at most `limit`.

    Lines end as on Unix, Windows or the old Mac.
    """
    total = 0
    with files.open_unpacked(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline=None) as text:
        while line := text.readline(_MAX_LINE):
            total += len(line)
            if len(line) == _MAX_LINE or total > limit:
                raise ValueError(f"expected lines below {_MAX_LINE} bytes and {limit} in total, got more")
            if line.strip(" \n"):  # tabs may separate missing cells
                yield line


def _find_separator(first: str, second: str) -> str | None:
    """The separator outside of quotes that divides both lines into equally many cells, else the first that occurs."""
    bare = _without_quoted(first)
    candidates = [separator for separator in ",;\t" if separator in bare]
    if not candidates and '"' not in second and not any(map(_is_number, first.split())):
        candidates = [separator for separator in ",;\t" if separator in second]  # the names are blank-separated or few
    fitting = (s for s in candidates if bare.count(s) == _without_quoted(second).count(s))
    return next(fitting, candidates[0] if candidates else None)


def _without_quoted(line: str) -> str:
    """The line with each quoted part replaced by `""`."""
    return re.sub(r'"[^"]*"', '""', line)


def _cells(line: str, separator: str | None) -> list[str]:
    cells = next(csv.reader([line], delimiter=separator), []) if separator else _blank_separated(line)
    return [cell.strip().strip('"') for cell in cells]


def _blank_separated(line: str) -> list[str]:
    """The cells of a line that is separated by blanks; quoted cells may hold blanks."""
    return re.findall(r'"[^"]*"|[^\s"]+', line)


def _is_quoted(line: str, separator: str | None) -> bool:
    """True if every cell of the line is quoted."""
    cells = [cell.strip() for cell in _without_quoted(line.strip("\n")).split(separator)]
    return bool(cells) and all(cell == '""' for cell in cells)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 2019_20 as a number


def _number_or_nan(text: str) -> float:
    """The number in a cell, NaN for a mark of a missing one."""
    text = text.strip().strip('"').strip()
    if text.lower() in _MISSING:
        return float("nan")
    if not _is_number(text):
        raise ValueError(f"could not convert {text!r} to a number")
    return float(text)
