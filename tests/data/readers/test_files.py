"""Damaged or hostile files are refused with a clear message, in bounded memory and time, without unpickling."""

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from dgmzoo.data import Data, load_dataset
from dgmzoo.data.readers import files, text_table
from tests.support import file_writers

pytestmark = pytest.mark.usefixtures("bounded_memory_and_time")


class Trap:
    """An object that fails the test when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def pickled_npy() -> bytes:
    """Content of a .npy file of a pickled object."""
    out = io.BytesIO()
    np.save(out, np.array([Trap()], dtype=object), allow_pickle=True)
    return out.getvalue()


def zip_bytes(contents: dict[str, bytes]) -> bytes:
    """Content of a zip file of members (name -> content)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return out.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """Content of a .npy file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def npy_with_header(text: str, body: bytes = b"") -> bytes:
    """Content of a .npy file with a given header."""
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + body


HUGE_HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (100000000000,), }"
HOSTILE = {  # name of a file -> (content, message)
    "objects.npy": (pickled_npy(), "may hold pickled objects"),
    "records.npy": (npy_bytes(np.zeros(3, [("a", "i4")])), "may hold pickled objects"),
    "text.npy": (npy_bytes(np.array(["a", "b"])), "expected numbers"),
    "huge.npy": (npy_with_header(HUGE_HEADER, b"123"), "truncated or altered"),
    "truncated.npy": (npy_bytes(np.zeros((50, 4)))[:-9], "truncated or altered"),
    "longer.npy": (npy_bytes(np.zeros((50, 4))) + b"more", "truncated or altered"),
    "code.npy": (npy_with_header("{'descr': __import__('os').system('false'), 'shape': (1,)}"), "NumPy array file"),
    "shape.npy": (
        npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 8), }", bytes(8)),
        "NumPy array file",
    ),
    "minus.npy": (
        npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -8), }", bytes(8)),
        "NumPy array file",
    ),
    "head.npz": (
        zip_bytes({"x.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 80 << 20) + bytes(80 << 20)}),
        "a header of",
    ),
    "deep.npy": (npy_with_header("(" * 9000), "NumPy array file"),
    "bare.npy": (pickle.dumps([1, 2]), "NumPy array file"),
    "empty.npy": (b"", "NumPy array file"),
    "objects.npz": (zip_bytes({"x.npy": pickled_npy()}), "may hold pickled objects"),
    "pickle.npz": (zip_bytes({"x.pkl": pickle.dumps(Trap())}), r"\.npy members only"),
    "huge.npz": (zip_bytes({"x.npy": npy_with_header(HUGE_HEADER, b"123")}), "announces more"),
    "climbing.npz": (zip_bytes({"../../x.npy": npy_bytes(np.zeros((9, 2)))}), "expected either x or train"),
    "bomb.npz": (
        zip_bytes({"x.npy": npy_with_header(HUGE_HEADER, bytes(40 << 20)), "y.npy": bytes(1)}),
        "announces more",
    ),
    "truncated.npz": (zip_bytes({"x.npy": npy_bytes(np.arange(5000.0))})[:-200], "whole zip file"),
    "names.npz": (zip_bytes({"weights.npy": npy_bytes(np.zeros((9, 2)))}), "expected either x or train"),
    "words.csv": (b"a,b\n1,2\n3,x\n", "table of numbers"),
    "ragged.csv": (b"1,2\n3\n", "table of numbers"),
    "blank.csv": (b"", "table of numbers"),
    "oneline.csv": (b"1," * (1 << 20), "lines below 1048576 bytes"),
    "binary.csv": (bytes(range(128, 256)), "table of numbers"),
    "inf.csv": (b"1,2\n3,inf\n4,5\n", "NaN or infinity in row 1"),
    "set.pkl": (pickle.dumps(Trap()), r"expected a \.npy, \.npz, \.csv"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_user_file_is_refused(name, tmp_path):
    content, message = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(Data(str(tmp_path / name)))
    assert name in str(caught.value)


def test_zip_bomb_is_refused_by_its_announced_size(tmp_path):
    (tmp_path / "bomb.npz").write_bytes(zip_bytes({f"{i}.npy": bytes(8 << 20) for i in range(3)}))
    with pytest.raises(ValueError, match="at most 16777216 bytes unpacked, got 25165824 announced"):
        files.read_npz(tmp_path / "bomb.npz", 16 << 20)


def test_zip_bomb_that_announces_too_little_is_refused(tmp_path):
    data = bytearray(zip_bytes({"x.npy": npy_bytes(np.zeros(1 << 18))}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.find(signature) + offset
        data[start : start + 4] = struct.pack("<I", 200)
    (tmp_path / "bomb.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"whole zip file, got .*bomb\.npz"):
        files.read_npz(tmp_path / "bomb.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_a_changed_byte_is_refused_or_equal(save, tmp_path):
    x = np.random.default_rng(0).integers(0, 9, (300, 20))
    save(tmp_path / "x.npz", x=x)
    whole, refused = (tmp_path / "x.npz").read_bytes(), 0
    for position in range(0, len(whole), 50):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        (tmp_path / "x.npz").write_bytes(damaged)
        try:
            np.testing.assert_array_equal(files.read_npz(tmp_path / "x.npz").get("x", x), x)
        except ValueError as error:
            assert "x.npz" in str(error)
            refused += 1
    assert refused > 0.9 * len(whole) / 50


@pytest.mark.parametrize(
    "reader", [files.read_npz, files.read_idx, files.read_unpacked, files.read_npy, text_table.read_table]
)
def test_missing_file_raises_file_not_found(reader, tmp_path):
    with pytest.raises(FileNotFoundError):
        reader(tmp_path / "x.gz")


def test_npz_in_an_unusual_compression_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", npy_bytes(np.zeros((9, 2))))
    with pytest.raises(ValueError, match="stored or deflated"):
        files.read_npz(tmp_path / "x.npz")


def test_idx_with_a_wrong_header_or_length_is_refused(tmp_path):
    path = tmp_path / "images"
    good = file_writers.idx_bytes(np.zeros((4, 3, 3), np.uint8))
    damaged = {
        "expected an idx file": b"\0\0\x0d\x03" + good[4:],
        "ends in its header": good[:9],
        "at most 134217728 bytes": b"\0\0\x08\x03" + struct.pack(">III", 2**32 - 1, 28, 28),
        "expected 36 bytes": good[:-1],
        "got more": good + b"\0",
    }
    for message, content in damaged.items():
        for name, stored in (("images", content), ("images.gz", gzip.compress(content))):
            path.with_name(name).write_bytes(stored)
            with pytest.raises(ValueError, match=message):
                files.read_idx(path.with_name(name), 1 << 27)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gz"])
def test_damaged_gzip_is_refused(damage, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (90, 28, 28)).astype(np.uint8)
    packed = gzip.compress(file_writers.idx_bytes(images))
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    content = {"truncated": packed[:-3000], "flipped": bytes(flipped), "not gz": b"<html>404</html>"}[damage]
    (tmp_path / "x.gz").write_bytes(content)
    for reader in (files.read_idx, files.read_unpacked):
        with pytest.raises(ValueError, match=r"whole gzip file, got .*x\.gz"):
            reader(tmp_path / "x.gz")


def test_gzip_bomb_is_refused(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(48 << 20)))
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        files.read_unpacked(tmp_path / "bomb.gz", 1 << 20)


def test_amat_of_another_width_or_content_is_refused(tmp_path):
    path = tmp_path / "x.amat"
    for text in ("0 1 1\n0 1\n1\n", "0 1 2\n", "", "0 1\n1 0\n1 1\n", "<html>"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.amat"):
            files.read_amat(path, 3, rows=9)
    path.write_text("0 1 1 \n1 0 0 \n")
    np.testing.assert_array_equal(files.read_amat(path, 3, rows=9), [[0, 1, 1], [1, 0, 0]])
