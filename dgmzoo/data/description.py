"""`description_of`: a data set without its values, as JSON; `described_dataset`: load its values when they are read.

A trained model is loaded and sampled from the description alone. Values are needed for evaluation.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dgmzoo.data.dataset import Dataset
from dgmzoo.data.entry import Entry
from dgmzoo.data.observe import Observe
from dgmzoo.data.standardize import Standardization

_OF_ENTRY = ("name", "title", "kind", "maximum", "encoding", "folds", "dtype", "num_classes")
_OF_ENTRY += ("shape", "display_shape", "columns")


def description_of(dataset: Dataset) -> dict[str, Any]:
    """Everything that a model needs to know of its data, as JSON: shapes, encoding, words, standardization; no rows.

    >>> from dgmzoo.data import Data, load_dataset
    >>> description_of(load_dataset(Data("toy_moons")))["splits"]["test"]
    {'x': [[10000, 2], 'float32']}
    """
    scaling = dataset.standardization
    return {
        "sha256": dataset.sha256,
        "shape": list(dataset.shape),
        "encoding": dataset.encoding,
        "observe": dataclasses.asdict(dataset.observe),
        "seed": dataset.seed,
        "num_classes": dataset.num_classes,
        "vocabulary": None if dataset.vocabulary is None else list(dataset.vocabulary),
        "standardization": scaling and {name: values.tolist() for name, values in scaling._asdict().items()},
        "entry": {name: getattr(dataset.entry, name) for name in _OF_ENTRY},
        "splits": {
            split: {name: [list(leaf.shape), str(np.dtype(leaf.dtype))] for name, leaf in rows.items()}
            for split, rows in dataset.splits.items()
        },
    }


def described_dataset(description: Mapping[str, Any], load: Callable[[], Dataset]) -> Dataset:
    """The data set of a description, whose rows are loaded when one of them is read.

    Args:
      load: loads the data set.

    Raises:
      ValueError: not a description. When rows are read: the loaded data have other content.
    """
    try:
        entry = {name: _tuple(value) for name, value in description["entry"].items() if name in _OF_ENTRY}
        splits, sha256, scaling = description["splits"], description["sha256"], description["standardization"]

        @functools.cache
        def real() -> Dataset:
            dataset = load()
            if dataset.sha256 != sha256:
                raise ValueError(
                    f"expected the data that the model was trained on, {entry['name']!r} with digest {sha256[:12]}, got "
                    f"other content of {dataset.name!r} (digest {dataset.sha256[:12]})"
                )
            if (loaded := description_of(dataset)["splits"]) != splits:
                raise ValueError(f"expected rows of the shapes that the model was trained on, {splits}, got {loaded}")
            return dataset

        rows = {
            split: {
                name: _RowsWhenRead(shape, dtype, lambda split=split, name=name: real().splits[split][name])
                for name, (shape, dtype) in fields.items()
            }
            for split, fields in splits.items()
        }
        numbers = {
            split: _RowsWhenRead(fields["x"][0][:1], "int64", lambda split=split: real().row_numbers[split])
            for split, fields in splits.items()
        }
        return Dataset(
            name=entry["name"],
            sha256=sha256,
            splits=rows,
            shape=_tuple(description["shape"]),
            encoding=description["encoding"],
            observe=Observe(**description["observe"]),
            row_numbers=numbers,
            seed=description["seed"],
            num_classes=description["num_classes"],
            vocabulary=_tuple(description["vocabulary"]),
            entry=Entry(paper="", licence="", splits={}, use="", **entry),
            standardization=scaling and Standardization(**{name: np.asarray(a, float) for name, a in scaling.items()}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected the description of a data set, got one with another form ({type(error).__name__}: {error})"
        ) from error


class _RowsWhenRead:
    """An array whose shape and dtype are known, and whose values are loaded when they are read."""

    def __init__(self, shape: list[int], dtype: str, load: Callable[[], Any]):
        self.shape, self.dtype, self._load = tuple(shape), np.dtype(dtype), load
        self.ndim = len(self.shape)
        self.nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return self._load()[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._load()[:], dtype)


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list | tuple) else value
