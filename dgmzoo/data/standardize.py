"""`Standardization`: (x - mean) / standard deviation of a table's columns, by its training rows, and the inverse."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dgmzoo.data.lazy_rows import LazyRows
from dgmzoo.data.masks import spread_mask

_CHUNK_ROWS = 1 << 16


class Standardization(NamedTuple):
    """The map x -> (x - mean) / scale of the columns of a table.

    A density of the standardised columns is one of the original columns: log p(x) = log p(standardised x) - sum log scale.

    >>> standardization = Standardization.of({"x": np.array([[1.0], [5.0]], np.float32)})
    >>> standardization.scale.tolist(), round(standardization.log_det(), 4)
    ([2.0], 0.6931)
    """

    mean: np.ndarray
    """Mean of each column over the observed training rows, float64 [D]."""
    scale: np.ndarray
    """Standard deviation of each column, float64 [D]; 1 for a constant column."""

    @classmethod
    def of(cls, rows: Mapping[str, Any]) -> "Standardization":
        """The standardization by training rows `x` [N, D]; elements with False in their `mask` do not count."""
        x, mask = rows["x"], rows.get("mask")
        starts = range(0, len(x), _CHUNK_ROWS)
        count, mean, square = np.zeros(x.shape[1]), np.zeros(x.shape[1]), np.zeros(x.shape[1])
        for start in starts:  # Chan's update of mean and sum of squares: exact also where the mean is large
            part = np.asarray(x[start : start + _CHUNK_ROWS], np.float64)
            observed = np.ones(part.shape, bool)
            if mask is not None:
                observed = spread_mask(np.asarray(mask[start : start + _CHUNK_ROWS]), part.shape)
            num = observed.sum(0)
            part_mean = np.where(observed, part, 0).sum(0) / np.maximum(num, 1)
            part_square = np.where(observed, (part - part_mean) ** 2, 0).sum(0)
            total = np.maximum(count + num, 1)
            square += part_square + (part_mean - mean) ** 2 * count * num / total
            mean += (part_mean - mean) * num / total
            count += num
        scale = np.sqrt(square / np.maximum(count, 1))
        return cls(mean, np.where(scale > 0, scale, 1.0))

    def apply(self, x: Any, lazily: bool = False, mask: Any = None) -> Any:
        """The standardised values, float32 [N, D].

        Args:
          lazily: compute them as rows are read, for splits that stay on disk.
          mask: True = observed; hidden elements become 0, the mean of their column. None: all are observed.
        """

        def transform(values: np.ndarray, index: Any) -> np.ndarray:
            standardized = ((values - self.mean) / self.scale).astype(np.float32)
            if mask is None:
                return standardized
            observed = spread_mask(np.asarray(mask[index], bool), standardized.shape)
            return np.where(observed, standardized, np.float32(0))

        if lazily:
            return LazyRows(x, np.arange(len(x)), transform, np.float32)
        return transform(np.asarray(x), slice(None))

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Standardised values, such as samples of a model, in the original units, float32 [..., D].

        >>> Standardization(np.array([3.0]), np.array([2.0])).invert(np.array([[-1.0]])).tolist()
        [[1.0]]
        """
        return (np.asarray(x, np.float64) * self.scale + self.mean).astype(np.float32)

    def log_det(self, mask: np.ndarray | None = None) -> Any:
        """Nats to add to the negative log-likelihood of an example: the sum of log scale over its observed columns.

        Args:
          mask: True = observed, [N, D]; None: all columns, and one number for all rows.

        Returns:
          A float without a mask, else float64 [N].
        """
        if mask is None:
            return float(np.log(self.scale).sum())
        return np.asarray(mask, bool) @ np.log(self.scale)
