"""A user's arrays in memory: `collect_arrays` reads them with their masks, `column_names` the names of their columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
_OTHER_FIELDS = ("label", "context", "mask")
_FIELD_OF_COLUMN = {"image": "x", "img": "x", "pixel_values": "x", "labels": "label", "target": "label"}
"""Names of columns in other libraries."""


def collect_arrays(splits: Mapping[str, tuple[Any, Any]]) -> Arrays:
    """The arrays of `Data.arrays` as `split/field`. The mask of a `numpy.ma` array of x becomes the field `mask`.

    Args:
      splits: split -> (rows or a mapping of fields, labels or None).

    Raises:
      ValueError: unknown fields, rows of different shapes, or masked labels or contexts.

    >>> list(collect_arrays({"train": ([[1, 2], [3, 4]], [0, 1])}))
    ['train/x', 'train/label']
    >>> collect_arrays({"train": (np.ma.masked_array([[1, 2]], [[False, True]]), None)})["train/mask"].tolist()
    [[True, False]]
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
            fields = {field: _as_array(values) for field, values in fields.items()}
        except ValueError as error:
            raise ValueError(f"expected rows of one shape in {split}, got {error}") from error
        arrays |= {f"{split}/{field}": a for field, a in _take_over_mask(split, fields).items()}
    return arrays


def column_names(splits: Mapping[str, tuple[Any, Any]]) -> tuple[str, ...]:
    """Names of the columns of x, where the training rows are a table with names (a pandas DataFrame); else empty."""
    rows = splits["train"][0]
    x = rows.get("x") if isinstance(rows, Mapping) else rows
    columns = getattr(x, "columns", None)
    return tuple(map(str, columns)) if columns is not None else ()


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


def _as_array(values: Any) -> np.ndarray:
    """An array; read-only mapped arrays, masked arrays and lists of masked arrays stay what they are."""
    if isinstance(values, np.memmap):
        return np.array(values) if values.flags.writeable else values
    if isinstance(values, np.ma.MaskedArray):
        return values
    if isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values):
        return np.ma.stack(values)  # numpy.asarray would drop the masks of the rows
    return np.asarray(values)


def _take_over_mask(split: str, fields: Arrays) -> Arrays:
    """The fields without masked arrays: the mask of x joins the field `mask`, where True is observed."""
    fields = dict(fields)
    x = fields["x"]
    for field in set(fields) - {"x"}:
        if np.ma.is_masked(fields[field]):
            raise ValueError(
                f"expected {split}/{field} without a mask, got a masked array; only elements of x may be missing: give the "
                f"mask of x as the field mask, and leave out rows whose {field} is missing"
            )
        fields[field] = np.asarray(fields[field])
    if isinstance(x, np.ma.MaskedArray):
        fields["x"] = np.asarray(x.data)
        if x.mask is not np.ma.nomask:
            observed = ~np.ma.getmaskarray(x)
            given = fields.get("mask")
            if given is not None:
                if given.shape != x.shape[: given.ndim] or not np.isin(given, (0, 1)).all():
                    raise ValueError(
                        f"expected {split}/mask to hold True (observed) and False for the first axes of x {x.shape}, got "
                        f"{given.dtype} {given.shape}"
                    )
                observed &= given.astype(bool).reshape(*given.shape, *(1,) * (x.ndim - given.ndim))
            fields["mask"] = observed
    return fields
