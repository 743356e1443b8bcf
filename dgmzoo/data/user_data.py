"""`read_path`: read a user's file or folder; `validate_arrays`: check a user's arrays and describe them as an entry.

The meaning of the values follows from their type and shape: uint8, and other whole numbers up to 255 in the shape of
images, are intensities out of 255, or binary if none is above 1; real numbers in [0, 1] are intensities too, which may be
binarized; other numbers are used as they are.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dgmzoo.data import cache
from dgmzoo.data.columns import check_float32, few_valued_columns
from dgmzoo.data.entry import Entry
from dgmzoo.data.lazy_rows import LazyRows
from dgmzoo.data.masks import complete_masks, without_hidden
from dgmzoo.data.readers import user_files

Arrays = dict[str, np.ndarray]
_CHUNK_BYTES = 1 << 24
"""Bytes of values that are scanned at a time."""
_SPLITS = ("train", "valid", "test")


def read_path(path: Path) -> tuple[Entry, Arrays, str]:
    """Read and validate a user's file or folder.

    Returns:
      The entry that describes it, its arrays as `split/field`, and their digest.

    Raises:
      ValueError: another kind of file, or values that are refused; says which are expected.
    """
    content = user_files.read_arrays(path)
    is_mapped = isinstance(content.arrays.get("all/x"), np.memmap)
    return validate_arrays(path.name, content.arrays, path if is_mapped else None, content.columns, is_owned=True)


def validate_arrays(
    name: str, arrays: Arrays, path: Path | None = None, columns: Sequence[str] = (), is_owned: bool = False
) -> tuple[Entry, Arrays, str]:
    """Validate a user's arrays and infer the entry that describes them.

    A warning names the columns of a table that are constant or take few values.

    Args:
      arrays: `split/field` -> values.
      path: the mapped file that they come from; the result of the scan is remembered while the file stays the same.
      columns: names of the columns of x, for messages and pictures.
      is_owned: nobody else holds the arrays; otherwise they are copied, except for read-only mapped ones.

    Returns:
      The entry, the arrays in canonical dtypes and shapes, read-only and with values of their own, and their digest.

    Raises:
      ValueError: objects, NaN or infinities that no mask hides, other than numbers, values that float32 cannot tell apart,
        shapes that differ between splits, labels, contexts or masks that do not fit, no test rows.

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
    given = arrays
    arrays = {key: _canonical(key, a, name) for key, a in arrays.items()}
    rows = {key[:-2]: a for key, a in arrays.items() if key.endswith("/x")}
    _check_shapes(name, arrays, rows)
    arrays |= complete_masks(arrays, rows)
    for split, x in rows.items():
        rows[split] = without_hidden(x, arrays.get(f"{split}/mask"), f"{split}/x of {name}")
    dtype = _stored_dtype(rows, name)
    for split, x in rows.items():
        check_float32(f"{split}/x", x, name, columns)
        converted = x if x.dtype == dtype else _convert(x, dtype)
        is_mapped = isinstance(converted, LazyRows | np.memmap)  # from disk, read-only
        if not is_owned and not is_mapped and np.may_share_memory(converted, given[f"{split}/x"]):
            converted = np.array(converted)  # a later change of the user's array would change results
        arrays[f"{split}/x"] = rows[split] = converted
    for a in arrays.values():
        if isinstance(a, np.ndarray):
            a.flags.writeable = False
    scan = cache.memoize(path, Scan, lambda: _scan(arrays, name)) if path else _scan(arrays, name)
    entry = _infer_entry(name, arrays, rows, scan, columns)
    if entry.kind == "table":
        _warn_of_atoms(entry, arrays, columns)
    return entry, arrays, scan.sha256


def _infer_entry(name: str, arrays: Arrays, rows: Arrays, scan: "Scan", columns: Sequence[str]) -> Entry:
    """The entry that describes arrays in canonical form (`rows`: split -> x)."""
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
        columns=tuple(columns),
    )
    if sum(entry.splits.values()) < 3:
        raise ValueError(f"expected at least 3 rows in {name}, got {sum(entry.splits.values())}")
    return entry


def _warn_of_atoms(entry: Entry, arrays: Arrays, columns: Sequence[str]) -> None:
    """Warn of columns of a table that are constant or take few values; not of counts, a table of whole numbers only."""
    split = next(iter(entry.splits))
    x, mask = arrays[f"{split}/x"], arrays.get(f"{split}/mask")
    if is_whole(x):
        return
    if described := few_valued_columns(x, mask, columns):
        more = f" and {len(described) - 5} more" if len(described) > 5 else ""
        warnings.warn(
            f"expected continuous columns in {entry.name} for a continuous density, got {', '.join(described[:5])}{more}: "
            f"its likelihood grows without bound; remove the column, or add noise of the size of a step to it",
            stacklevel=2,
        )


