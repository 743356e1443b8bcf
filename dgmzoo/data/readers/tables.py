"""Decodes the real-valued data sets of the RNADE and MAF papers, such as wine and power.

RNADE (Uria, Murray & Larochelle 2013, section 4.1): discrete columns are dropped, and one of each pair of columns whose
correlation is above .98; each of ten 90/10 splits is normalised by its own training rows (when the set is loaded). MAF
(Papamakarios, Pavlakou & Murray 2017, appendix D): columns, noise, splits and normalisation are part of the set.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.readers import files, text_table

Arrays = dict[str, np.ndarray]
Paths = Mapping[str, Path]


def drop_correlated(x: np.ndarray, above: float = 0.98) -> np.ndarray:
    """Drop the first column that correlates above `above` with another, until there is none.

    >>> drop_correlated(np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 5.0], [3.0, 6.0, 1.0]])).tolist()
    [[2.0, 0.0], [4.0, 5.0], [6.0, 1.0]]
    """
    columns = list(range(x.shape[1]))
    is_close = np.corrcoef(x, rowvar=False) > above
    while (first := next((c for c in columns if is_close[c, columns].sum() > 1), None)) is not None:
        columns.remove(first)
    return x[:, columns]


def has_repeated_minimum(x: np.ndarray, times: int = 5) -> np.ndarray:
    """Columns whose *smallest* value occurs more than `times` times, bool [columns]: MAF drops them.

    >>> has_repeated_minimum(np.array([[0, 1], [0, 2], [3, 3]]), times=1).tolist()
    [True, False]
    """
    return (x == x.min(0)).sum(0) > times


def _decode_rnade(paths: Paths, entry: Entry, columns: int, keep: slice) -> Arrays:
    """Decode the first `columns` columns of a text table, of which `keep` are continuous."""
    _, values = text_table.read_table(paths[entry.files[0]], columns, entry.max_bytes)
    return {"all/x": drop_correlated(values[:, keep]).astype(np.float32)}


def wine(paths: Paths, entry: Entry) -> Arrays:
    """Decode eleven measurements of wines; the quality, a whole number, is dropped."""
    return _decode_rnade(paths, entry, 12, slice(0, 11))


def parkinsons(paths: Paths, entry: Entry) -> Arrays:
    """Decode the voice measurements without subject, age and sex; 15 columns remain."""
    return _decode_rnade(paths, entry, 22, slice(3, 22))


def ionosphere(paths: Paths, entry: Entry) -> Arrays:
    """Decode radar returns without the class and the first two columns, which take two values and one value."""
    return _decode_rnade(paths, entry, 34, slice(2, 34))


def _read_matrix(path: Path) -> np.ndarray:
    """Read a finite real matrix, float64, from a `.npy` file."""
    x = files.read_npy(path)
    if x.ndim != 2 or x.dtype.kind != "f" or not np.isfinite(x).all():
        raise ValueError(f"expected a finite real matrix, got {x.dtype} {x.shape} in {path}")
    return np.asarray(x, np.float64)


def _split_by_tenths(x: np.ndarray) -> dict[str, np.ndarray]:
    """Split rows: the last tenth as test, the last tenth of the rest as validation."""
    test = int(0.1 * len(x))
    valid = int(0.1 * (len(x) - test))
    return {"train": x[: -test - valid], "valid": x[-test - valid : -test], "test": x[-test:]}


def _normalise(splits: Mapping[str, np.ndarray], reference: np.ndarray, ddof: int) -> Arrays:
    """Normalise columns by mean and standard deviation of the rows `reference`."""
    mean, scale = reference.mean(0), reference.std(0, ddof=ddof)
    if not (scale > 0).all():
        raise ValueError("expected columns that vary, got a constant one")
    return {f"{split}/x": ((x - mean) / scale).astype(np.float32) for split, x in splits.items()}


def power(paths: Paths, entry: Entry) -> Arrays:
    """Decode power: two columns dropped, rows shuffled, uniform noise on five, by the frozen `RandomState(42)`."""
    x = _read_matrix(paths["power.npy"]).copy()
    random = np.random.RandomState(42)
    random.shuffle(x)
    x = np.delete(x, (1, 3), axis=1)
    rows = len(x)
    voltage, gap, meters = 0.01 * random.rand(rows, 1), 0.001 * random.rand(rows, 1), random.rand(rows, 3)
    splits = _split_by_tenths(x + np.hstack((gap, voltage, meters, np.zeros((rows, 1)))))
    return _normalise(splits, np.vstack((splits["train"], splits["valid"])), 0)


def gas(paths: Paths, entry: Entry) -> Arrays:
    """Decode gas: sensor columns without correlated ones, normalised by all rows."""
    x = drop_correlated(_read_matrix(paths["gas.npy"]))
    return _normalise(_split_by_tenths(x), x, 1)


def hepmass(paths: Paths, entry: Entry) -> Arrays:
    """Decode hepmass: signal rows of the `1000` files, repeating columns dropped, normalised by the training file."""
    _, train = text_table.read_table(paths["1000_train.csv"], limit=8 << 30)
    _, test = text_table.read_table(paths["1000_test.csv"], limit=8 << 30)
    train, test = train[train[:, 0] == 1, 1:], test[test[:, 0] == 1, 1:]
    test = test[:, : train.shape[1]]  # the published test file has an extra column
    normalised = _normalise({"train": train, "test": test}, train, 1)
    columns = ~has_repeated_minimum(train)
    valid = int(0.1 * len(train))
    train, test = normalised["train/x"][:, columns], normalised["test/x"][:, columns]
    return {"train/x": train[:-valid], "valid/x": train[-valid:], "test/x": test}


def miniboone(paths: Paths, entry: Entry) -> Arrays:
    """Decode miniboone: the paper's array, from which outliers and repeating columns are already removed."""
    splits = _split_by_tenths(_read_matrix(paths["miniboone.npy"]))
    return _normalise(splits, np.vstack((splits["train"], splits["valid"])), 0)


def bsds300(paths: Paths, entry: Entry) -> Arrays:
    """Decode patches of 8x8 pixels without their mean and last pixel, as published."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError("expected h5py to read BSDS300.hdf5, got none; `pip install h5py`") from error
    with h5py.File(paths["BSDS300.hdf5"], "r") as file:
        names = {"train": "train", "valid": "validation", "test": "test"}
        for split, name in names.items():
            expected, shape = (entry.splits[split], *entry.shape), getattr(file.get(name), "shape", None)
            if shape != expected or file[name].dtype.kind != "f":
                raise ValueError(f"expected {name} real {expected}, got {shape} in {paths['BSDS300.hdf5']}")
        return {f"{split}/x": file[name][:].astype(np.float32) for split, name in names.items()}
