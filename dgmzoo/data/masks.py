"""Masks of observed elements: `complete_masks`, `without_hidden` for a user's arrays, `hide_at_random` for `data.missing`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dgmzoo.data import host_random
from dgmzoo.data.entry import Entry
from dgmzoo.data.lazy_rows import LazyRows

Arrays = dict[str, np.ndarray]


def spread_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask of the first axes of `shape`, broadcast over the remaining axes (read-only).

    >>> spread_mask(np.array([True, False]), (2, 3)).tolist()
    [[True, True, True], [False, False, False]]
    """
    return np.broadcast_to(mask.reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim)), shape)


def complete_masks(arrays: Arrays, rows: Arrays) -> Arrays:
    """Masks `split/mask` of one number of axes for all splits, if any split has one.

    Rows of two splits may be joined by `data.num_validation`: a mask that only one of them has would be lost.

    Args:
      arrays: `split/field` -> values; masks bool [N, ...] of the first axes of x.
      rows: split -> x.

    >>> arrays = {"train/mask": np.array([[True, False]])}
    >>> complete_masks(arrays, {"train": np.zeros((1, 2)), "test": np.zeros((1, 2))})["test/mask"].tolist()
    [[True, True]]
    """
    masks = {split: arrays[f"{split}/mask"] for split in rows if f"{split}/mask" in arrays}
    num_axes = max((mask.ndim for mask in masks.values()), default=0)
    return {
        f"{split}/mask": spread_mask(masks.get(split, np.ones(len(x), bool)), x.shape[:num_axes]).copy()
        for split, x in (rows.items() if masks else ())
    }


def without_hidden(x: np.ndarray, mask: np.ndarray | None, what: str) -> np.ndarray:
    """x with 0 where the mask is False, or with the observed value nearest to 0, so that x keeps its range.

    A hidden element may be NaN, or a number such as -999 that stands for a missing value.

    Args:
      x: values [N, ...].
      mask: True = observed, bool of the first axes of x; None: all.
      what: name of x for messages.

    Raises:
      ValueError: nothing is observed.

    >>> without_hidden(np.array([[np.nan, 3.0]]), np.array([[False, True]]), "x").tolist()
    [[3.0, 3.0]]
    """
    if mask is None or mask.all():
        return x
    observed = spread_mask(mask, x.shape)
    if not observed.any():
        raise ValueError(f"expected observed elements in {what}, got a mask that is False everywhere")
    values = x[observed]
    hidden = min(max(values.dtype.type(0), values.min()), values.max())
    return np.where(observed, x, hidden).astype(x.dtype)


def hide_at_random(
    rows: Mapping[str, Any], row_numbers: np.ndarray, share: float, seed: int, lazily: bool = False
) -> dict[str, Any]:
    """The rows of a split with elements of x hidden at random: False in the mask, which joins a mask they have, and 0 in x.

    Where 0 lies outside of the range of x, the value nearest to it stands in x, so that x stays in the support of a
    likelihood.

    Whether an element is hidden is a function of seed, row number and position alone (missing completely at random).

    Args:
      rows: field -> values [N, ...].
      row_numbers: [N] positions of the rows in the whole set.
      share: probability of an element to be hidden.
      lazily: hide as rows are read, for splits that stay on disk.

    >>> rows = hide_at_random({"x": np.eye(100)}, np.arange(100), 0.2, seed=0)
    >>> rows["mask"].shape, round(float(rows["mask"].mean()), 1)
    ((100, 100), 0.8)
    """
    x, mask = rows["x"], rows.get("mask")
    start = np.asarray(x[:1000])
    hidden = np.clip(start.dtype.type(0), start.min(), start.max())

    def observed(index: Any) -> np.ndarray:
        numbers = row_numbers[index].reshape(-1)
        kept = np.broadcast_to(np.float64(1 - share), (len(numbers), *x.shape[1:]))
        # The stream next to the one that binarizes the set, so that a pixel is not hidden because of its value.
        drawn = host_random.binarize(kept, numbers, None, seed, stream=1).astype(bool)
        drawn = drawn.reshape(*row_numbers[index].shape, *x.shape[1:])
        if mask is None:
            return drawn
        given = np.asarray(mask[index])
        return drawn & given.reshape(*given.shape, *(1,) * (drawn.ndim - given.ndim))

    def hide(values: np.ndarray, index: Any) -> np.ndarray:
        return np.where(observed(index), values, hidden).astype(values.dtype)

    every = np.arange(len(x))
    hidden_x = LazyRows(x, every, hide, x.dtype)
    hidden_mask = LazyRows(x, every, lambda values, index: observed(index), bool)
    if lazily:
        return {**rows, "x": hidden_x, "mask": hidden_mask}
    return {**rows, "x": np.asarray(hidden_x), "mask": np.asarray(hidden_mask)}


def check_missing(entry: Entry) -> None:
    """Refuse to hide elements of sets in which no value stands for a hidden one, or whose mask is the length."""
    if entry.kind in ("tokens", "sound"):
        raise ValueError(
            f"expected data.missing 0 for {entry.name}, whose mask tells where a sequence ends and whose values ({entry.kind}) "
            f"have none for a hidden element; add --data.missing 0"
        )
