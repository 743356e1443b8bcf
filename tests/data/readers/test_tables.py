"""Decoders of real-valued tables: the preprocessing of the RNADE and MAF papers, on generated files."""

import sys

import numpy as np
import pytest

from dgmzoo.data import lookup
from dgmzoo.data.readers import tables


def test_drop_correlated_drops_the_first_of_each_pair(random):
    a, b, c = random.normal(size=(3, 4000))
    x = np.stack([a, b, a + 0.01 * c, c, b + 0.01 * a, -a], 1)
    np.testing.assert_array_equal(tables.drop_correlated(x), x[:, [2, 3, 4, 5]])


def test_repeated_minimum_ignores_repeated_larger_values():
    x = np.random.default_rng(0).normal(size=(100, 3))
    x[:6, 0], x[:5, 1], x[:50, 2] = -9, -9, 9
    assert tables.has_repeated_minimum(x).tolist() == [True, False, False]


def test_power_has_the_noise_splits_and_normalisation_of_the_paper(folder, registered, random):
    x = random.normal(3, 2, (1000, 8))
    np.save(folder("power") / "power.npy", x)
    registered("power", splits={"train": 810, "valid": 90, "test": 100})
    arrays, _ = lookup.load_arrays("power")
    train_and_valid = np.concatenate([arrays["train/x"], arrays["valid/x"]])
    np.testing.assert_allclose(train_and_valid.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train_and_valid.std(0), 1, rtol=1e-5)
    shuffled = x.copy()
    np.random.RandomState(42).shuffle(shuffled)
    time = shuffled[:, -1]  # the time of day gets no noise
    np.testing.assert_allclose(arrays["test/x"][:, -1], (time[900:] - time[:900].mean()) / time[:900].std(), rtol=1e-4)
    for column, published, width in ((0, 0, 0.001), (1, 2, 0.01), (2, 4, 1), (3, 5, 1), (4, 6, 1)):
        values = np.concatenate([train_and_valid, arrays["test/x"]])[:, column]
        slope, start = np.polyfit(values, shuffled[:, published], 1)
        assert np.abs(slope * values + start - shuffled[:, published]).max() < 1.1 * width


def test_gas_hepmass_and_miniboone_are_normalised_as_in_the_paper(folder, registered, random):
    x = random.normal(size=(1000, 10))
    x[:, 3] = x[:, 4] + 1e-3 * x[:, 0]
    np.save(folder("gas") / "gas.npy", np.delete(x, 9, 1))
    registered("gas", splits={"train": 810, "valid": 90, "test": 100})
    arrays, _ = lookup.load_arrays("gas")
    np.testing.assert_allclose(np.concatenate(list(arrays.values())).std(0, ddof=1), 1, rtol=1e-4)
    np.save(folder("miniboone") / "miniboone.npy", random.normal(size=(1000, 43)))
    registered("miniboone", splits={"train": 810, "valid": 90, "test": 100})
    lookup.load_arrays("miniboone")
    signal, columns = np.arange(400) % 2, random.normal(5, 2, (400, 23))
    columns[:, 7] = random.integers(0, 3, 400)
    columns[1:13:2, 9], columns[1:11:2, 11] = -9, -9  # of the signal rows, 6 and 5: only 6 is dropped
    header = ",".join(["label", *(f"f{i}" for i in range(23))])
    np.savetxt(folder("hepmass") / "1000_train.csv", np.c_[signal, columns], delimiter=",", header=header, comments="")
    test = np.c_[signal, columns, np.ones(400)][:100]
    np.savetxt(folder("hepmass") / "1000_test.csv", test, delimiter=",", header=header + ",mass", comments="")
    registered("hepmass", splits={"train": 180, "valid": 20, "test": 50})
    arrays, _ = lookup.load_arrays("hepmass")
    remaining = np.delete(columns, (7, 9), 1)[signal == 1]
    expected = (remaining[:50] - remaining.mean(0)) / remaining.std(0, ddof=1)
    np.testing.assert_allclose(arrays["test/x"], expected, rtol=1e-4, atol=1e-5)


def test_bsds300_splits_are_read_from_hdf5(folder, registered, random):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder("bsds300") / "BSDS300.hdf5", "w") as out:
        for name, num in (("train", 20), ("validation", 5), ("test", 6)):
            out[name] = random.normal(size=(num, 63))
    registered("bsds300", splits={"train": 20, "valid": 5, "test": 6})
    assert lookup.load_arrays("bsds300")[0]["valid/x"].shape == (5, 63)


def test_bsds300_without_h5py_says_what_to_install(folder, registered, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (folder("bsds300") / "BSDS300.hdf5").write_bytes(b"")
    with pytest.raises(ValueError, match="pip install h5py"):
        lookup.load_arrays("bsds300")


def test_parkinsons_and_ionosphere_keep_their_continuous_columns(folder, registered, random):
    x = random.normal(size=(50, 22))
    lines = ["\t".join(["subject#", *(f"c{i}" for i in range(21))]), *("\t".join(map(str, row)) for row in x)]
    (folder("parkinsons") / "parkinsons_updrs.data").write_text("\n".join(lines))
    registered("parkinsons", splits={"all": 50}, shape=(19,))
    np.testing.assert_allclose(lookup.load_arrays("parkinsons")[0]["all/x"], x[:, 3:], rtol=1e-6)
    x = random.normal(size=(50, 34))
    (folder("ionosphere") / "ionosphere.data").write_text("\n".join(",".join([*map(str, row), "g"]) for row in x))
    registered("ionosphere", splits={"all": 50})
    np.testing.assert_allclose(lookup.load_arrays("ionosphere")[0]["all/x"], x[:, 2:], rtol=1e-6)
