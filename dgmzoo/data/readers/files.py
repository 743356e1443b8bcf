"""Reading files that may lie: memory and time are bounded, nothing is unpickled, faults are ValueErrors.

Headers are read and checked against what is really there before anything is allocated.
"""

import contextlib
import csv
import errno
import gzip
import io
import itertools
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LIMIT = 4 << 30
"""Bytes that one decoded member may have, unless the reader knows better."""
_BLOCK = 1 << 20
_HEADER = 10_000
"""Bytes that the header of a NumPy array may have."""
_DAMAGE = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error)


@contextlib.contextmanager
def told(path: Path, kind: str) -> Iterator[None]:
    """What libraries raise on a damaged `kind` of file, at any point of reading it, as a ValueError that names it."""
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if not isinstance(error, _DAMAGE) and error.errno != errno.EINVAL:  # which a zip file pointing nowhere gives
            raise
        raise ValueError(
            f"expected a whole {kind}, got {path} ({error or type(error).__name__}); fetch it again"
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    """A file's bytes as a stream, unpacked if its name ends in `.gz`."""
    packed = path.suffix == ".gz"
    with told(path, "gzip file"), (gzip.open if packed else open)(path, "rb") as stream:
        yield stream


def unpack(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a file, unpacked if its name ends in `.gz`; at most `limit`."""
    with _opened(path) as stream:
        return bounded(stream, limit, str(path))


def bounded(stream, limit: int, what: str) -> bytes:
    """All of a stream, which must end within `limit` bytes."""
    parts, total = [], 0
    while block := stream.read(_BLOCK):
        total += len(block)
        if total > limit:
            raise ValueError(f"expected at most {limit} bytes, got more from {what}; it is not the file it should be")
        parts.append(block)
    return b"".join(parts)


def idx(path: Path, limit: int = LIMIT) -> np.ndarray:
    """An idx file (LeCun's format) of unsigned bytes, packed or not."""
    with _opened(path) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
            raise ValueError(f"expected an idx file of unsigned bytes, got {path} which starts {head!r}")
        sizes = stream.read(4 * head[3])
        if len(sizes) < 4 * head[3]:
            raise ValueError(f"expected the sizes of an idx file, got {path} which ends in its header")
        shape = struct.unpack(f">{head[3]}I", sizes)
        if (size := math.prod(shape)) > limit:
            raise ValueError(f"expected at most {limit} bytes, got the idx header {shape} in {path}")
        data = filled(stream, shape, np.dtype(np.uint8), str(path))
        if stream.read(1):
            raise ValueError(f"expected {size} bytes after the idx header {shape}, got more in {path}")
    return data


def filled(stream, shape: tuple[int, ...], dtype: np.dtype, what: str) -> np.ndarray:
    """An array read from a stream; memory is taken up as bytes arrive, whatever a header says."""
    array = np.empty(shape, dtype)
    view, got = memoryview(array.reshape(-1).view(np.uint8)), 0
    while got < len(view) and (more := stream.readinto(view[got : got + _BLOCK])):
        got += more
    if got < len(view):
        raise ValueError(f"expected {len(view)} bytes for {dtype} {shape}, got {got} in {what}")
    return array


def amat(path: Path, columns: int, rows: int) -> np.ndarray:
    """At most `rows` rows of blank-separated 0 and 1, uint8 [rows, columns]; the text form of Larochelle's sets."""
    data = np.frombuffer(unpack(path, rows * (2 * columns + 2)), np.uint8)
    digits = data[(data != ord(" ")) & (data != ord("\n")) & (data != ord("\r"))]
    if len(digits) == 0 or len(digits) % columns or ((digits != ord("0")) & (digits != ord("1"))).any():
        raise ValueError(f"expected lines of {columns} values 0 or 1, got something else in {path}")
    if np.count_nonzero(data == ord("\n")) not in (len(digits) // columns, len(digits) // columns - 1):
        raise ValueError(f"expected {columns} values a line, got lines of another length in {path}")
    return digits.reshape(-1, columns) - np.uint8(ord("0"))


def _npy_header(stream, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
        if version not in readers:
            raise ValueError(f"version {version}")
        width, reader = readers[version]
        length = stream.read(width)
        if (size := int.from_bytes(length, "little")) > _HEADER:  # NumPy checks this once it has read them all
            raise ValueError(f"a header of {size} bytes")
        shape, fortran, dtype = reader(io.BytesIO(length + stream.read(size)))
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
    return shape, fortran, dtype


def npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, mapped from disk and read-only; pickled objects are refused unread."""
    with open(path, "rb") as stream:
        shape, _, dtype = _npy_header(stream, str(path))
        start = stream.tell()
        stream.seek(0, io.SEEK_END)
        there, size = stream.tell() - start, math.prod(shape) * dtype.itemsize
    if there != size:
        raise ValueError(
            f"expected {size} bytes for {dtype} {shape}, got {there} in {path}; the file is truncated or altered"
        )
    return np.load(path, mmap_mode="r" if size else None, allow_pickle=False)


def npz(path: Path, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, all members together at most `limit` bytes."""
    arrays = {}
    with told(path, "zip file"):
        for name, stream, size in members(path, limit):
            if not name.endswith(".npy"):
                raise ValueError(f"expected .npy members only, got {name!r} in {path}")
            shape, fortran, dtype = _npy_header(stream, f"{path}:{name}")
            if math.prod(shape) * dtype.itemsize > size:
                raise ValueError(
                    f"expected {dtype} {shape} within {size} bytes, got a header that lies in {path}:{name}"
                )
            array = filled(stream, shape[::-1] if fortran else shape, dtype, f"{path}:{name}")
            if stream.read(1):  # reading to the end also checks the sum
                raise ValueError(f"expected {dtype} {shape}, got more bytes in {path}:{name}")
            arrays[name.removesuffix(".npy")] = array.T if fortran else array
    return arrays


def members(path: Path, limit: int = LIMIT, suffix: str = "") -> Iterator[tuple[str, io.BufferedIOBase, int]]:
    """The members of a zip file as (name, stream, size); sizes are checked against `limit` before reading.

    Damage may show at any read: go through them inside `told(path, "zip file")`.
    """
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir() and info.filename.endswith(suffix)]
        if (total := sum(info.file_size for info in infos)) > limit:
            raise ValueError(f"expected at most {limit} bytes unpacked, got {total} announced in {path}")
        for info in infos:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"expected members stored or deflated, got {info.filename!r} otherwise in {path}")
            with archive.open(info) as stream:
                yield info.filename, stream, info.file_size


def table(path: Path, columns: int | None = None, limit: int = LIMIT) -> tuple[list[str], np.ndarray]:
    """A text table: column names (empty without a header line) and values float64 [rows, columns].

    Separators are comma, semicolon, tab or blanks, told from the first line; `columns` reads the first ones alone.
    """
    try:
        with _opened(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty table
            lines = _lines(stream, limit)
            first = next(lines, "")
            separator = next((s for s in ",;\t" if s in first), None)
            cells = next(csv.reader([first], delimiter=separator), []) if separator else first.split()
            cells = [cell.strip().strip('"') for cell in cells]
            header = not all(_is_number(cell) for cell in cells[:columns])
            values = np.loadtxt(
                lines if header else itertools.chain([first], lines),
                delimiter=separator,
                usecols=range(columns) if columns else None,
                comments=None,
                quotechar='"',
                ndmin=2,
            )
    except (ValueError, UserWarning) as error:
        raise ValueError(f"expected a table of numbers with one header line at most, got {path}: {error}") from error
    return (cells if header else []), values


def _lines(stream, limit: int) -> Iterator[str]:
    """The lines of a text, one by one: none of them, and not all of them, longer than they may be."""
    total = 0
    while line := stream.readline(_BLOCK):
        start = total == 0
        total += len(line)
        if len(line) == _BLOCK or total > limit:
            raise ValueError(f"expected lines below {_BLOCK} bytes and {limit} in all, got more")
        yield line.decode("utf-8-sig" if start else "utf-8")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
