"""`load_dataset`: load, verify and split a data set; `Dataset`: the splits and the function that encodes their rows."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgmzoo.data import host_random, lookup, registry, user_data
from dgmzoo.data.config import Data
from dgmzoo.data.entry import Entry
from dgmzoo.data.lazy_rows import ConcatenatedRows, LazyRows
from dgmzoo.data.observe import Observe, above_half, broadcast_mask
from dgmzoo.data.readers.text import END, decode_vocabulary
from dgmzoo.data.sets import toys

FIELDS = ("x", "label", "context", "mask")
"""Fields of a row: the value that is modelled, its class, further input of a conditional model, observed elements."""
LAZY_ABOVE_BYTES = 1 << 30
"""Bytes above which a random split stays on disk and its rows are gathered on access."""

_INIT_ROWS, _INIT_BYTES = 1000, 2**26


@dataclass(frozen=True, eq=False)
class Dataset:
    """A loaded data set: named splits of rows, the shape of a row, and the function that encodes rows as a batch.

    >>> dataset = load_dataset(Data("toy_moons"))
    >>> dataset.shape, dataset.encoding, dataset.splits["valid"]["x"].dtype
    ((2,), None, dtype('float32'))
    """

    name: str
    sha256: str
    """Digest of the decoded content, before splitting."""
    splits: Mapping[str, Mapping[str, Any]]
    """split -> {"x": [N, *shape], "label": int32 [N], "context": [N, ...], "mask": bool [N, ...]}; arrays, mapped
    arrays or `LazyRows`."""
    shape: tuple[int, ...]
    """Shape of one example; images are [H, W, C]."""
    encoding: str | None
    """The resolved encoding: dynamic, static, threshold, gray, classes, or None where rows are used as they are."""
    observe: Observe
    """(key, rows) -> batch: pure, for use inside the training step."""
    row_numbers: Mapping[str, np.ndarray]
    """split -> [N] positions of the rows in the whole set, in its published order."""
    seed: int
    num_classes: int | None
    vocabulary: tuple[str, ...] | None
    """The words of a text set: word of each token or count."""
    entry: Entry

    @property
    def end(self) -> int | None:
        """The token that ends a sequence; None where the data have no words or no such token.

        >>> load_dataset(Data("toy_moons")).end is None
        True
        """
        is_text = self.entry.kind == "tokens" and END in (self.vocabulary or ())
        return self.vocabulary.index(END) if is_text else None

    @property
    def in_unit_interval(self) -> bool:
        """True if encoded x lies in [0, 1]: binary values, or intensities over their largest value."""
        is_scaled = self.encoding is not None or self.entry.kind == "images" or self.entry.maximum == 1
        return is_scaled and not self.observe.integer_valued

    def initial_rows(self) -> dict[str, np.ndarray]:
        """The training rows that initialize parameters, spread over the split: at most 1000, and at most 64 MB.

        >>> len(load_dataset(Data("toy_moons")).initial_rows()["x"])
        1000
        """
        rows = self.splits["train"]
        row_bytes, num = sum(leaf.nbytes // len(leaf) for leaf in rows.values()), len(rows["x"])
        index = np.linspace(0, num - 1, min(_INIT_ROWS, max(2, _INIT_BYTES // row_bytes), num)).astype(int)
        return {name: np.asarray(leaf[index]) for name, leaf in rows.items()}

    def evaluation_rows(self, split: str, num: int | None = None) -> dict[str, np.ndarray]:
        """`num` rows of a split, drawn without replacement, or all, as evaluation reads them: encoded once, on the host.

        The rows are the same in every run, whatever `data.seed` is, and those of a smaller `num` are among those of a
        larger one. None, or a number that is not below that of the rows, gives all rows in their order. The binarization
        of a dynamic set is a function of `data.seed` and the row alone, the same on every platform.

        Raises:
          ValueError: the set has no such split.

        >>> load_dataset(Data("toy_moons")).evaluation_rows("test", 3)["x"].shape
        (3, 2)
        """
        if split not in self.splits:
            raise ValueError(f"expected a split of {self.name}, one of {', '.join(self.splits)}, got {split!r}")
        size = len(self.splits[split]["x"])
        chosen = slice(None) if num is None or num >= size else host_random.subset(size, num)
        rows = {name: np.asarray(a[chosen]) for name, a in self.splits[split].items()}
        x, maximum = rows["x"], self.entry.maximum
        if self.encoding == "dynamic":
            x = host_random.binarize(x, self.row_numbers[split][chosen], maximum, self.seed)
        elif self.encoding == "threshold":
            x = above_half(x, maximum, np)
        elif self.encoding in (None, "gray") and maximum not in (None, 1):
            x = x.astype(np.float32) * np.float32(1 / maximum)
        rows["x"] = x.astype(np.int32 if self.observe.integer_valued else np.float32)
        if "mask" in rows:
            rows["mask"] = broadcast_mask(rows["mask"], x.shape, np)
        return rows


def load_dataset(config: Data, log: lookup.Log = lookup.silent_log, progress: lookup.Progress | None = None) -> Dataset:
    """Load the data set that a config names: read or fetched, verified, split, and its encoding resolved.

    Args:
      log: called with a message about each fetch: what, from where, how much.
      progress: called with (file, bytes so far, bytes in total or None) while a file is fetched.

    Raises:
      ValueError: content, values or protocol are refused.
      FileNotFoundError: no source has the set, or there is no such file.

    >>> from dgmzoo.data import from_arrays
    >>> dataset = load_dataset(from_arrays(np.tile([0.2, 0.9], (30, 1)), encoding="threshold"))
    >>> {split: len(rows["x"]) for split, rows in dataset.splits.items()}
    {'train': 24, 'valid': 3, 'test': 3}
    >>> dataset.evaluation_rows("test")["x"][0].tolist()
    [0.0, 1.0]
    """
    entry, arrays, sha256 = _read_content(config, log, progress)
    encoding = _resolve_encoding(config, entry)
    row_numbers = split_rows(config, entry)
    splits = {}
    for split, numbers in row_numbers.items():
        fields = {field: _select_rows(arrays, entry, numbers, field) for field in FIELDS}
        splits[split] = {field: a for field, a in fields.items() if a is not None}
    if entry.folds:
        train = np.asarray(splits["train"]["x"], np.float64)
        mean, scale = train.mean(0), train.std(0)
        for rows in splits.values():
            rows["x"] = ((rows["x"] - mean) / scale).astype(np.float32)
    if encoding == "static" and entry.encoding != "static":
        for split, rows in splits.items():
            static = _binarized_rows(rows["x"], row_numbers[split], entry.maximum, config.seed)
            rows["x"] = static if static.nbytes > LAZY_ABOVE_BYTES else np.asarray(static)
    return Dataset(
        name=entry.name,
        sha256=sha256,
        splits=splits,
        shape=tuple(splits["train"]["x"].shape[1:]),
        encoding=encoding,
        observe=Observe(encoding, entry.maximum, entry.kind),
        row_numbers=row_numbers,
        seed=config.seed,
        num_classes=entry.num_classes,
        vocabulary=decode_vocabulary(arrays["meta/words"]) if "meta/words" in arrays else None,
        entry=entry,
    )


def _binarized_rows(x: Any, row_numbers: np.ndarray, maximum: int | None, seed: int) -> LazyRows:
    """Rows binarized as they are gathered: the sample of a row is a function of seed and row number alone."""

    def binarize(values: np.ndarray, index: Any) -> np.ndarray:
        flat = values.reshape(-1, *x.shape[1:])
        return host_random.binarize(flat, row_numbers[index].reshape(-1), maximum, seed).reshape(values.shape)

    return LazyRows(x, np.arange(len(x)), binarize)


def _read_content(config: Data, log: lookup.Log, progress: lookup.Progress | None) -> tuple[Entry, lookup.Arrays, str]:
    """The entry, decoded arrays and digest of the data that a config names."""
    if config.arrays is not None:
        return user_data.validate_arrays(config.name, user_data.collect_arrays(config.arrays))
    if config.name in toys.TOYS:
        entry = registry.find(config.name)
        arrays = toys.sample_splits(entry, config.seed)
        return entry, arrays, lookup.digest(arrays)
    if config.name in registry.catalogue():
        return registry.find(config.name), *lookup.load_arrays(config.name, log, progress)
    path = Path(config.name).expanduser()
    if path.exists():
        return user_data.read_path(path)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"expected a file or folder of data, found nothing at {path}")
    return registry.find(config.name), {}, ""  # raises, with the nearest names


def _resolve_encoding(config: Data, entry: Entry) -> str | None:
    """The encoding that a config and an entry resolve to.

    Raises:
      ValueError: the encoding has no meaning for the set.
    """
    encoding = config.encoding or entry.encoding
    if encoding in (None, entry.encoding):
        return encoding
    if encoding == "classes":
        if entry.dtype != "uint8":
            raise ValueError(
                f"expected whole numbers from 0 to 255 (uint8) for data.encoding 'classes', got {entry.name} of "
                f"{entry.dtype}"
            )
        return encoding
    if entry.kind != "images":
        raise ValueError(
            f"expected data.encoding None for {entry.name}, whose values are not intensities in [0, 1], "
            f"got {encoding!r}; add --data.encoding None"
        )
    if entry.maximum == 1:
        raise ValueError(
            f"expected data.encoding None for {entry.name}, whose values are 0 or 1, got {encoding!r}; "
            "add --data.encoding None"
        )
    return encoding


def split_rows(config: Data, entry: Entry) -> dict[str, np.ndarray]:
    """Assign the rows of a set to splits; splits that are not published are chosen by the seed.

    Returns:
      split -> [N] row numbers in the whole set, ascending.

    Raises:
      ValueError: a fold of a set without folds, or more validation rows than there are training rows.

    >>> rows = split_rows(Data(num_validation=100), registry.find("digits"))
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


def _select_rows(arrays: lookup.Arrays, entry: Entry, row_numbers: np.ndarray, field: str) -> Any:
    """The rows `row_numbers` (ascending) of one field, None if some lack it; a whole published split is not copied."""
    start, parts, indices_in_part = 0, [], []
    for name, count in entry.splits.items():
        low, high = np.searchsorted(row_numbers, (start, start + count))
        if high > low:
            if f"{name}/{field}" not in arrays:
                return None
            parts.append(arrays[f"{name}/{field}"])
            indices_in_part.append(row_numbers[low:high] - start)
        start += count
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
