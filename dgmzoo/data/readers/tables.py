"""Decoders of real-valued tables: UCI's as RNADE used them, and the five sets of the MAF paper with its
preprocessing.

RNADE (Uria, Murray & Larochelle 2013, section 4.1): discrete columns are dropped, and one of each pair of
columns whose correlation is above .98; each of ten 90/10 splits is normalised by its own training rows
(`dataset.load` does that). MAF (Papamakarios, Pavlakou & Murray 2017, appendix D): columns, noise, splits and
normalisation are part of the set.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.readers import files

Arrays = dict[str, np.ndarray]
Paths = Mapping[str, Path]


def drop_correlated(x: np.ndarray, above: float = 0.98) -> np.ndarray:
    """Columns left when the first that correlates above `above` with another goes, again and again."""
    kept = list(range(x.shape[1]))
    close = np.corrcoef(x, rowvar=False) > above
    while (first := next((c for c in kept if close[c, kept].sum() > 1), None)) is not None:
        kept.remove(first)
    return x[:, kept]


def repeats(x: np.ndarray, times: int = 5) -> np.ndarray:
    """[columns] where the *smallest* value occurs more than `times` times: MAF's rule for columns to drop."""
    return (x == x.min(0)).sum(0) > times


def _rnade(paths: Paths, entry: Entry, columns: int, keep: slice) -> Arrays:
    _, values = files.table(paths[entry.files[0]], columns, entry.limit)
    return {"all/x": drop_correlated(values[:, keep]).astype(np.float32)}


def wine(paths: Paths, entry: Entry) -> Arrays:
    """Eleven measurements; the quality, a whole number, is dropped."""
    return _rnade(paths, entry, 12, slice(0, 11))


def parkinsons(paths: Paths, entry: Entry) -> Arrays:
    """Without subject, age and sex; 15 columns are left."""
    return _rnade(paths, entry, 22, slice(3, 22))


def ionosphere(paths: Paths, entry: Entry) -> Arrays:
    """Without the first two columns, which take two and one values, and the class."""
    return _rnade(paths, entry, 34, slice(2, 34))


def _matrix(path: Path) -> np.ndarray:
    x = files.npy(path)
    if x.ndim != 2 or x.dtype.kind != "f" or not np.isfinite(x).all():
        raise ValueError(f"expected a finite real matrix, got {x.dtype} {x.shape} in {path}")
    return np.asarray(x, np.float64)


def _tail_splits(x: np.ndarray) -> dict[str, np.ndarray]:
    """The last tenth as test, the last tenth of the rest as validation."""
    test = int(0.1 * len(x))
    valid = int(0.1 * (len(x) - test))
    return {"train": x[: -test - valid], "valid": x[-test - valid : -test], "test": x[-test:]}


def _normalised(splits: Mapping[str, np.ndarray], by: np.ndarray, ddof: int) -> Arrays:
    mean, scale = by.mean(0), by.std(0, ddof=ddof)
    if not (scale > 0).all():
        raise ValueError("expected columns that vary, got a constant one")
    return {f"{split}/x": ((x - mean) / scale).astype(np.float32) for split, x in splits.items()}


def power(paths: Paths, entry: Entry) -> Arrays:
    """Two columns dropped, shuffled, uniform noise on five columns: draws of the frozen `RandomState(42)`."""
    x = _matrix(paths["power.npy"]).copy()
    random = np.random.RandomState(42)
    random.shuffle(x)
    x = np.delete(x, (1, 3), axis=1)
    rows = len(x)
    voltage, gap, meters = 0.01 * random.rand(rows, 1), 0.001 * random.rand(rows, 1), random.rand(rows, 3)
    splits = _tail_splits(x + np.hstack((gap, voltage, meters, np.zeros((rows, 1)))))
    return _normalised(splits, np.vstack((splits["train"], splits["valid"])), 0)


def gas(paths: Paths, entry: Entry) -> Arrays:
    """Sensor columns, correlated ones dropped, normalised by all rows."""
    x = drop_correlated(_matrix(paths["gas.npy"]))
    return _normalised(_tail_splits(x), x, 1)


def hepmass(paths: Paths, entry: Entry) -> Arrays:
    """Signal rows of the `1000` files, repeating columns dropped, normalised by their training file."""
    _, train = files.table(paths["1000_train.csv"], limit=8 << 30)
    _, test = files.table(paths["1000_test.csv"], limit=8 << 30)
    train, test = train[train[:, 0] == 1, 1:], test[test[:, 0] == 1, 1:]
    test = test[:, : train.shape[1]]  # the published test file has a column too many
    both = _normalised({"train": train, "test": test}, train, 1)
    left = ~repeats(train)
    valid = int(0.1 * len(train))
    train, test = both["train/x"][:, left], both["test/x"][:, left]
    return {"train/x": train[:-valid], "valid/x": train[-valid:], "test/x": test}


def miniboone(paths: Paths, entry: Entry) -> Arrays:
    """The paper's array, whose outliers and repeating columns are gone already."""
    splits = _tail_splits(_matrix(paths["miniboone.npy"]))
    return _normalised(splits, np.vstack((splits["train"], splits["valid"])), 0)


def bsds300(paths: Paths, entry: Entry) -> Arrays:
    """Patches of 8x8 pixels without their mean and last pixel, as published."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError("expected h5py to read BSDS300.hdf5, got none; `pip install h5py`") from error
    with h5py.File(paths["BSDS300.hdf5"], "r") as store:
        names = {"train": "train", "valid": "validation", "test": "test"}
        for split, name in names.items():
            want, got = (entry.splits[split], *entry.shape), getattr(store.get(name), "shape", None)
            if got != want or store[name].dtype.kind != "f":
                raise ValueError(f"expected {name} real {want}, got {got} in {paths['BSDS300.hdf5']}")
        return {f"{split}/x": store[name][:].astype(np.float32) for split, name in names.items()}
