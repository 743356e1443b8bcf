"""Files that lie are refused with a clear message in bounded memory and time; nothing is unpickled."""

import gzip
import io
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from dgmzoo.data import Data, load_dataset
from dgmzoo.data.readers import files, mat
from tests.support import file_writers

BOUND = 64 << 20


class Trap:
    """Unpickling this is the mistake that the tests look for."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.fixture(autouse=True)
def bounded():
    """Each test here stays below `BOUND` bytes and five seconds of computing."""
    tracemalloc.start()
    start = time.process_time()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < BOUND and time.process_time() - start < 5


def pickled() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Trap()], dtype=object), allow_pickle=True)
    return out.getvalue()


def zipped(contents: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def header(text: str, body: bytes = b"") -> bytes:
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + body


LYING = "{'descr': '|u1', 'fortran_order': False, 'shape': (100000000000,), }"
HOSTILE = {
    "objects.npy": (pickled(), "may hold pickled objects"),
    "records.npy": (npy(np.zeros(3, [("a", "i4")])), "may hold pickled objects"),
    "text.npy": (npy(np.array(["a", "b"])), "expected numbers"),
    "lying.npy": (header(LYING, b"123"), "truncated or altered"),
    "cut.npy": (npy(np.zeros((50, 4)))[:-9], "truncated or altered"),
    "longer.npy": (npy(np.zeros((50, 4))) + b"more", "truncated or altered"),
    "code.npy": (header("{'descr': __import__('os').system('false'), 'shape': (1,)}"), "NumPy array file"),
    "shape.npy": (
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 8), }", bytes(8)),
        "NumPy array file",
    ),
    "minus.npy": (
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -8), }", bytes(8)),
        "NumPy array file",
    ),
    "head.npz": (
        zipped({"x.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 80 << 20) + bytes(80 << 20)}),
        "a header of",
    ),
    "deep.npy": (header("(" * 9000), "NumPy array file"),
    "bare.npy": (pickle.dumps([1, 2]), "NumPy array file"),
    "empty.npy": (b"", "NumPy array file"),
    "objects.npz": (zipped({"x.npy": pickled()}), "may hold pickled objects"),
    "pickle.npz": (zipped({"x.pkl": pickle.dumps(Trap())}), r"\.npy members only"),
    "lying.npz": (zipped({"x.npy": header(LYING, b"123")}), "announces more"),
    "climbing.npz": (zipped({"../../x.npy": npy(np.zeros((9, 2)))}), "expected either x or train"),
    "bomb.npz": (zipped({"x.npy": header(LYING, bytes(40 << 20)), "y.npy": bytes(1)}), "announces more"),
    "cut.npz": (zipped({"x.npy": npy(np.arange(5000.0))})[:-200], "whole zip file"),
    "names.npz": (zipped({"weights.npy": npy(np.zeros((9, 2)))}), "expected either x or train"),
    "words.csv": (b"a,b\n1,2\n3,x\n", "table of numbers"),
    "ragged.csv": (b"1,2\n3\n", "table of numbers"),
    "hollow.csv": (b"", "table of numbers"),
    "oneline.csv": (b"1," * (1 << 20), "lines below 1048576 bytes"),
    "binary.csv": (bytes(range(128, 256)), "table of numbers"),
    "nan.csv": (b"1,2\n3,nan\n4,5\n", "NaN or infinity in row 1"),
    "set.pkl": (pickle.dumps(Trap()), r"expected a \.npy, \.npz, \.csv"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_of_ones_own(name, tmp_path):
    content, message = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(Data(str(tmp_path / name)))
    assert name in str(caught.value)


def test_zip_bomb_is_refused_by_what_it_announces(tmp_path):
    (tmp_path / "bomb.npz").write_bytes(zipped({f"{i}.npy": bytes(8 << 20) for i in range(3)}))
    with pytest.raises(ValueError, match="at most 16777216 bytes unpacked, got 25165824 announced"):
        files.read_npz(tmp_path / "bomb.npz", 16 << 20)


def test_zip_bomb_that_announces_too_little_is_refused(tmp_path):
    data = bytearray(zipped({"x.npy": npy(np.zeros(1 << 18))}))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.find(signature) + at
        data[place : place + 4] = struct.pack("<I", 200)
    (tmp_path / "bomb.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"whole zip file, got .*bomb\.npz"):
        files.read_npz(tmp_path / "bomb.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_a_changed_byte_is_refused_or_right(save, tmp_path):
    x = np.random.default_rng(0).integers(0, 9, (300, 20))
    save(tmp_path / "x.npz", x=x)
    whole, refused = (tmp_path / "x.npz").read_bytes(), 0
    for at in range(0, len(whole), 50):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        (tmp_path / "x.npz").write_bytes(damaged)
        try:
            np.testing.assert_array_equal(files.read_npz(tmp_path / "x.npz").get("x", x), x)
        except ValueError as error:
            assert "x.npz" in str(error)
            refused += 1
    assert refused > 0.9 * len(whole) / 50


@pytest.mark.parametrize(
    "reader", [files.read_npz, files.read_idx, files.read_unpacked, files.read_npy, files.read_table]
)
def test_an_absent_file_is_no_damaged_file(reader, tmp_path):
    with pytest.raises(FileNotFoundError):
        reader(tmp_path / "x.gz")


def test_npz_in_an_unusual_compression_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", npy(np.zeros((9, 2))))
    with pytest.raises(ValueError, match="stored or deflated"):
        files.read_npz(tmp_path / "x.npz")


def test_idx_that_lies(tmp_path):
    path = tmp_path / "images"
    good = file_writers.idx(np.zeros((4, 3, 3), np.uint8))
    lies = {
        "expected an idx file": b"\0\0\x0d\x03" + good[4:],
        "ends in its header": good[:9],
        "at most 134217728 bytes": b"\0\0\x08\x03" + struct.pack(">III", 2**32 - 1, 28, 28),
        "expected 36 bytes": good[:-1],
        "got more": good + b"\0",
    }
    for message, content in lies.items():
        for name, packed in (("images", content), ("images.gz", gzip.compress(content))):
            path.with_name(name).write_bytes(packed)
            with pytest.raises(ValueError, match=message):
                files.read_idx(path.with_name(name), 1 << 27)


@pytest.mark.parametrize("damage", ["cut", "flipped", "not gz"])
def test_damaged_gzip(damage, tmp_path):
    packed = gzip.compress(file_writers.idx(np.random.default_rng(0).integers(0, 256, (90, 28, 28)).astype(np.uint8)))
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    content = {"cut": packed[:-3000], "flipped": bytes(flipped), "not gz": b"<html>404</html>"}[damage]
    (tmp_path / "x.gz").write_bytes(content)
    for reader in (files.read_idx, files.read_unpacked):
        with pytest.raises(ValueError, match=r"whole gzip file, got .*x\.gz"):
            reader(tmp_path / "x.gz")


def test_gzip_bomb(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(48 << 20)))
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        files.read_unpacked(tmp_path / "bomb.gz", 1 << 20)


def test_mat_files_that_lie(tmp_path):
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


def compressed(element: bytes) -> bytes:
    packed = zlib.compress(element)
    return struct.pack("<II", 15, len(packed)) + packed


def test_mat_whose_budget_is_used_up_is_not_unpacked_without_limit(tmp_path):
    head = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    filler = struct.pack("<II", 1, 99_992) + bytes(99_992)
    (tmp_path / "x.mat").write_bytes(head + compressed(filler) + compressed(bytes(40 << 20)))
    with pytest.raises(ValueError, match="at most 100000 bytes unpacked"):
        mat.read(tmp_path / "x.mat", ["ff"], 100_000)


def test_mat_of_sizes_that_are_no_numbers(tmp_path):
    savemat(tmp_path / "x.mat", {"ff": np.zeros((3, 2))})
    whole = bytearray((tmp_path / "x.mat").read_bytes())
    at = whole.find(struct.pack("<IIii", 5, 8, 3, 2))
    whole[at : at + 16] = struct.pack("<IIff", 7, 8, np.inf, 1)
    (tmp_path / "x.mat").write_bytes(whole)
    with pytest.raises(ValueError, match="damaged header"):
        mat.read(tmp_path / "x.mat", ["ff"], 1 << 20)


def test_mat_with_compressed_data_cut_short(tmp_path):
    savemat(tmp_path / "x.mat", {"ff": np.arange(600.0)}, do_compression=True)
    whole = bytearray((tmp_path / "x.mat").read_bytes())
    size = struct.unpack_from("<I", whole, 132)[0]
    whole[132:136] = struct.pack("<I", size - 4)  # without the end of the sum
    (tmp_path / "x.mat").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="cut short"):
        mat.read(tmp_path / "x.mat", ["ff"], 1 << 20)


def test_mat_fuzzed_never_raises_anything_else(tmp_path):
    path = tmp_path / "set.mat"
    savemat(path, {"traindata": np.array([[np.eye(4), np.zeros((2, 4))]], object), "ff": np.eye(9)})
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for at in random.integers(124, len(whole), 3):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            mat.read(path, ["traindata", "ff"], 1 << 24)
        except ValueError as error:
            assert "set.mat" in str(error)


@pytest.mark.parametrize("do_compression", [False, True])
def test_mat_reads_what_scipy_wrote(do_compression, tmp_path):
    random = np.random.default_rng(0)
    arrays = {kind: (random.normal(size=(3, 5, 2)) * 9).astype(kind) for kind in ("f8", "f4", "u1", "i2", "i4")}
    rolls = [random.integers(0, 2, (rows, 3)).astype(np.uint8) for rows in (4, 1, 7)]
    cells = np.empty((1, 3), object)
    cells[0] = rolls
    savemat(tmp_path / "x.mat", {**arrays, "cells": cells, "word": "text"}, do_compression=do_compression)
    found = mat.read(tmp_path / "x.mat", [*arrays, "cells"], 1 << 20)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    for got, roll in zip(found["cells"], rolls, strict=True):
        np.testing.assert_array_equal(got, roll)


def test_amat_of_another_width_or_content(tmp_path):
    path = tmp_path / "x.amat"
    for text in ("0 1 1\n0 1\n1\n", "0 1 2\n", "", "0 1\n1 0\n1 1\n", "<html>"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.amat"):
            files.read_amat(path, 3, rows=9)
    path.write_text("0 1 1 \n1 0 0 \n")
    np.testing.assert_array_equal(files.read_amat(path, 3, rows=9), [[0, 1, 1], [1, 0, 0]])


def test_a_picture_of_too_many_pixels(tmp_path):
    from PIL import Image

    (tmp_path / "faces").mkdir()
    Image.new("1", (9000, 9000)).save(tmp_path / "faces" / "a.png")
    with pytest.raises(ValueError, match=r"9000x9000 pixels are more than .*"):
        load_dataset(Data(str(tmp_path / "faces")))
    (tmp_path / "faces" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(ValueError, match=r"expected an image, got .*a\.png"):
        load_dataset(Data(str(tmp_path / "faces")))
