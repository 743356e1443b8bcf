"""Readers of untrusted files (gzip, zip, npy, npz, idx): sizes are bounded, and damage raises ValueError.

Headers are checked against the bytes that are really there before memory is allocated.
"""

import contextlib
import errno
import gzip
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np

LIMIT = 4 << 30
"""Bytes that one decoded member may have, unless the caller sets another limit."""
_BLOCK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 10_000
"""Limit on the header of a NumPy array."""
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")
"""Folders with copies of files, by macOS and by Synology."""
_DAMAGE = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error)


@contextlib.contextmanager
def reporting_damage(path: Path, kind: str) -> Iterator[None]:
    """Turn the errors of libraries on a damaged file into a ValueError that names it.

    Args:
      kind: kind of file, for the message, such as "zip file".
    """
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if not isinstance(error, _DAMAGE) and error.errno != errno.EINVAL:  # EINVAL: a zip file with a wrong offset
            raise
        raise ValueError(
            f"expected a whole {kind}, got {path} ({error or type(error).__name__}); fetch it again"
        ) from error


@contextlib.contextmanager
def open_unpacked(path: Path) -> Iterator:
    """Open a file as a stream of bytes, unpacked if its name ends in `.gz`."""
    is_packed = path.suffix.lower() == ".gz"
    with reporting_damage(path, "gzip file"), (gzip.open if is_packed else open)(path, "rb") as stream:
        yield stream


def read_unpacked(path: Path, limit: int = LIMIT) -> bytes:
    """Read a file, unpacked if its name ends in `.gz`; at most `limit` bytes."""
    with open_unpacked(path) as stream:
        return read_bounded(stream, limit, str(path))


def read_bounded(stream, limit: int, what: str) -> bytes:
    """Read a stream to its end, which must come within `limit` bytes; `what` names the stream in messages.

    >>> read_bounded(io.BytesIO(b"123"), 3, "a file")
    b'123'
    """
    parts, total = [], 0
    while block := stream.read(_BLOCK_BYTES):
        total += len(block)
        if total > limit:
            raise ValueError(f"expected at most {limit} bytes, got more from {what}; check that it is the right file")
        parts.append(block)
    return b"".join(parts)


def read_idx(path: Path, limit: int = LIMIT) -> np.ndarray:
    """Read an idx file (LeCun's format) of unsigned bytes, unpacked if its name ends in `.gz`."""
    with open_unpacked(path) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
            raise ValueError(f"expected an idx file of unsigned bytes, got {path} which starts {head!r}")
        sizes = stream.read(4 * head[3])
        if len(sizes) < 4 * head[3]:
            raise ValueError(f"expected the sizes of an idx file, got {path} which ends in its header")
        shape = struct.unpack(f">{head[3]}I", sizes)
        if (size := math.prod(shape)) > limit:
            raise ValueError(f"expected at most {limit} bytes, got the idx header {shape} in {path}")
        data = read_array(stream, shape, np.dtype(np.uint8), str(path))
        if stream.read(1):
            raise ValueError(f"expected {size} bytes after the idx header {shape}, got more in {path}")
    return data


def read_array(stream, shape: tuple[int, ...], dtype: np.dtype, what: str) -> np.ndarray:
    """Read an array from a stream; pages of memory are used as bytes arrive, whatever a header announces.

    >>> read_array(io.BytesIO(bytes(6)), (2, 3), np.dtype("u1"), "a file").shape
    (2, 3)
    """
    array = np.empty(shape, dtype)
    view, filled = memoryview(array.reshape(-1).view(np.uint8)), 0
    while filled < len(view) and (count := stream.readinto(view[filled : filled + _BLOCK_BYTES])):
        filled += count
    if filled < len(view):
        raise ValueError(f"expected {len(view)} bytes for {dtype} {shape}, got {filled} in {what}")
    return array


