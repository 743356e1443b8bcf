"""Reading MATLAB 5 files: arrays of numbers and cells of them, nothing else; sizes are checked before use.

A reader of our own, since SciPy's crashes the process on some damaged files. The format (MathWorks, "MAT-File
Format", chapter 1): a 128-byte header, then elements of an 8-byte tag (kind, size) and data; an array is an
element of elements.
"""

import math
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

_KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _NUMBERS = 1, range(6, 16)
Value = np.ndarray | list[np.ndarray]


def read(path: Path, names: Collection[str], limit: int) -> dict[str, Value]:
    """The named variables: arrays [rows, columns, ...], or lists of arrays for cells (columns first).

    Args:
      limit: bytes that the file's elements may unpack to, all together.

    Raises:
      ValueError: not such a file, cut short, damaged, or a named variable is absent or of another kind.
    """
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"expected at most {limit} bytes")
        found = _variables(path.read_bytes(), names, limit)
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return found
    except (ValueError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"expected a MATLAB 5 file with {', '.join(names)}, got {path}: {error}") from error


def matrices(path: Path, names: Collection[str], limit: int) -> dict[str, np.ndarray]:
    """`read` for variables that must be matrices of numbers, no cells."""
    found = read(path, names, limit)
    for name, value in found.items():
        if isinstance(value, list) or value.ndim != 2:
            raise ValueError(f"expected {name} to be a matrix of numbers in {path}, got something else")
    return found


def _variables(data: bytes, names: Collection[str], limit: int) -> dict[str, Value]:
    if len(data) < 128 or not data.startswith(b"MATLAB 5.0") or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("it has no MATLAB 5 header")
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, Value] = {}
    view, budget = memoryview(data)[128:], limit
    while len(view) >= 8:
        kind, body, view = _element(view, order)
        if kind == _COMPRESSED:
            unpacking = zlib.decompressobj()
            unpacked = unpacking.decompress(body, budget) if budget > 0 else b""  # 0 would mean without a limit
            if not unpacking.eof:
                what = "got more" if budget <= len(unpacked) else "got data that are cut short"
                raise ValueError(f"expected at most {limit} bytes unpacked, {what}")
            budget -= len(unpacked)
            kind, body, _ = _element(memoryview(unpacked), order)
        if kind == _MATRIX:
            name, value = _matrix(body, order, names)
            if name in names:
                found[name] = value
    return found


def _element(view: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """The first element: its kind, its data, and what follows it."""
    if len(view) < 8:
        raise ValueError("an element is cut short")
    kind, size = struct.unpack_from(f"{order}II", view)
    if kind >> 16:  # a small element: size and kind share the first word, data the second
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError(f"a small element of {size} bytes")
        return kind, view[4 : 4 + size], view[8:]
    if size > len(view) - 8:
        raise ValueError(f"an element of {size} bytes is cut short")
    end = 8 + size if kind == _COMPRESSED else 8 + size + -size % 8
    return kind, view[8 : 8 + size], view[end:]


def _numbers(view: memoryview, order: str) -> tuple[np.ndarray, memoryview]:
    kind, body, rest = _element(view, order)
    if kind not in _KINDS:
        raise ValueError(f"data of kind {kind} where numbers were expected")
    dtype = np.dtype(order + _KINDS[kind])
    if len(body) % dtype.itemsize:
        raise ValueError(f"{len(body)} bytes are no whole number of {dtype}")
    return np.frombuffer(body, dtype), rest


def _matrix(view: memoryview, order: str, names: Collection[str] | None) -> tuple[str, Value | None]:
    """An array's name and values; None where its name is not in `names` (None: read any, of numbers only)."""
    flags, view = _numbers(view, order)
    sizes, view = _numbers(view, order)
    _, name, view = _element(view, order)
    name = bytes(name).decode("ascii")
    if names is not None and name not in names:
        return name, None
    if (
        flags.dtype.kind not in "iu"
        or len(flags) != 2
        or not 2 <= len(sizes) <= 8
        or sizes.dtype.kind not in "iu"
        or (sizes < 0).any()
    ):
        raise ValueError(f"{name or 'a cell'} has a damaged header")
    kind, shape = int(flags[0]) & 0xFF, tuple(map(int, sizes))
    if kind == _CELL and names is not None:
        if math.prod(shape) > len(view) // 8:
            raise ValueError(f"{name} announces {math.prod(shape)} cells, more than there are")
        cells = []
        for _ in range(math.prod(shape)):
            inner, body, view = _element(view, order)
            if inner != _MATRIX:
                raise ValueError(f"{name} has a cell that is no array")
            cells.append(_matrix(body, order, None)[1])
        return name, cells
    if kind not in _NUMBERS or int(flags[0]) & 0x800:
        raise ValueError(f"{name or 'a cell'} is no array of real numbers (class {kind})")
    values, _ = _numbers(view, order)
    if len(values) != math.prod(shape):
        raise ValueError(f"{name or 'a cell'} announces {shape}, got {len(values)} values")
    return name, values.reshape(shape, order="F").astype(values.dtype.newbyteorder("="))
