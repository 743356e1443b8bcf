"""One's own data: arrays in memory, `.npy`, `.npz`, a table, a folder of images; all of it is checked.

What the values mean is read off their type: uint8 (or other whole numbers up to 255) are intensities out of
255, or binary if none is above 1; real numbers in [0, 1] are intensities too, which may be binarized; other
real numbers are taken as they are.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dgmzoo.data import cache
from dgmzoo.data.entry import Entry
from dgmzoo.data.lazy_rows import LazyRows
from dgmzoo.data.readers import files
from dgmzoo.data.readers.images import picture

Arrays = dict[str, np.ndarray]
_STEP = 1 << 24
_SPLITS = ("train", "valid", "test")
_COLUMNS = {"image": "x", "img": "x", "pixel_values": "x", "labels": "label", "target": "label"}
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def read(path: Path) -> tuple[Entry, Arrays, str]:
    """A user's file or folder: the entry that it amounts to, its arrays, their digest.

    Raises:
      ValueError: not such a file, or not such values; says what is.
    """
    if path.is_dir():
        return check(path.name, _folder(path))
    if not path.is_file():
        raise ValueError(f"expected a file or a folder, got {path}, which is a pipe, a socket or a device")
    if path.suffix == ".npy":
        return check(path.name, {"all/x": files.npy(path)}, path)
    if path.suffix == ".npz":
        limit = max(1 << 30, 100 * path.stat().st_size)  # a .npy, which is mapped, may be of any size
        return check(path.name, _named(files.npz(path, limit), str(path)))
    if path.suffix == ".csv":
        return check(path.name, _table(path))
    raise ValueError(f"expected a .npy, .npz, .csv or a folder of images, got {path}")


def _table(path: Path) -> Arrays:
    """The columns of a table, but for one named `label`."""
    names, x = files.table(path)
    if names and ("" in names or len(names) != x.shape[1]):
        raise ValueError(
            f"expected a name for each of the {x.shape[1]} columns, got {', '.join(map(repr, names))} in {path}; pandas "
            f"writes its index without one: use index=False"
        )
    if not names and x.shape[1] > 2 and np.array_equal(x[0], np.arange(x.shape[1])):
        raise ValueError(
            f"expected rows or names of columns, got 0, 1, 2, ... in the first line of {path}, which pandas writes for "
            f"columns without names: use header=False, or name them"
        )
    arrays = {}
    if "label" in names:
        label, x = x[:, names.index("label")], np.delete(x, names.index("label"), 1)
        arrays["all/label"] = label.astype(np.int64) if np.array_equal(label, np.rint(label)) else label
    return {"all/x": x.astype(np.uint8 if np.isin(x, (0, 1)).all() else np.float32), **arrays}


def _named(raw: Mapping[str, np.ndarray], what: str) -> Arrays:
    """Members `x`, or `train`, `valid`, `test`, with `label` or `train_label` (`context`, `mask`), as `split/field`."""
    beside = ("label", "context", "mask")
    names = {"x": "all/x"} | {field: f"all/{field}" for field in beside}
    for split in _SPLITS:
        names |= {split: f"{split}/x"} | {f"{split}_{field}": f"{split}/{field}" for field in beside}
    if not set(raw) <= set(names) or ("x" in raw) == ("train" in raw):
        raise ValueError(
            f"expected either x or train (with valid, test) in {what}, and labels as label or train_label, "
            f"got {', '.join(sorted(raw)) or 'nothing'}"
        )
    return {names[key]: array for key, array in raw.items()}


def _folder(path: Path) -> Arrays:
    """Images of one size: folders `train`, `valid`, `test` are splits, others below or instead classes."""
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    parts = [p.relative_to(path).parts for p in found]
    split_of = [part[0] if part[0] in _SPLITS else "all" for part in parts]
    if not found or ("all" in split_of and len(set(split_of)) > 1):
        raise ValueError(
            f"expected images in {path}, in folders train, valid, test or in none, got {len(found)} in all"
        )
    class_of = ["/".join(part[split != "all" : -1]) for part, split in zip(parts, split_of, strict=True)]
    classes = sorted(set(class_of))
    images, total = [], 0
    for p in found:
        if (size := p.stat().st_size) > 1 << 28:
            raise ValueError(f"expected an image, got {size} bytes at {p}")
        images.append(picture(p.read_bytes(), 1 << 24, str(p)))
        total += images[-1].nbytes
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f"expected every image to be {images[0].shape}, got {images[-1].shape} at {p}; resize them"
            )
        if total > files.LIMIT:
            raise ValueError(f"expected images of at most {files.LIMIT} bytes in all, got more in {path}; save a .npy")
    arrays: Arrays = {}
    for split in dict.fromkeys(split_of):
        rows = [row for row, name in enumerate(split_of) if name == split]
        arrays[f"{split}/x"] = np.stack([images[row] for row in rows])
        if len(classes) > 1:
            arrays[f"{split}/label"] = np.array([classes.index(class_of[row]) for row in rows], np.int32)
    return arrays


def in_memory(given: Mapping[str, tuple[Any, Any]]) -> Arrays:
    """What `from_arrays` was given, as `split/field`."""
    arrays: Arrays = {}
    for split, (rows, label) in given.items():
        rows = _view(rows)
        rows = {_COLUMNS.get(name, name): a for name, a in rows.items()} if isinstance(rows, Mapping) else {"x": rows}
        if label is not None:
            rows["label"] = label
        if not {"x"} <= set(rows) <= {"x", "label", "context", "mask"}:
            raise ValueError(
                f"expected rows with x, and perhaps label, context and mask, got {', '.join(map(str, rows))}"
            )
        try:
            arrays |= {f"{split}/{key}": np.asarray(value) for key, value in rows.items()}
        except ValueError as error:
            raise ValueError(f"expected rows of one shape in {split}, got {error}") from error
    return arrays


def _view(rows: Any) -> Any:
    """The NumPy view of a Hugging Face `datasets` object or a `tf.data` set; other things as they are."""
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


def check(name: str, arrays: Arrays, path: Path | None = None) -> tuple[Entry, Arrays, str]:
    """The entry that arrays amount to, the arrays in canonical form, and their digest.

    `path`: the mapped file that they come from; what a pass over it finds is remembered while it stays as it
    is.

    Raises:
      ValueError: objects, NaN or infinities, other than numbers, shapes that differ between splits, labels or masks
        that do not fit, no test rows.
    """
    splits = {key.partition("/")[0] for key in arrays}
    if splits == {"train"}:  # unsplit, whatever it is called
        arrays = {key.replace("train", "all"): a for key, a in arrays.items()}
    elif splits != {"all"} and not splits >= {"train", "test"}:
        got = " and ".join(split for split in _SPLITS if split in splits)
        raise ValueError(
            f"expected {name} with train and test rows (valid or not), got {got}; add the missing ones, or give all rows "
            f"as one and have the splits drawn"
        )
    out = {key: _canonical(key, a, name) for key, a in arrays.items()}
    rows = {key[:-2]: a for key, a in out.items() if key.endswith("/x")}
    contexts = {a.shape[1:] for key, a in out.items() if key.endswith("/context")}
    if len(contexts) > 1:
        raise ValueError(f"expected every context of {name} to have one shape, got {contexts}")
    if len({(a.dtype, a.shape[1:]) for a in rows.values()}) > 1:
        got = ", ".join(f"{split} {a.dtype} {a.shape[1:]}" for split, a in rows.items())
        raise ValueError(f"expected every split of {name} to have one shape and dtype, got {got}")
    for key, a in out.items():
        if len(a) != len(rows.get(key.partition("/")[0], ())):
            raise ValueError(f"expected {key} of {name} to have one entry per row, got {len(a)}")
        x = rows[key.partition("/")[0]]
        if key.endswith("/mask") and a.shape != x.shape[: a.ndim]:
            raise ValueError(f"expected {key} of {name} to cover the first axes of x {x.shape}, got {a.shape}")
    found = cache.memo(path, Scan, lambda: _scan(out, name)) if path else _scan(out, name)
    x = next(iter(rows.values()))
    unit = found.low >= 0 and found.high <= 1
    maximum = (1 if unit else 255) if x.dtype == np.uint8 else None
    labels = [int(a.max()) for key, a in out.items() if key.endswith("/label")]
    tenth = max(1, len(x) // 10)
    entry = Entry(
        name=name,
        title="own data",
        paper="",
        licence="",
        shape=x.shape[1:],
        splits={split: len(rows[split]) for split in ("all", *_SPLITS) if split in rows},
        use="",
        kind="images" if maximum or unit else "table",
        maximum=maximum,
        encoding="gray" if maximum == 255 else None,
        drawn={"test": tenth, "valid": tenth} if "all" in rows else {},
        dtype=str(x.dtype),
        num_classes=max(labels) + 1 if labels else None,
    )
    if sum(entry.splits.values()) < 3:
        raise ValueError(f"expected at least 3 rows in {name}, got {sum(entry.splits.values())}")
    return entry, out, found.sha256


class Scan(NamedTuple):
    """What a pass over the values finds."""

    low: float
    high: float
    sha256: str


def _scan(arrays: Arrays, name: str) -> Scan:
    """One pass over the values, piece by piece; NaN is refused."""
    low, high = math.inf, -math.inf
    for key, a in arrays.items():
        if key.endswith("/x"):
            step = max(1, _STEP // max(1, a[:1].nbytes))
            for start in range(0, len(a), step):
                piece = a[start : start + step]
                least, most = float(piece.min()), float(piece.max())
                if not (math.isfinite(least) and math.isfinite(most)):
                    good = np.isfinite(piece).reshape(len(piece), -1).all(1)
                    raise ValueError(
                        f"expected finite values in {key} of {name}, got NaN or infinity in row "
                        f"{start + int(np.argmin(good))}"
                    )
                low, high = min(low, least), max(high, most)
    return Scan(low, high, cache.digest(arrays))


def _canonical(key: str, a: np.ndarray, name: str) -> np.ndarray:
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
        return _as(a, np.float32)
    if a.ndim == 3:
        a = a[..., None]  # [N, H, W] is an image of one channel
    if a.dtype.kind == "b":
        return _as(a, np.uint8)
    if a.dtype.kind in "iu" and a.dtype != np.uint8:
        if a.min() < 0 or a.max() > 255:
            raise ValueError(
                f"expected whole numbers from 0 to 255 in {key} of {name}, got {a.min()} to {a.max()}; "
                f"give real values as float32"
            )
        return _as(a, np.uint8)
    return a if a.dtype in (np.uint8, np.float32) else _as(a, np.float32)


def _as(a: np.ndarray, dtype: Any) -> Any:
    """Another dtype; a mapped array stays where it is and is converted row by row as it is read."""
    return LazyRows(a, np.arange(len(a)), dtype=dtype) if isinstance(a, np.memmap) else a.astype(dtype)
