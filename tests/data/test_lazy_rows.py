"""Rows gathered on access from mapped or concatenated arrays equal the rows of copies."""

import tracemalloc

import numpy as np
import pytest

from dgmzoo.data import Data, LazyRows, from_arrays, load_dataset, row_splits, user_data


def test_rows_of_a_mapped_file_are_gathered_without_a_copy(monkeypatch, tmp_path):
    monkeypatch.setattr(row_splits, "LAZY_ABOVE_BYTES", 1000)
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 1)).astype(np.uint8)
    np.save(tmp_path / "big.npy", x)
    data = load_dataset(Data(str(tmp_path / "big.npy"), encoding="dynamic"))
    rows = data.splits["train"]["x"]
    assert isinstance(rows, LazyRows) and isinstance(rows.base, np.memmap) and len(rows) == 240
    index = np.array([[3, 1], [0, 2]])
    np.testing.assert_array_equal(rows[index], x[data.row_numbers["train"]][index])
    np.testing.assert_array_equal(np.asarray(rows), x[data.row_numbers["train"]])
    static = load_dataset(Data(str(tmp_path / "big.npy"), encoding="static")).splits["train"]["x"]
    assert isinstance(static, LazyRows) and static.dtype == np.uint8
    monkeypatch.setattr(row_splits, "LAZY_ABOVE_BYTES", 1 << 30)
    whole = load_dataset(Data(str(tmp_path / "big.npy"), encoding="static")).splits["train"]["x"]
    assert isinstance(whole, np.ndarray)
    np.testing.assert_array_equal(static[index], whole[index])
    np.testing.assert_array_equal(static[5], whole[5])
    np.testing.assert_array_equal(np.asarray(static), whole)
    copied = load_dataset(Data(str(tmp_path / "big.npy"), encoding="dynamic"))
    assert copied.sha256 == data.sha256
    np.testing.assert_array_equal(copied.evaluation_rows("test")["x"], data.evaluation_rows("test")["x"])


@pytest.mark.parametrize("dtype", [np.float64, np.int64, bool])
def test_mapped_file_of_another_dtype_is_converted_as_it_is_read(dtype, monkeypatch, tmp_path):
    monkeypatch.setattr(row_splits, "LAZY_ABOVE_BYTES", 1 << 20)
    x = np.random.default_rng(0).integers(0, 2, (20_000, 200)).astype(dtype)
    np.save(tmp_path / "big.npy", x)
    expected = load_dataset(from_arrays(x))
    half = x.astype(expected.entry.dtype).nbytes // 2
    monkeypatch.setattr(user_data, "_CHUNK_BYTES", 1 << 20)
    tracemalloc.start()
    data = load_dataset(Data(str(tmp_path / "big.npy")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if dtype is np.float64:  # chunks of the other dtypes are small in comparison
        assert peak < half + (6 << 20)
    assert isinstance(data.splits["train"]["x"], LazyRows) and data.sha256 == expected.sha256
    np.testing.assert_array_equal(data.splits["train"]["x"][:9], expected.splits["train"]["x"][:9])
    assert data.splits["train"]["x"][3].dtype == expected.splits["train"]["x"].dtype
    np.testing.assert_array_equal(data.evaluation_rows("test")["x"], expected.evaluation_rows("test")["x"])


def test_rows_of_pooled_splits_are_gathered_without_a_copy(monkeypatch):
    x = np.random.default_rng(0).random((400, 6)).astype(np.float32)
    config = from_arrays(x[:200], valid=x[200:300], test=x[300:], num_validation=40)
    whole = load_dataset(config)
    monkeypatch.setattr(row_splits, "LAZY_ABOVE_BYTES", 1000)
    data = load_dataset(config)
    for split in ("train", "valid"):
        rows = data.splits[split]["x"]
        assert isinstance(rows, LazyRows)
        np.testing.assert_array_equal(np.asarray(rows), whole.splits[split]["x"])
        index = np.array([[3, 1], [0, 39]])
        np.testing.assert_array_equal(rows[index], whole.splits[split]["x"][index])
        np.testing.assert_array_equal(rows[5], whole.splits[split]["x"][5])
