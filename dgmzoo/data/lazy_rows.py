"""Rows of arrays that stay where they are, so that a set may be larger than memory."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class LazyRows:
    """`rows[indices]` gathers rows `places` of `base`, then binarizes them if `draw` does, or converts to `dtype`."""

    def __init__(
        self,
        base: Any,
        places: np.ndarray,
        draw: Callable[..., np.ndarray] | None = None,
        dtype: Any = None,
    ):
        self.base, self.places, self.draw = base, places, draw
        self.dtype = np.dtype(np.uint8 if draw else dtype or base.dtype)
        self.ndim, self.shape = base.ndim, (len(places), *base.shape[1:])
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> np.ndarray:
        values = self.base[self.places[index]]
        return self.draw(values, index) if self.draw else values.astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class Joined:
    """Arrays of one kind end to end, as a base of `Rows`."""

    def __init__(self, parts: Sequence[Any]):
        self.parts, self.starts = parts, np.cumsum([0, *map(len, parts)])
        self.dtype, self.ndim = parts[0].dtype, parts[0].ndim
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        places = np.asarray(places)
        out = np.empty((*places.shape, *self.shape[1:]), self.dtype)
        for part, start in zip(self.parts, self.starts, strict=False):
            here = (places >= start) & (places < start + len(part))
            out[here] = part[places[here] - start]
        return out
