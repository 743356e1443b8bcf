"""The data part of an experiment: `Data`, and `from_arrays` for arrays in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dgmzoo.data.registry import catalogue

Encoding = Literal["dynamic", "static", "threshold", "gray", "classes"]


@dataclass(frozen=True)
class Data:
    """What is learned from: a set, its split and what a pixel means."""

    name: str = "digits"
    """A registered set (`dgmzoo data list`), or the path of a .npy, .npz, .csv or a folder of images."""
    encoding: Encoding | None = None
    """dynamic: a fresh Bernoulli draw each step; static: one draw by `seed`; threshold: above one half; gray:
    intensities in [0, 1]; classes: whole numbers, for a categorical likelihood. None: what the set's papers do."""
    num_validation: int | None = None
    """Rows held out of train (with the set's own validation rows, if any), drawn by `seed`; 0: none. None:
    its own split."""
    seed: int = 0
    """Draws the splits a set does not have, static binarization and the fixed draw that evaluation reads."""
    fold: int = 0
    """Which of the ten 90/10 splits of a table (RNADE's protocol)."""
    arrays: Any = field(default=None, compare=False, repr=False, metadata={"cli": False})
    """Arrays in memory, put here by `from_arrays`."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"expected the name of a data set, got {self.name!r}")
        if self.encoding is not None and self.encoding not in get_args(Encoding):
            raise ValueError(
                f"expected data.encoding one of {', '.join(get_args(Encoding))}, or None, got {self.encoding!r}"
            )
        _whole("num_validation", self.num_validation, optional=True)
        _whole("seed", self.seed)
        _whole("fold", self.fold, below=10)


def _whole(name: str, value: Any, optional: bool = False, below: int = 2**63) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < below:
        limit = f"0 to {below - 1}" if below < 2**63 else "0 or more"
        raise ValueError(f"expected data.{name} to be a whole number, {limit}, got {value!r}")


def from_arrays(
    train: Any,
    valid: Any = None,
    test: Any = None,
    name: str = "arrays",
    label: Any = None,
    **options: Any,
) -> Data:
    """A data config over arrays in memory; `options` are further fields of `Data`.

    Args:
      train: rows [N, ...], or a mapping with `x` and perhaps `label`, `context` and `mask`; a Hugging Face `datasets`
        object or a `tf.data` set of such rows is read through its NumPy view.
      valid, test: the same. With `train` alone, a tenth each is drawn from it by the seed; else `test` must be given.
      label: labels [N] of the training rows, or a mapping from split to labels.
    """
    if train is None:
        raise ValueError("expected rows to train on, got None")
    if name in catalogue():
        raise ValueError(f"expected a name of your own for arrays in memory, got {name!r}, which is a registered set")
    splits = {"train": train, "valid": valid, "test": test}
    labels = label if isinstance(label, Mapping) else {"train": label}
    unknown = set(labels) - set(splits)
    if unknown:
        raise ValueError(f"expected labels of train, valid or test, got {', '.join(sorted(unknown))}")
    given = {split: (rows, labels.get(split)) for split, rows in splits.items() if rows is not None}
    return Data(name=name, arrays=given, **options)
