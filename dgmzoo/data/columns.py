"""`check_float32`: refuse values that float32 merges or overflows; `few_valued_columns`: columns of repeated values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgmzoo.data.masks import spread_mask

_SAMPLED_ELEMENTS, _MAX_ROWS, _BLOCKS = 200_000, 100_000, 20
_MAX_ROUNDING = 1e-3
"""Largest error of rounding to float32, in standard deviations of a column, that loses nothing of use."""
_MAX_VALUES, _ROWS_PER_VALUE, _MAX_SHARE = 20, 10, 0.3
"""A column is discrete if it has at most so many values, each in so many rows on average; or one value in such a share."""


def column_name(columns: Sequence[str], number: int, shape: tuple[int, ...]) -> str:
    """Name of an element of x for messages: `column 2 'alcohol'`, counted from 0, or `element (3, 4, 0)` of an image.

    >>> column_name(("density", "alcohol"), 1, (2,)), column_name((), 5, (2, 3))
    ("column 1 'alcohol'", 'element (1, 2)')
    """
    if len(shape) != 1:
        return f"element {tuple(int(i) for i in np.unravel_index(number, shape))}"
    return f"column {number} {columns[number]!r}" if len(columns) == shape[0] else f"column {number}"


def sample_rows(x: Any) -> np.ndarray:
    """Rows [n, D] of x for a check: all of a small array, else blocks spread over it, so that neighbours are among them.

    >>> sample_rows(np.zeros((4, 2, 3))).shape
    (4, 6)
    """
    size = max(1, int(np.prod(x.shape[1:])))
    num = min(len(x), _MAX_ROWS, max(1000, _SAMPLED_ELEMENTS // size))
    if num == len(x):
        return np.asarray(x[:]).reshape(num, size)
    block = num // _BLOCKS
    starts = np.linspace(0, len(x) - block, _BLOCKS).astype(int)
    return np.concatenate([np.asarray(x[start : start + block]) for start in starts]).reshape(-1, size)


def check_float32(key: str, x: Any, name: str, columns: Sequence[str] = ()) -> None:
    """Refuse values that differ in their own dtype and are the same in float32, the dtype of training.

    Args:
      key: `split/field` of the values, for messages.
      x: values [N, ...] of any real dtype; a large array is checked by sampled rows.
      columns: names of the columns.

    Raises:
      ValueError: a value is too large for float32, or rounding moves a column by more than a thousandth of its standard
        deviation. Names the column.

    >>> check_float32("all/x", np.array([[1e9], [1e9 + 1]]), "mine")
    Traceback (most recent call last):
    ValueError: expected values of all/x of mine that differ in float32 too, got column 0 with 2 values of which 1 remains \
(1e+09 to 1e+09); subtract its mean, or rescale it
    """
    if x.dtype.kind not in "iuf" or x.dtype.itemsize <= 2 or x.dtype == np.float32:
        return
    shape = tuple(x.shape[1:])
    low, high = float(np.min(x)), float(np.max(x))
    if not np.isfinite((low, high)).all():
        return  # refused with its own message
    if float(np.finfo(np.float32).max) < max(-low, high) < np.inf:
        far = np.abs(np.asarray(x).reshape(len(x), -1)).max(0)
        raise ValueError(
            f"expected values of {key} of {name} within the range of float32, got {far.max():.4g} in "
            f"{column_name(columns, int(far.argmax()), shape)}; rescale it"
        )
    rows = sample_rows(x)
    rows = rows.astype(np.int64) if rows.dtype.kind in "iu" else rows.astype(np.float64)  # differences are exact
    single = rows.astype(np.float32).astype(rows.dtype)
    error, spread = np.abs(rows - single).max(0).astype(np.float64), (rows - rows[:1]).astype(np.float64).std(0)
    is_constant = (single == single[:1]).all(0) & (rows != rows[:1]).any(0)
    lost = (error > _MAX_ROUNDING * spread) & (spread > 0) | is_constant
    if lost.any():
        number = int(np.argmax(lost))
        column = rows[:, number]
        before, after = _count_distinct(rows), _count_distinct(single)
        remain = f"{after[number]} remain{'s' if after[number] == 1 else ''}"
        raise ValueError(
            f"expected values of {key} of {name} that differ in float32 too, got "
            f"{column_name(columns, number, shape)} with {before[number]} values of which {remain} "
            f"({column.min():.4g} to {column.max():.4g}); subtract its mean, or rescale it"
        )


def _count_distinct(rows: np.ndarray) -> np.ndarray:
    """Number of distinct values of each column of rows [n, D], int [D]."""
    ordered = np.sort(rows, axis=0)
    return 1 + (ordered[1:] != ordered[:-1]).sum(0)


def few_valued_columns(x: Any, mask: np.ndarray | None = None, columns: Sequence[str] = ()) -> list[str]:
    """Descriptions of the columns whose values repeat so that a continuous density on them has no largest likelihood.

    Such a column has one value, few values, or a value that a third of the rows share.

    Args:
      x: rows [N, ...].
      mask: True = observed, [N, ...] of the first axes of x; None: all.
      columns: names of the columns.

    >>> few_valued_columns(np.stack([np.ones(100), np.arange(100.0)], 1), columns=("unit", "time"))
    ["column 0 'unit' (1 value)"]
    """
    shape, rows = tuple(x.shape[1:]), sample_rows(x)
    observed = np.ones(rows.shape, bool) if mask is None else sample_rows(spread_mask(mask, x.shape))
    described = []
    for number in range(rows.shape[1]):
        values, counts = np.unique(rows[observed[:, number], number], return_counts=True)
        total = int(counts.sum())
        if len(values) == 0 or total < 2 * _ROWS_PER_VALUE:
            continue  # too few rows to tell
        if len(values) <= min(_MAX_VALUES, total // _ROWS_PER_VALUE):
            what = f"{len(values)} value{'s' if len(values) > 1 else ''}"
        elif counts.max() > _MAX_SHARE * total:
            what = f"{values[counts.argmax()]:.4g} in {counts.max() / total:.0%} of the rows"
        else:
            continue
        described.append(f"{column_name(columns, number, shape)} ({what})")
    return described