def read_amat(path: Path, columns: int, rows: int) -> np.ndarray:
    """Read at most `rows` lines of blank-separated 0 and 1, uint8 [rows, columns]: Larochelle's text form."""
    data = np.frombuffer(read_unpacked(path, rows * (2 * columns + 2)), np.uint8)
    digits = data[(data != ord(" ")) & (data != ord("\n")) & (data != ord("\r"))]
    if len(digits) == 0 or len(digits) % columns or ((digits != ord("0")) & (digits != ord("1"))).any():
        raise ValueError(f"expected lines of {columns} values 0 or 1, got something else in {path}")
    if np.count_nonzero(data == ord("\n")) not in (len(digits) // columns, len(digits) // columns - 1):
        raise ValueError(f"expected {columns} values a line, got lines of another length in {path}")
    return digits.reshape(-1, columns) - np.uint8(ord("0"))


def _read_npy_header(stream, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype of a `.npy` stream, which then stands at its data."""
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
        if version not in readers:
            raise ValueError(f"version {version}")
        width, read_header = readers[version]
        length = stream.read(width)
        if (size := int.from_bytes(length, "little")) > _MAX_HEADER_BYTES:  # NumPy checks this after reading them all
            raise ValueError(f"a header of {size} bytes")
        shape, is_fortran, dtype = read_header(io.BytesIO(length + stream.read(size)))
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}")
    except (zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # NumPy raises several kinds here, SyntaxError among them
        raise ValueError(f"expected a NumPy array file, got {what} ({error})") from error
    if dtype.kind not in "biuf":
        raise ValueError(
            f"expected numbers, got {what} with dtype {dtype}, which may hold pickled objects "
            f"and is not read; save a plain numeric array"
        )
    return shape, is_fortran, dtype


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, mapped from disk and read-only; pickled objects are refused unread."""
    with open(path, "rb") as stream:
        shape, _, dtype = _read_npy_header(stream, str(path))
        start = stream.tell()
        stream.seek(0, io.SEEK_END)
        actual, expected = stream.tell() - start, math.prod(shape) * dtype.itemsize
    if actual != expected:
        raise ValueError(
            f"expected {expected} bytes for {dtype} {shape}, got {actual} in {path}; the file is truncated or altered"
        )
    return np.load(path, mmap_mode="r" if expected else None, allow_pickle=False)


def read_npz(path: Path, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, all members together at most `limit` bytes."""
    arrays = {}
    with reporting_damage(path, "zip file"):
        for name, stream, size in zip_members(path, limit):
            if not name.endswith(".npy"):
                raise ValueError(f"expected .npy members only, got {name!r} in {path}")
            shape, is_fortran, dtype = _read_npy_header(stream, f"{path}:{name}")
            if math.prod(shape) * dtype.itemsize > size:
                raise ValueError(
                    f"expected {dtype} {shape} within {size} bytes, got a header that announces more in {path}:{name}"
                )
            array = read_array(stream, shape[::-1] if is_fortran else shape, dtype, f"{path}:{name}")
            if stream.read(1):  # reading to the end also verifies the checksum
                raise ValueError(f"expected {dtype} {shape}, got more bytes in {path}:{name}")
            arrays[name.removesuffix(".npy")] = array.T if is_fortran else array
    return arrays


def is_hidden(path: str | PurePath) -> bool:
    """True for files that systems leave beside a user's: in a part of the path that starts with a dot, or that is named so.

    >>> is_hidden("a/.ipynb_checkpoints/0.png"), is_hidden("__MACOSX/a/0.png"), is_hidden("a/0.png")
    (True, True, False)
    """
    parts = PurePath(path).parts
    return any(part in _SYSTEM_FOLDERS or (part.startswith(".") and part not in (".", "..")) for part in parts)


def zip_members(path: Path, limit: int = LIMIT, suffix: str = "") -> Iterator[tuple[str, io.BufferedIOBase, int]]:
    """Iterate over the members of a zip file as (name, stream, size); sizes are checked against `limit` first.

    Damage may show at any read: iterate inside `reporting_damage(path, "zip file")`.
    """
    with zipfile.ZipFile(path) as archive:
        infos = [
            info
            for info in archive.infolist()
            if not info.is_dir() and info.filename.endswith(suffix) and not is_hidden(info.filename)
        ]
        if (total := sum(info.file_size for info in infos)) > limit:
            raise ValueError(f"expected at most {limit} bytes unpacked, got {total} announced in {path}")
        for info in infos:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"expected members stored or deflated, got {info.filename!r} otherwise in {path}")
            with archive.open(info) as stream:
                yield info.filename, stream, info.file_size
