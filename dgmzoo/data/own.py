"""One's own data: arrays in memory, `.npy`, `.npz`; checked before use, since nothing is known of them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dgmzoo.data import files
from dgmzoo.data.registry import Entry

Arrays = dict[str, np.ndarray]
_STEP = 1 << 22


def read(path: Path) -> Arrays:
    """The arrays of a user's file by split, unchecked."""
    if path.suffix == ".npy":
        return {"all/x": files.npy(path)}
    if path.suffix == ".npz":
        return _named(files.npz(path), str(path))
    raise ValueError(f"expected a .npy, .npz, .csv or a folder of images, got {path}")


def _named(raw: Mapping[str, np.ndarray], what: str) -> Arrays:
    """Members `x` (unsplit) or `train`, `valid`, `test`, and `label` or `train_label`, ... as `split/field`."""
    names = {"x": "all/x", "label": "all/label", "mask": "all/mask"}
    for split in ("train", "valid", "test"):
        names |= {split: f"{split}/x", f"{split}_label": f"{split}/label", f"{split}_mask": f"{split}/mask"}
    unknown = sorted(set(raw) - set(names))
    if unknown or not {"x", "train"} & set(raw) or {"x", "train"} <= set(raw):
        raise ValueError(
            f"expected either x or train (and valid, test) in {what}, with labels as label or train_label, "
            f"got {', '.join(sorted(raw)) or 'nothing'}"
        )
    return {names[key]: array for key, array in raw.items()}


def in_memory(given: Mapping[str, tuple[Any, Any]]) -> Arrays:
    """What `from_arrays` was given, as `split/field`."""
    arrays: Arrays = {}
    alone = set(given) == {"train"}
    for split, (rows, label) in given.items():
        rows = rows if isinstance(rows, Mapping) else {"x": rows}
        unknown = set(rows) - {"x", "label", "mask"}
        if unknown or "x" not in rows:
            raise ValueError(
                f"expected rows with x, and perhaps label and mask, got {', '.join(sorted(rows))}"
            )
        rows = {**rows, **({"label": label} if label is not None else {})}
        arrays |= {f"{'all' if alone else split}/{key}": np.asarray(value) for key, value in rows.items()}
    return arrays


def describe(name: str, arrays: Arrays) -> tuple[Entry, Arrays]:
    """The entry that a user's arrays amount to, with the arrays in canonical form; every fault is named.

    Raises:
      ValueError: objects, NaN or infinities, other than numbers, shapes that differ between splits, labels that do not fit.
    """
    out = {key: _canonical(key, np.asanyarray(a), name) for key, a in arrays.items()}
    rows = {key[:-2]: a for key, a in out.items() if key.endswith("/x")}
    shapes = {a.shape[1:] for a in rows.values()}
    dtypes = {a.dtype for a in rows.values()}
    if len(shapes) > 1 or len(dtypes) > 1:
        raise ValueError(
            f"expected every split of {name} to have one shape and dtype, got "
            + ", ".join(f"{split} {a.dtype} {a.shape[1:]}" for split, a in rows.items())
        )
    for key, a in out.items():
        if len(a) != len(rows[key.partition("/")[0]]):
            raise ValueError(f"expected {key} of {name} to have one entry per row, got {len(a)}")
    low = min(float(a.min()) for a in rows.values())
    high = max(float(a.max()) for a in rows.values())
    dtype, shape = dtypes.pop(), shapes.pop()
    maximum = (1 if high <= 1 else 255) if dtype == np.uint8 else None
    labels = [a for key, a in out.items() if key.endswith("/label")]
    entry = Entry(
        name=name,
        title="own data",
        paper="",
        licence="",
        shape=shape,
        splits={split: len(a) for split, a in rows.items()},
        use="",
        kind="images" if maximum is not None or (low >= 0 and high <= 1) else "table",
        maximum=maximum,
        binarization=None if maximum == 1 or maximum is None else "gray",
        dtype=str(dtype),
        num_classes=int(max(a.max() for a in labels)) + 1 if labels else None,
    )
    if "all" in rows:
        tenth = max(1, len(rows["all"]) // 10)
        entry = replace(entry, drawn={"test": tenth, "valid": tenth})
    return entry, out


def _canonical(key: str, a: np.ndarray, name: str) -> np.ndarray:
    field = key.partition("/")[2]
    if a.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers in {key} of {name}, got dtype {a.dtype}; convert it first")
    if a.ndim == 0 or len(a) == 0:
        raise ValueError(f"expected rows in {key} of {name}, got an array of shape {a.shape}")
    if field == "label":
        if a.ndim != 1 or a.dtype.kind not in "iub" or a.min() < 0 or a.max() > np.iinfo(np.int32).max:
            raise ValueError(
                f"expected labels [N] of whole numbers from 0 in {key} of {name}, got {a.dtype} {a.shape}"
            )
        return a.astype(np.int32)
    if field == "mask":
        return a.astype(bool)
    if a.ndim == 1:
        a = a[:, None]
    if a.ndim == 3:
        a = a[..., None]  # [N, H, W] is an image of one channel
    if a.dtype == bool:
        return a.astype(np.uint8)
    if a.dtype.kind in "iu" and a.dtype != np.uint8:
        if a.min() < 0 or a.max() > 255:
            raise ValueError(
                f"expected whole numbers from 0 to 255 in {key} of {name}, got {a.min()} to {a.max()}; "
                f"give real values as float32"
            )
        return a.astype(np.uint8)
    if a.dtype.kind == "f":
        step = max(1, _STEP // max(1, a[:1].nbytes))
        for start in range(0, len(a), step):
            finite = np.isfinite(a[start : start + step]).reshape(min(step, len(a) - start), -1).all(1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise ValueError(
                    f"expected finite values in {key} of {name}, got NaN or infinity in row {row}"
                )
        return a if a.dtype == np.float32 else a.astype(np.float32)
    return a
