"""`read_path`: read a user's file or folder; `validate_arrays`: check a user's arrays and describe them as an entry.

The meaning of the values follows from their type: uint8 (or other whole numbers up to 255) are intensities out of 255,
or binary if none is above 1; real numbers in [0, 1] are intensities too, which may be binarized; other real numbers are
used as they are.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dgmzoo.data import cache
from dgmzoo.data.entry import Entry
from dgmzoo.data.lazy_rows import LazyRows
from dgmzoo.data.readers import user_files

Arrays = dict[str, np.ndarray]
_CHUNK_BYTES = 1 << 24
"""Bytes of values that are scanned at a time."""
_SPLITS = ("train", "valid", "test")
_OTHER_FIELDS = ("label", "context", "mask")
_FIELD_OF_COLUMN = {"image": "x", "img": "x", "pixel_values": "x", "labels": "label", "target": "label"}
"""Names of columns in other libraries."""


def read_path(path: Path) -> tuple[Entry, Arrays, str]:
    """Read and validate a user's file or folder.

    Returns:
      The entry that describes it, its arrays as `split/field`, and their digest.

    Raises:
      ValueError: another kind of file, or values that are refused; says which are expected.
    """
    is_mapped = path.is_file() and path.suffix == ".npy"
    return validate_arrays(path.name, user_files.read_arrays(path), path if is_mapped else None)


def collect_arrays(splits: Mapping[str, tuple[Any, Any]]) -> Arrays:
    """The arrays of `Data.arrays` as `split/field`.

    Args:
      splits: split -> (rows or a mapping of fields, labels or None).

    Raises:
      ValueError: unknown fields, or rows of different shapes.

    >>> list(collect_arrays({"train": ([[1, 2], [3, 4]], [0, 1])}))
    ['train/x', 'train/label']
    """
    arrays: Arrays = {}
    for split, (rows, label) in splits.items():
        rows = _numpy_view(rows)
        if isinstance(rows, Mapping):
            fields = {_FIELD_OF_COLUMN.get(name, name): a for name, a in rows.items()}
        else:
            fields = {"x": rows}
        if label is not None:
            fields["label"] = label
        if not {"x"} <= set(fields) <= {"x", *_OTHER_FIELDS}:
            raise ValueError(
                f"expected rows with x, and optionally label, context and mask, got {', '.join(map(str, fields))}"
            )
        try:
            arrays |= {f"{split}/{field}": np.asarray(values) for field, values in fields.items()}
        except ValueError as error:
            raise ValueError(f"expected rows of one shape in {split}, got {error}") from error
    return arrays


def _numpy_view(rows: Any) -> Any:
    """The NumPy view of a Hugging Face `datasets` object or a `tf.data` set; other objects unchanged."""
    if hasattr(rows, "with_format") and hasattr(rows, "column_names"):
        return {name: rows.with_format("numpy")[name][:] for name in rows.column_names}
    if hasattr(rows, "as_numpy_iterator"):
        elements = list(rows.as_numpy_iterator())
        if elements and isinstance(elements[0], Mapping):
            return {name: np.stack([element[name] for element in elements]) for name in elements[0]}
        if elements and isinstance(elements[0], tuple):
            return {
                name: np.stack(part) for name, part in zip(("x", "label"), zip(*elements, strict=True), strict=True)
            }
        return np.stack(elements) if elements else np.empty(0)
    return rows


def validate_arrays(name: str, arrays: Arrays, path: Path | None = None) -> tuple[Entry, Arrays, str]:
    """Validate a user's arrays and infer the entry that describes them.

    Args:
      arrays: `split/field` -> values.
      path: the mapped file that they come from; the result of the scan is remembered while the file stays the same.

    Returns:
      The entry, the arrays in canonical dtypes and shapes, and their digest.

    Raises:
      ValueError: objects, NaN or infinities, other than numbers, shapes that differ between splits, labels or masks
        that do not fit, no test rows.

    >>> entry, arrays, _ = validate_arrays("mine", {"all/x": np.eye(9)})
    >>> entry.shape, entry.random_splits, arrays["all/x"].dtype
    ((9,), {'test': 1, 'valid': 1}, dtype('float32'))
    """
    splits = {key.partition("/")[0] for key in arrays}
    if splits == {"train"}:  # training rows alone are split as rows without a split
        arrays = {key.replace("train", "all"): a for key, a in arrays.items()}
    elif splits != {"all"} and not splits >= {"train", "test"}:
        names = " and ".join(split for split in _SPLITS if split in splits)
        raise ValueError(
            f"expected {name} with train and test rows (valid or not), got {names}; add the missing ones, or give all "
            f"rows as one and have the splits chosen by data.seed"
        )
    arrays = {key: _canonical(key, a, name) for key, a in arrays.items()}
    rows = {key[:-2]: a for key, a in arrays.items() if key.endswith("/x")}
    _check_shapes(name, arrays, rows)
    scan = cache.memoize(path, Scan, lambda: _scan(arrays, name)) if path else _scan(arrays, name)
    x = next(iter(rows.values()))
    in_unit_interval = scan.low >= 0 and scan.high <= 1
    maximum = (1 if in_unit_interval else 255) if x.dtype == np.uint8 else None
    largest_labels = [int(a.max()) for key, a in arrays.items() if key.endswith("/label")]
    tenth = max(1, len(x) // 10)
    entry = Entry(
        name=name,
        title="own data",
        paper="",
        licence="",
        shape=x.shape[1:],
        splits={split: len(rows[split]) for split in ("all", *_SPLITS) if split in rows},
        use="",
        kind="images" if maximum or in_unit_interval else "table",
        maximum=maximum,
        encoding="gray" if maximum == 255 else None,
        random_splits={"test": tenth, "valid": tenth} if "all" in rows else {},
        dtype=str(x.dtype),
        num_classes=max(largest_labels) + 1 if largest_labels else None,
    )
    if sum(entry.splits.values()) < 3:
        raise ValueError(f"expected at least 3 rows in {name}, got {sum(entry.splits.values())}")
    return entry, arrays, scan.sha256


def _check_shapes(name: str, arrays: Arrays, rows: Arrays) -> None:
    """Refuse fields whose shapes differ between splits, or do not fit `x` of their split (`rows`: split -> x)."""
    context_shapes = {a.shape[1:] for key, a in arrays.items() if key.endswith("/context")}
    if len(context_shapes) > 1:
        raise ValueError(f"expected every context of {name} to have one shape, got {context_shapes}")
    if len({(a.dtype, a.shape[1:]) for a in rows.values()}) > 1:
        shapes = ", ".join(f"{split} {a.dtype} {a.shape[1:]}" for split, a in rows.items())
        raise ValueError(f"expected every split of {name} to have one shape and dtype, got {shapes}")
    for key, a in arrays.items():
        if len(a) != len(rows.get(key.partition("/")[0], ())):
            raise ValueError(f"expected {key} of {name} to have one entry per row, got {len(a)}")
        x = rows[key.partition("/")[0]]
        if key.endswith("/mask") and a.shape != x.shape[: a.ndim]:
            raise ValueError(f"expected {key} of {name} to cover the first axes of x {x.shape}, got {a.shape}")


class Scan(NamedTuple):
    """Result of a pass over the values: range of x, and digest of all arrays."""

    low: float
    high: float
    sha256: str


def _scan(arrays: Arrays, name: str) -> Scan:
    """Pass over the values in chunks; NaN and infinities are refused."""
    low, high = math.inf, -math.inf
    for key, a in arrays.items():
        if key.endswith("/x"):
            step = max(1, _CHUNK_BYTES // max(1, a[:1].nbytes))
            for start in range(0, len(a), step):
                chunk = a[start : start + step]
                chunk_low, chunk_high = float(chunk.min()), float(chunk.max())
                if not (math.isfinite(chunk_low) and math.isfinite(chunk_high)):
                    is_finite = np.isfinite(chunk).reshape(len(chunk), -1).all(1)
                    raise ValueError(
                        f"expected finite values in {key} of {name}, got NaN or infinity in row "
                        f"{start + int(np.argmin(is_finite))}"
                    )
                low, high = min(low, chunk_low), max(high, chunk_high)
    return Scan(low, high, cache.digest(arrays))


def _canonical(key: str, a: np.ndarray, name: str) -> np.ndarray:
    """The values of `split/field` in the dtype and number of axes that the field has."""
    field = key.partition("/")[2]
    if a.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers in {key} of {name}, got dtype {a.dtype}; convert it first")
    if a.ndim == 0 or a.size == 0:
        raise ValueError(f"expected rows in {key} of {name}, got an array of shape {a.shape}")
    if field == "label":
        if a.ndim != 1 or a.dtype.kind not in "iub" or a.min() < 0 or a.max() > np.iinfo(np.int32).max:
            raise ValueError(f"expected labels [N] of whole numbers from 0 in {key} of {name}, got {a.dtype} {a.shape}")
        return a.astype(np.int32)
    if field == "mask":
        if not np.isin(a, (0, 1)).all():
            raise ValueError(f"expected {key} of {name} to hold True (observed) and False, got other values")
        return a.astype(bool)[:, None] if a.ndim == 1 else a.astype(bool)
    if a.ndim == 1:
        a = a[:, None]
    if field == "context":
        if not np.isfinite(a).all():
            raise ValueError(f"expected finite values in {key} of {name}, got NaN or infinity")
        return _convert(a, np.float32)
    if a.ndim == 3:
        a = a[..., None]  # [N, H, W] is an image of one channel
    if a.dtype.kind == "b":
        return _convert(a, np.uint8)
    if a.dtype.kind in "iu" and a.dtype != np.uint8:
        if a.min() < 0 or a.max() > 255:
            raise ValueError(
                f"expected whole numbers from 0 to 255 in {key} of {name}, got {a.min()} to {a.max()}; "
                f"give real values as float32"
            )
        return _convert(a, np.uint8)
    return a if a.dtype in (np.uint8, np.float32) else _convert(a, np.float32)


def _convert(a: np.ndarray, dtype: Any) -> Any:
    """Convert to another dtype; a mapped array stays on disk and is converted row by row as it is read."""
    return LazyRows(a, np.arange(len(a)), dtype=dtype) if isinstance(a, np.memmap) else a.astype(dtype)
