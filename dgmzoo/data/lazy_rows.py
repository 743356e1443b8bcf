"""`LazyRows`: selected rows of an array, read when used; `ConcatenatedRows`: several arrays joined without a copy."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class LazyRows:
    """A selection of rows of an array, gathered, converted or transformed on access.

    `rows[index]` gathers `base[row_indices[index]]`, then applies `transform` if there is one, or else converts the
    values to `dtype`.

    >>> rows = LazyRows(np.arange(12).reshape(4, 3), np.array([3, 1]))
    >>> rows.shape, rows[0].tolist()
    ((2, 3), [9, 10, 11])
    """

    def __init__(
        self,
        base: Any,
        row_indices: np.ndarray,
        transform: Callable[..., np.ndarray] | None = None,
        dtype: Any = None,
    ):
        """Select rows.

        Args:
          base: an array [N, ...], mapped from disk perhaps, or a `ConcatenatedRows`.
          row_indices: [M] rows of `base`.
          transform: (values, index) -> values of the same shape.
          dtype: dtype of the values; None: uint8 with a transform, else that of `base`.
        """
        self.base, self.row_indices, self.transform = base, row_indices, transform
        self.dtype = np.dtype(dtype or (np.uint8 if transform else base.dtype))
        self.ndim, self.shape = base.ndim, (len(row_indices), *base.shape[1:])
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.row_indices)

    def __getitem__(self, index: Any) -> np.ndarray:
        values = self.base[self.row_indices[index]]
        return self.transform(values, index) if self.transform else values.astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class ConcatenatedRows:
    """Arrays of one dtype and row shape, indexed as if concatenated, without a copy; a base of `LazyRows`.

    >>> ConcatenatedRows([np.zeros((2, 3)), np.ones((2, 3))])[np.array([1, 2])][:, 0].tolist()
    [0.0, 1.0]
    """

    def __init__(self, parts: Sequence[Any]):
        self.parts, self.starts = parts, np.cumsum([0, *map(len, parts)])
        self.dtype, self.ndim = parts[0].dtype, parts[0].ndim
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])

    def __getitem__(self, row_indices: np.ndarray) -> np.ndarray:
        row_indices = np.asarray(row_indices)
        values = np.empty((*row_indices.shape, *self.shape[1:]), self.dtype)
        for part, start in zip(self.parts, self.starts, strict=False):
            in_part = (row_indices >= start) & (row_indices < start + len(part))
            values[in_part] = part[row_indices[in_part] - start]
        return values
