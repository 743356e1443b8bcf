"""`load`: from a data config to a `Dataset` of verified rows, split, with the function that observes them."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgmzoo.data import host_random, lookup, registry, user_data
from dgmzoo.data.config import Data
from dgmzoo.data.entry import Entry
from dgmzoo.data.lazy_rows import Joined, LazyRows
from dgmzoo.data.observe import Observe, above_half, covering
from dgmzoo.data.readers.text import decode_words
from dgmzoo.data.sets import toys

FIELDS = ("x", "label", "context", "mask")
"""What a row may have: what is modelled, its class, what else a conditional model is given, what of it is observed."""
MAPPED = 1 << 30
"""Bytes above which a drawn split stays where it is and rows are gathered as they are asked for."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A set as loaded: named splits of rows, what a row is, and how it is observed."""

    name: str
    sha256: str
    """Digest of the decoded content, before splitting."""
    splits: Mapping[str, Mapping[str, Any]]
    """split -> {"x": [N, *shape], "label": int32 [N], "context": [N, ...], "mask": bool [N, ...]}; arrays, mapped arrays,
    `Rows`."""
    shape: tuple[int, ...]
    """Shape of one example; images are [H, W, C]."""
    encoding: str | None
    """As resolved: dynamic, static, threshold, gray, classes, or None where rows are taken as they are."""
    observe: Observe
    """(key, rows) -> batch: pure, for use inside the training step."""
    numbers: Mapping[str, np.ndarray]
    """split -> [N] the rows' places in the whole set, in its published order."""
    seed: int
    num_classes: int | None
    words: tuple[str, ...] | None
    """The vocabulary of a text: word of each token or count."""
    entry: Entry

    @property
    def in_unit_interval(self) -> bool:
        """Whether x is observed in [0, 1]: binary, or intensities over their largest."""
        scaled = self.encoding is not None or self.entry.kind == "images" or self.entry.maximum == 1
        return scaled and not self.observe.whole

    def fixed(self, split: str, num: int | None = None) -> dict[str, np.ndarray]:
        """The first `num` (all) rows of a split as evaluation reads them: observed once, on the host.

        A dynamic set is binarized by a draw that depends on `data.seed` and the row alone; every platform
        gives the same.
        """
        if split not in self.splits:
            raise ValueError(f"expected a split of {self.name}, one of {', '.join(self.splits)}, got {split!r}")
        rows = {name: np.asarray(a[:num]) for name, a in self.splits[split].items()}
        x, maximum = rows["x"], self.entry.maximum
        if self.encoding == "dynamic":
            x = host_random.binarize(x, self.numbers[split][:num], maximum, self.seed)
        elif self.encoding == "threshold":
            x = above_half(x, maximum, np)
        elif self.encoding in (None, "gray") and maximum not in (None, 1):
            x = x.astype(np.float32) * np.float32(1 / maximum)
        rows["x"] = x.astype(np.int32 if self.observe.whole else np.float32)
        if "mask" in rows:
            rows["mask"] = covering(rows["mask"], x.shape, np)
        return rows


def load(config: Data, log: lookup.Log = lookup.silent, progress: lookup.Progress | None = None) -> Dataset:
    """The data set that a config names: found (fetched, if need be), verified, split, binarized.

    Args:
      log: told what is fetched, from where and how much.
      progress: (file, bytes so far, bytes in all or None), while a file comes in.

    Raises:
      ValueError: content, values or protocol are not what they should be.
      FileNotFoundError: the set or file is nowhere to be found.
    """
    known, arrays, sha256 = _source(config, log, progress)
    encoding = _encoding(config, known)
    numbers = split(config, known)
    splits = {}
    for name, rows in numbers.items():
        fields = {field: _gather(arrays, known, rows, field) for field in FIELDS}
        splits[name] = {field: a for field, a in fields.items() if a is not None}
    if known.folds:
        train = np.asarray(splits["train"]["x"], np.float64)
        mean, scale = train.mean(0), train.std(0)
        for rows in splits.values():
            rows["x"] = ((rows["x"] - mean) / scale).astype(np.float32)
    if encoding == "static" and known.encoding != "static":
        for name, rows in splits.items():
            static = _static(rows["x"], numbers[name], known.maximum, config.seed)
            rows["x"] = static if static.nbytes > MAPPED else np.asarray(static)
    return Dataset(
        name=known.name,
        sha256=sha256,
        splits=splits,
        shape=tuple(splits["train"]["x"].shape[1:]),
        encoding=encoding,
        observe=Observe(encoding, known.maximum, known.kind),
        numbers=numbers,
        seed=config.seed,
        num_classes=known.num_classes,
        words=decode_words(arrays["meta/words"]) if "meta/words" in arrays else None,
        entry=known,
    )


