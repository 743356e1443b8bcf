"""`read`: read variables by name from an untrusted MATLAB 5 file; `read_matrices`: read numeric matrices.

SciPy's reader crashes the process on some damaged files. The format (MathWorks, "MAT-File Format", chapter 1): a
128-byte header, then elements of an 8-byte tag (kind, size) and data; an array is an element of elements.
"""

import math
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

_DTYPE_OF_KIND = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL_CLASS, _NUMBER_CLASSES = 1, range(6, 16)
Value = np.ndarray | list[np.ndarray]


def read(path: Path, names: Collection[str], limit: int) -> dict[str, Value]:
    """Read named variables: arrays [rows, columns, ...], or lists of arrays for cells (in column-major order).

    Args:
      limit: bytes that the file's elements may unpack to, all together.

    Raises:
      ValueError: another kind of file, truncated, damaged, or a variable is absent or of another kind.
    """
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"expected at most {limit} bytes")
        variables = _read_variables(path.read_bytes(), names, limit)
        if missing := [name for name in names if name not in variables]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return variables
    except (ValueError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"expected a MATLAB 5 file with {', '.join(names)}, got {path}: {error}") from error


def read_matrices(path: Path, names: Collection[str], limit: int) -> dict[str, np.ndarray]:
    """Read named variables that must be matrices of numbers, not cells; arguments and errors as `read`."""
    variables = read(path, names, limit)
    for name, value in variables.items():
        if isinstance(value, list) or value.ndim != 2:
            raise ValueError(f"expected {name} to be a matrix of numbers in {path}, got something else")
    return variables


def _read_variables(data: bytes, names: Collection[str], limit: int) -> dict[str, Value]:
    if len(data) < 128 or not data.startswith(b"MATLAB 5.0") or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("it has no MATLAB 5 header")
    order = "<" if data[126:128] == b"IM" else ">"
    variables: dict[str, Value] = {}
    view, budget = memoryview(data)[128:], limit
    while len(view) >= 8:
        kind, body, view = _element(view, order)
        if kind == _COMPRESSED:
            decompressor = zlib.decompressobj()
            unpacked = decompressor.decompress(body, budget) if budget > 0 else b""  # for zlib, 0 means no limit
            if not decompressor.eof:
                problem = "got more" if budget <= len(unpacked) else "got data that are cut short"
                raise ValueError(f"expected at most {limit} bytes unpacked, {problem}")
            budget -= len(unpacked)
            kind, body, _ = _element(memoryview(unpacked), order)
        if kind == _MATRIX:
            name, value = _matrix(body, order, names)
            if name in names:
                variables[name] = value
    return variables


def _element(view: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """The first element of a view: its kind, its data, and the rest of the view."""
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
    """The first element as an array of numbers, and the rest of the view."""
    kind, body, rest = _element(view, order)
    if kind not in _DTYPE_OF_KIND:
        raise ValueError(f"data of kind {kind} where numbers were expected")
    dtype = np.dtype(order + _DTYPE_OF_KIND[kind])
    if len(body) % dtype.itemsize:
        raise ValueError(f"{len(body)} bytes are no whole number of {dtype}")
    return np.frombuffer(body, dtype), rest


def _matrix(view: memoryview, order: str, names: Collection[str] | None) -> tuple[str, Value | None]:
    """Name and values of an array element; the values are None where the name is not in `names`.

    Args:
      names: names to read; None: read an array of any name, of numbers only.
    """
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
    array_class, shape = int(flags[0]) & 0xFF, tuple(map(int, sizes))
    if array_class == _CELL_CLASS and names is not None:
        if math.prod(shape) > len(view) // 8:
            raise ValueError(f"{name} announces {math.prod(shape)} cells, more than there are")
        cells = []
        for _ in range(math.prod(shape)):
            element_kind, body, view = _element(view, order)
            if element_kind != _MATRIX:
                raise ValueError(f"{name} has a cell that is no array")
            cells.append(_matrix(body, order, None)[1])
        return name, cells
    if array_class not in _NUMBER_CLASSES or int(flags[0]) & 0x800:
        raise ValueError(f"{name or 'a cell'} is no array of real numbers (class {array_class})")
    values, _ = _numbers(view, order)
    if len(values) != math.prod(shape):
        raise ValueError(f"{name or 'a cell'} announces {shape}, got {len(values)} values")
    return name, values.reshape(shape, order="F").astype(values.dtype.newbyteorder("="))
