"""MATLAB 5 files: agreement with SciPy, and damaged or hostile files refused with a clear message."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from dgmzoo.data.readers import mat

pytestmark = pytest.mark.usefixtures("bounded_memory_and_time")


@pytest.mark.parametrize("do_compression", [False, True])
def test_arrays_and_cells_written_by_scipy_are_read(do_compression, tmp_path):
    random = np.random.default_rng(0)
    arrays = {kind: (random.normal(size=(3, 5, 2)) * 9).astype(kind) for kind in ("f8", "f4", "u1", "i2", "i4")}
    rolls = [random.integers(0, 2, (rows, 3)).astype(np.uint8) for rows in (4, 1, 7)]
    cells = np.empty((1, 3), object)
    cells[0] = rolls
    savemat(tmp_path / "x.mat", {**arrays, "cells": cells, "word": "text"}, do_compression=do_compression)
    variables = mat.read(tmp_path / "x.mat", [*arrays, "cells"], 1 << 20)
    for name, array in arrays.items():
        np.testing.assert_array_equal(variables[name], array)
    for cell, roll in zip(variables["cells"], rolls, strict=True):
        np.testing.assert_array_equal(cell, roll)


def test_truncated_foreign_or_oversized_file_is_refused(tmp_path):
    path = tmp_path / "set.mat"
    savemat(path, {"ff": np.zeros((40, 30), np.uint8), "other": np.zeros(3)}, do_compression=True)
    assert set(mat.read(path, ["ff"], 1 << 26)) == {"ff"}
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="it lacks data"):
        mat.read(path, ["data"], 1 << 26)
    for content in (whole[:-20], b"MATLAB 7.3 MAT-file" + whole[19:], b"", whole[:130]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="MATLAB 5"):
            mat.read(path, ["ff"], 1 << 26)
    savemat(path, {"ff": {"field": 1}})
    with pytest.raises(ValueError, match="no array of real numbers"):
        mat.read(path, ["ff"], 1 << 26)
    savemat(path, {"ff": np.zeros((3000, 3000), np.uint8)}, do_compression=True)
    with pytest.raises(ValueError, match="at most 1048576 bytes unpacked"):
        mat.read(path, ["ff"], 1 << 20)


def compressed_element(element: bytes) -> bytes:
    """A compressed element of a MATLAB 5 file."""
    packed = zlib.compress(element)
    return struct.pack("<II", 15, len(packed)) + packed


def test_element_after_an_exhausted_limit_is_refused(tmp_path):
    head = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    filler = struct.pack("<II", 1, 99_992) + bytes(99_992)
    (tmp_path / "x.mat").write_bytes(head + compressed_element(filler) + compressed_element(bytes(40 << 20)))
    with pytest.raises(ValueError, match="at most 100000 bytes unpacked"):
        mat.read(tmp_path / "x.mat", ["ff"], 100_000)


def test_infinite_size_is_refused(tmp_path):
    savemat(tmp_path / "x.mat", {"ff": np.zeros((3, 2))})
    whole = bytearray((tmp_path / "x.mat").read_bytes())
    start = whole.find(struct.pack("<IIii", 5, 8, 3, 2))
    whole[start : start + 16] = struct.pack("<IIff", 7, 8, np.inf, 1)
    (tmp_path / "x.mat").write_bytes(whole)
    with pytest.raises(ValueError, match="damaged header"):
        mat.read(tmp_path / "x.mat", ["ff"], 1 << 20)


def test_truncated_compressed_data_are_refused(tmp_path):
    savemat(tmp_path / "x.mat", {"ff": np.arange(600.0)}, do_compression=True)
    whole = bytearray((tmp_path / "x.mat").read_bytes())
    size = struct.unpack_from("<I", whole, 132)[0]
    whole[132:136] = struct.pack("<I", size - 4)  # without the end of the checksum
    (tmp_path / "x.mat").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="cut short"):
        mat.read(tmp_path / "x.mat", ["ff"], 1 << 20)


def test_random_damage_raises_a_value_error_that_names_the_file(tmp_path):
    path = tmp_path / "set.mat"
    savemat(path, {"traindata": np.array([[np.eye(4), np.zeros((2, 4))]], object), "ff": np.eye(9)})
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for position in random.integers(124, len(whole), 3):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            mat.read(path, ["traindata", "ff"], 1 << 24)
        except ValueError as error:
            assert "set.mat" in str(error)