def _static(x: Any, numbers: np.ndarray, maximum: int | None, seed: int) -> LazyRows:
    """Rows binarized as they are gathered: the draw of a row depends on its number in the set alone."""

    def draw(values: np.ndarray, index: Any) -> np.ndarray:
        flat = values.reshape(-1, *x.shape[1:])
        return host_random.binarize(flat, numbers[index].reshape(-1), maximum, seed).reshape(values.shape)

    return LazyRows(x, np.arange(len(x)), draw)


def _source(config: Data, log: lookup.Log, progress: lookup.Progress | None) -> tuple[Entry, lookup.Arrays, str]:
    """What a config names: its entry, decoded arrays, digest."""
    if config.arrays is not None:
        return user_data.check(config.name, user_data.in_memory(config.arrays))
    if config.name in toys.TOYS:
        known = registry.find(config.name)
        arrays = toys.draw(known, config.seed)
        return known, arrays, lookup.digest(arrays)
    if config.name in registry.catalogue():
        return registry.find(config.name), *lookup.arrays(config.name, log, progress)
    path = Path(config.name).expanduser()
    if path.exists():
        return user_data.read(path)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"expected a file or folder of data, found nothing at {path}")
    return registry.find(config.name), {}, ""  # raises, with the nearest names


def _encoding(config: Data, known: Entry) -> str | None:
    """The encoding that a config and a set resolve to, refused where it has no meaning."""
    chosen = config.encoding or known.encoding
    if chosen in (None, known.encoding):
        return chosen
    if chosen == "classes":
        if known.dtype != "uint8":
            raise ValueError(
                f"expected whole numbers from 0 to 255 (uint8) for data.encoding 'classes', got {known.name} of "
                f"{known.dtype}"
            )
        return chosen
    if known.kind != "images":
        raise ValueError(
            f"expected data.encoding None for {known.name}, which is no set of intensities in [0, 1], "
            f"got {chosen!r}; "
            "add --data.encoding None"
        )
    if known.maximum == 1:
        raise ValueError(
            f"expected data.encoding None for {known.name}, whose values are 0 or 1, got {chosen!r}; "
            "add --data.encoding None"
        )
    return chosen


def split(config: Data, known: Entry) -> dict[str, np.ndarray]:
    """split -> [N] row numbers in the whole set, ascending; unpublished splits are drawn by the seed."""
    if config.fold and not known.folds:
        raise ValueError(f"expected data.fold 0 for {known.name}, which has one split, got {config.fold}")
    starts = np.cumsum([0, *known.splits.values()])
    pools = {name: np.arange(*bounds) for name, bounds in zip(known.splits, itertools.pairwise(starts), strict=True)}
    out, num_valid = {}, config.num_validation
    if "all" in pools:
        rest = host_random.order(config.seed, 0, int(starts[-1]), "split").astype(np.int64)
        if known.folds:
            low, high = (len(rest) * fold // known.folds for fold in (config.fold, config.fold + 1))
        else:
            low, high = 0, known.drawn["test"]
        out["test"], rest = np.sort(rest[low:high]), np.concatenate([rest[:low], rest[high:]])
        num_valid = known.drawn["valid"] if num_valid is None else num_valid
    else:
        if "test" in pools:
            out["test"] = pools["test"]
        if num_valid is None:
            return {name: pools[name] for name in ("train", "valid", "test") if name in pools}
        rest = np.concatenate([pools["train"], pools.get("valid", starts[:0])])
        rest = rest[host_random.order(config.seed, 0, len(rest), "split")]
    if num_valid >= len(rest):
        raise ValueError(
            f"expected data.num_validation below the {len(rest)} training rows of {known.name}, got {num_valid}"
        )
    valid = {"valid": np.sort(rest[:num_valid])} if num_valid else {}
    return {"train": np.sort(rest[num_valid:]), **valid, **out}


def _gather(arrays: lookup.Arrays, known: Entry, numbers: np.ndarray, field: str) -> Any:
    """The rows `numbers` (ascending) of one field, None if some lack it; a whole split is not copied."""
    start, parts, places = 0, [], []
    for name, count in known.splits.items():
        low, high = np.searchsorted(numbers, (start, start + count))
        if high > low:
            if f"{name}/{field}" not in arrays:
                return None
            parts.append(arrays[f"{name}/{field}"])
            places.append(numbers[low:high] - start)
        start += count
    if len(parts) == 1:
        (base,), (local,) = parts, places
        return base if len(local) == len(base) else LazyRows(base, local) if base.nbytes > MAPPED else base[local]
    if sum(base.nbytes for base in parts) > MAPPED:
        offsets = np.cumsum([0, *map(len, parts)])
        return LazyRows(
            Joined(parts), np.concatenate([at + offset for at, offset in zip(places, offsets, strict=False)])
        )
    return np.concatenate([base[local] for base, local in zip(parts, places, strict=True)])
