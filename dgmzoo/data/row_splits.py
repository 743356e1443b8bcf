"""`split_rows` assigns the rows of a set to splits; `select_rows` gathers the rows of a split."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from dgmzoo.data import host_random
from dgmzoo.data.config import Data
from dgmzoo.data.entry import Entry
from dgmzoo.data.lazy_rows import ConcatenatedRows, LazyRows

LAZY_ABOVE_BYTES = 1 << 30
"""Bytes above which a random split stays on disk and its rows are gathered on access."""


def split_rows(config: Data, entry: Entry) -> dict[str, np.ndarray]:
    """Assign the rows of a set to splits; splits that are not published are chosen by the seed.

    Returns:
      split -> [N] row numbers in the whole set, ascending.

    Raises:
      ValueError: a fold of a set without folds, or more validation rows than there are training rows.

    >>> from dgmzoo.data import find
    >>> rows = split_rows(Data(num_validation=100), find("digits"))
    >>> {split: len(numbers) for split, numbers in rows.items()}
    {'train': 1337, 'valid': 100, 'test': 360}
    """
    if config.fold and not entry.folds:
        raise ValueError(f"expected data.fold 0 for {entry.name}, which has one split, got {config.fold}")
    starts = np.cumsum([0, *entry.splits.values()])
    published = {
        name: np.arange(*bounds) for name, bounds in zip(entry.splits, itertools.pairwise(starts), strict=True)
    }
    test, num_valid = {}, config.num_validation
    if "all" in published:
        rest = host_random.order(config.seed, 0, int(starts[-1]), "split").astype(np.int64)
        if entry.folds:
            low, high = (len(rest) * fold // entry.folds for fold in (config.fold, config.fold + 1))
        else:
            low, high = 0, entry.random_splits["test"]
        test["test"], rest = np.sort(rest[low:high]), np.concatenate([rest[:low], rest[high:]])
        num_valid = entry.random_splits["valid"] if num_valid is None else num_valid
    else:
        if "test" in published:
            test["test"] = published["test"]
        if num_valid is None:
            return {name: published[name] for name in ("train", "valid", "test") if name in published}
        rest = np.concatenate([published["train"], published.get("valid", starts[:0])])
        rest = rest[host_random.order(config.seed, 0, len(rest), "split")]
    if num_valid >= len(rest):
        raise ValueError(
            f"expected data.num_validation below the {len(rest)} training rows of {entry.name}, got {num_valid}"
        )
    valid = {"valid": np.sort(rest[:num_valid])} if num_valid else {}
    return {"train": np.sort(rest[num_valid:]), **valid, **test}


def select_rows(arrays: Mapping[str, Any], entry: Entry, row_numbers: np.ndarray, field: str) -> Any:
    """The rows `row_numbers` (ascending) of one field, None if all lack it; a whole published split is not copied.

    Raises:
      ValueError: the rows come from two published splits, of which one lacks the field.
    """
    start, parts, indices_in_part, without = 0, [], [], []
    for name, count in entry.splits.items():
        low, high = np.searchsorted(row_numbers, (start, start + count))
        if high > low:
            if f"{name}/{field}" in arrays:
                parts.append(arrays[f"{name}/{field}"])
                indices_in_part.append(row_numbers[low:high] - start)
            else:
                without.append(name)
        start += count
    if not parts:
        return None
    if without:
        raise ValueError(
            f"expected the field {field} in all rows that data.num_validation joins, got none in {', '.join(without)} of "
            f"{entry.name}; add it there, or leave data.num_validation out"
        )
    if len(parts) == 1:
        (part,), (indices,) = parts, indices_in_part
        if len(indices) == len(part):
            return part
        return LazyRows(part, indices) if part.nbytes > LAZY_ABOVE_BYTES else part[indices]
    if sum(part.nbytes for part in parts) > LAZY_ABOVE_BYTES:
        offsets = np.cumsum([0, *map(len, parts)])
        indices = [indices + offset for indices, offset in zip(indices_in_part, offsets, strict=False)]
        return LazyRows(ConcatenatedRows(parts), np.concatenate(indices))
    return np.concatenate([part[indices] for part, indices in zip(parts, indices_in_part, strict=True)])


def binarized_rows(x: Any, row_numbers: np.ndarray, maximum: int | None, seed: int) -> LazyRows:
    """Rows binarized as they are gathered: the sample of a row is a function of seed and row number alone."""

    def binarize(values: np.ndarray, index: Any) -> np.ndarray:
        flat = values.reshape(-1, *x.shape[1:])
        return host_random.binarize(flat, row_numbers[index].reshape(-1), maximum, seed).reshape(values.shape)

    return LazyRows(x, np.arange(len(x)), binarize)