def is_whole(x: Any) -> bool:
    """True if x [N, ...] holds whole numbers only.

    >>> is_whole(np.array([1.0, 2.0])), is_whole(np.array([1.0, 2.5]))
    (True, False)
    """
    if x.dtype.kind != "f":
        return True
    step = max(1, _CHUNK_BYTES // max(1, x[:1].nbytes))
    return all(bool((x[at : at + step] == np.rint(x[at : at + step])).all()) for at in range(0, len(x), step))


def _check_shapes(name: str, arrays: Arrays, rows: Arrays) -> None:
    """Refuse fields whose shapes differ between splits, or do not fit `x` of their split (`rows`: split -> x)."""
    contexts = {key.partition("/")[0]: a for key, a in arrays.items() if key.endswith("/context")}
    if len({a.shape[1:] for a in contexts.values()}) > 1:
        shapes = {a.shape[1:] for a in contexts.values()}
        raise ValueError(f"expected every context of {name} to have one shape, got {shapes}")
    if contexts and set(contexts) != set(rows):
        without = ", ".join(sorted(set(rows) - set(contexts)))
        raise ValueError(f"expected a context in every split of {name}, got none in {without}; add it there too")
    if len({a.shape[1:] for a in rows.values()}) > 1:
        shapes = ", ".join(map(_described, rows.items()))
        raise ValueError(f"expected every split of {name} to have one shape and dtype, got {shapes}")
    for key, a in arrays.items():
        if len(a) != len(rows.get(key.partition("/")[0], ())):
            raise ValueError(f"expected {key} of {name} to have one entry per row, got {len(a)}")
        x = rows[key.partition("/")[0]]
        if key.endswith("/mask") and a.shape != x.shape[: a.ndim]:
            raise ValueError(f"expected {key} of {name} to cover the first axes of x {x.shape}, got {a.shape}")


def _described(item: tuple[str, np.ndarray]) -> str:
    return f"{item[0]} {item[1].dtype} {item[1].shape[1:]}"


def _stored_dtype(rows: Arrays, name: str) -> Any:
    """The dtype that x of all splits is stored in."""
    arrays = list(rows.values())
    kinds = {a.dtype.kind for a in arrays}
    is_mixed = any(a.dtype == np.uint8 for a in arrays) and len({a.dtype for a in arrays}) > 1 and kinds != {"u", "b"}
    if is_mixed or ("f" in kinds and kinds != {"f"}):
        shapes = ", ".join(map(_described, rows.items()))
        raise ValueError(f"expected every split of {name} to have one shape and dtype, got {shapes}")
    if "f" in kinds:
        return np.float32
    low, high = min(int(a.min()) for a in arrays), max(int(a.max()) for a in arrays)
    if (0 <= low and high <= 1) or all(a.dtype == np.uint8 for a in arrays):
        return np.uint8
    if arrays[0].ndim > 2:  # intensities of images; a table of whole numbers has another meaning
        if low < 0 or high > 255:
            raise ValueError(
                f"expected whole numbers from 0 to 255 in images of {name}, got {low} to {high}; give real values as float32"
            )
        return np.uint8
    return np.int32 if 0 <= low and high <= np.iinfo(np.int32).max else np.float32


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
                        f"{start + int(np.argmin(is_finite))}; if it is a missing value, pass a mask: "
                        f'from_arrays({{"x": x, "mask": ~numpy.isnan(x)}})'
                    )
                low, high = min(low, chunk_low), max(high, chunk_high)
    return Scan(low, high, cache.digest(arrays))


def _canonical(key: str, a: np.ndarray, name: str) -> np.ndarray:
    """The values of `split/field` in the dtype and number of axes that the field has."""
    field = key.partition("/")[2]
    if a.dtype.kind not in "biuf":
        advice = "convert it first"
        if field == "label":
            advice = "number the classes: numpy.unique(label, return_inverse=True)[1]"
        elif a.dtype == object and any(value is None for value in a.reshape(-1)[:100_000]):
            advice = 'None is no number: give the missing values as NaN, with a mask {"x": x, "mask": ~numpy.isnan(x)}'
        raise ValueError(f"expected numbers in {key} of {name}, got dtype {a.dtype}; {advice}")
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
        check_float32(key, a, name)
        return _convert(a, np.float32)
    if a.ndim == 3:
        a = a[..., None]  # [N, H, W] is an image of one channel
    elif a.ndim == 4 and a.shape[1] in (1, 3) and a.shape[3] > 4:
        _, height, width, channels = a.shape
        warnings.warn(
            f"expected images [N, H, W, C] in {key} of {name}, got {a.shape}, which are read as {height}x{width} pixels of "
            f"{channels} channels; if the channels come first, give x.transpose(0, 2, 3, 1)",
            stacklevel=2,
        )
    return a


def _convert(a: np.ndarray, dtype: Any) -> Any:
    """Convert to another dtype; a mapped array stays on disk and is converted row by row as it is read."""
    return LazyRows(a, np.arange(len(a)), dtype=dtype) if isinstance(a, np.memmap) else a.astype(dtype)
