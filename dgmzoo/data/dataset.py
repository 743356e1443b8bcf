"""`load_dataset`: load, verify and split a data set; `Dataset`: the splits and the function that encodes their rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dgmzoo.data import host_random, lookup, registry, row_splits, user_arrays, user_data
from dgmzoo.data.config import Data
from dgmzoo.data.entry import Entry
from dgmzoo.data.masks import check_missing, hide_at_random
from dgmzoo.data.observe import Observe, above_half, broadcast_mask
from dgmzoo.data.readers.text import END, decode_vocabulary
from dgmzoo.data.sets import toys
from dgmzoo.data.standardize import Standardization

FIELDS = ("x", "label", "context", "mask")
"""Fields of a row: the value that is modelled, its class, further input of a conditional model, observed elements."""
_LARGEST_COUNT = 1 << 20
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
    standardization: Standardization | None = None
    """The map of the columns of a user's table to x; None where x is in the units of the data, or of their protocol."""

    @property
    def log_det(self) -> float:
        """Nats to add to the negative log-likelihood of an example, so that it is that of the data's own units.

        For rows with a mask see `log_det_of`.

        >>> load_dataset(Data("toy_moons")).log_det
        0.0
        """
        return self.standardization.log_det() if self.standardization else 0.0

    def log_det_of(self, rows: Mapping[str, Any]) -> np.ndarray:
        """`log_det` of each row, float64 [N]: the observed columns of a row count.

        >>> dataset = load_dataset(Data("toy_moons"))
        >>> dataset.log_det_of(dataset.evaluation_rows("test", 2)).tolist()
        [0.0, 0.0]
        """
        num = len(rows["x"])
        if self.standardization is None or "mask" not in rows:
            return np.full(num, self.log_det)
        return self.standardization.log_det(broadcast_mask(np.asarray(rows["mask"]), rows["x"].shape, np))

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
        index = np.linspace(0, len(rows["x"]) - 1, self._num_initial_rows()).astype(int)
        return {name: np.asarray(leaf[index]) for name, leaf in rows.items()}

    def _num_initial_rows(self) -> int:
        rows = self.splits["train"]
        row_bytes = sum(leaf.nbytes // len(leaf) for leaf in rows.values())
        return min(_INIT_ROWS, max(2, _INIT_BYTES // row_bytes), len(rows["x"]))

    def row_shapes(self, num: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of `num` training rows as they are stored, of which none is read; None: of `initial_rows`.

        >>> load_dataset(Data("toy_moons")).row_shapes(2)["x"]
        ShapeDtypeStruct(shape=(2, 2), dtype=float32)
        """
        num = self._num_initial_rows() if num is None else num
        rows = self.splits["train"].items()
        return {name: jax.ShapeDtypeStruct((num, *leaf.shape[1:]), np.dtype(leaf.dtype)) for name, leaf in rows}

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
    if entry.folds and not config.standardize:
        raise ValueError(
            f"expected data.standardize True for {entry.name}, whose protocol normalises its columns, got False"
        )
    encoding = _resolve_encoding(config, entry)
    row_numbers = row_splits.split_rows(config, entry)
    splits = {}
    for split, numbers in row_numbers.items():
        fields = {field: row_splits.select_rows(arrays, entry, numbers, field) for field in FIELDS}
        splits[split] = {field: a for field, a in fields.items() if a is not None}
    if config.missing:
        check_missing(entry)
        for split, rows in splits.items():
            splits[split] = hide_at_random(rows, row_numbers[split], config.missing, config.seed, _is_large(rows["x"]))
    standardization = None
    if entry.folds:
        train = np.asarray(splits["train"]["x"], np.float64)
        protocol = Standardization(train.mean(0), train.std(0))  # its nats are those of the normalised columns
        if config.missing:
            protocol = Standardization.of(splits["train"])
        for rows in splits.values():
            rows["x"] = protocol.apply(rows["x"])
    elif _is_own(config) and config.standardize and _is_standardizable(entry, splits["train"]["x"]):
        standardization = Standardization.of(splits["train"])
        for rows in splits.values():
            rows["x"] = standardization.apply(rows["x"], _is_large(rows["x"]), rows.get("mask"))
        log(
            f"columns of {entry.name} are standardised by the training rows; {standardization.log_det():.4g} nats an example "
            f"lead back to its own units (data.standardize False leaves the columns as they are)"
        )
    elif _is_own(config) and config.standardize and _is_real_table(entry):
        log(f"columns of {entry.name} are left in their units: whole numbers from 0 are taken for counts")
    if encoding == "static" and entry.encoding != "static":
        for split, rows in splits.items():
            static = row_splits.binarized_rows(rows["x"], row_numbers[split], entry.maximum, config.seed)
            rows["x"] = static if _is_large(static) else np.asarray(static)
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
        standardization=standardization,
    )


def _is_large(x: Any) -> bool:
    """True if values stay on disk, or are computed as rows are read."""
    return x.nbytes > row_splits.LAZY_ABOVE_BYTES


def _is_own(config: Data) -> bool:
    """True if a config names a user's arrays or file."""
    return config.arrays is not None or config.name not in registry.catalogue()


def _is_standardizable(entry: Entry, x: Any) -> bool:
    """True for a table of real values; whole numbers from 0 may be counts, and values in [0, 1] intensities."""
    if not _is_real_table(entry):
        return False
    return not user_data.is_whole(x) or np.min(x) < 0 or np.max(x) > _LARGEST_COUNT


def _is_real_table(entry: Entry) -> bool:
    return entry.kind == "table" and len(entry.shape) == 1


def _read_content(config: Data, log: lookup.Log, progress: lookup.Progress | None) -> tuple[Entry, lookup.Arrays, str]:
    """The entry, decoded arrays and digest of the data that a config names."""
    if config.arrays is not None:
        return user_data.validate_arrays(
            config.name, user_arrays.collect_arrays(config.arrays), columns=user_arrays.column_names(config.arrays)
        )
    if config.name in toys.TOYS:
        entry = registry.find(config.name)
        arrays = toys.sample_splits(entry, config.seed)
        return entry, arrays, lookup.digest(arrays)
    if config.name in registry.catalogue():
        return registry.find(config.name), *lookup.load_arrays(config.name, log, progress)
    try:
        path = Path(config.name).expanduser()
    except RuntimeError as error:
        raise ValueError(f"expected the path of a file or folder of data, got {config.name!r} ({error})") from error
    if path.exists():
        return user_data.read_path(path)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"expected data at {path}, found nothing; say where they are: --data.name PATH")
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
        if entry.dtype not in ("uint8", "int32"):
            raise ValueError(
                f"expected whole numbers from 0 for data.encoding 'classes', got {entry.name} of {entry.dtype}"
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
