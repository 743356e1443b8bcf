"""`Data`: the config of a data set, its split and its encoding; `from_arrays`: make such a config from arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dgmzoo.data.registry import catalogue

Encoding = Literal["dynamic", "static", "threshold", "gray", "classes"]


@dataclass(frozen=True)
class Data:
    """A data set, its split, and the encoding of its values.

    >>> Data("mnist", encoding="static", num_validation=10_000)
    Data(name='mnist', encoding='static', num_validation=10000, seed=0, fold=0, missing=0.0, standardize=True)
    """

    name: str = "digits"
    """A registered set (`dgmzoo data list`), or the path of a .npy, .npz, .csv or a folder of images."""
    encoding: Encoding | None = None
    """dynamic: a fresh Bernoulli sample each step; static: one sample by `seed`; threshold: 1 above one half; gray:
    intensities in [0, 1]; classes: whole numbers, for a categorical likelihood. None: the encoding of the set's
    papers."""
    num_validation: int | None = None
    """Rows held out of train (and of the set's own validation rows, if any), chosen by `seed`; 0: none. None: the
    set's own split."""
    seed: int = 0
    """Seed of the splits that a set does not have, of static binarization, and of the binarization for evaluation."""
    fold: int = 0
    """Number of the 90/10 split, of ten, of a table (RNADE's protocol)."""
    missing: float = 0.0
    """Probability that an element of x is hidden in all splits, chosen by `seed` alone (missing completely at random). The
    field `mask` is False there, and x holds no trace of the value; the same data without it have the true values."""
    standardize: bool = True
    """Standardise the columns of a real-valued table of your own by mean and standard deviation of the training rows; nats
    are those of the original units. False where the support matters (positive values). Registered sets follow their
    protocol."""
    arrays: Any = field(default=None, compare=False, repr=False, metadata={"cli": False})
    """Arrays in memory, as `from_arrays` stores them: split -> (rows, labels or None)."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"expected the name of a data set, got {self.name!r}")
        if self.encoding is not None and self.encoding not in get_args(Encoding):
            raise ValueError(
                f"expected data.encoding one of {', '.join(get_args(Encoding))}, or None, got {self.encoding!r}"
            )
        _check_whole_number("num_validation", self.num_validation, optional=True)
        _check_whole_number("seed", self.seed)
        _check_whole_number("fold", self.fold, below=10)
        if isinstance(self.missing, bool) or not isinstance(self.missing, int | float) or not 0 <= self.missing < 1:
            raise ValueError(f"expected data.missing to be a probability, 0 or more and below 1, got {self.missing!r}")
        if not isinstance(self.standardize, bool):
            raise ValueError(f"expected data.standardize to be True or False, got {self.standardize!r}")


def _check_whole_number(name: str, value: Any, optional: bool = False, below: int = 2**63) -> None:
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
    """Make a data config of arrays in memory.

    Args:
      train: rows [N, ...], copied when they are loaded (a read-only memory map stays on disk), or a mapping with `x` and optionally `label`, `context` and `mask`; a Hugging Face
        `datasets` object or a `tf.data` set of such rows is read through its NumPy view.
      valid, test: the same. With `train` alone, a tenth each is chosen from it by the seed; else `test` is required.
      name: name of the set in records; not that of a registered set.
      label: labels [N] of the training rows, or a mapping from split to labels.
      options: further fields of `Data`.

    Raises:
      ValueError: no rows, a registered name, or labels of an unknown split. Values are checked by `load_dataset`.

    >>> from_arrays([[0.1, 0.7]] * 30, name="mine", encoding="gray")
    Data(name='mine', encoding='gray', num_validation=None, seed=0, fold=0, missing=0.0, standardize=True)
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
    arrays = {split: (rows, labels.get(split)) for split, rows in splits.items() if rows is not None}
    return Data(name=name, arrays=arrays, **options)
