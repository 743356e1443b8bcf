"""`vectors`: decode the binary data sets of the NADE and MADE papers; `parse_libsvm`: parse lines of a libsvm file.

The arrays are `{"train/x": uint8 {0, 1} [N, D], ...}`.

Two copies of these sets circulate, with their rows in different orders. Rows are therefore brought into one order:
sorted, then shuffled by a fixed permutation (so that the first rows look like the rest). Both copies then have the same
digest.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.host_random import order
from dgmzoo.data.readers import files, text_table

SPLITS = ("train", "valid", "test")


def vectors(paths: Mapping[str, Path], entry: Entry) -> dict[str, np.ndarray]:
    """Decode an npz of train, valid, test, or one text file a split: libsvm, comma- or blank-separated 0 and 1."""
    size = entry.shape[0]
    if (name := entry.files[0]) in paths:
        arrays = files.read_npz(paths[name], sum(entry.splits.values()) * size * 8 + (1 << 20))
        if missing := set(SPLITS) - set(arrays):
            raise ValueError(f"expected {', '.join(sorted(missing))} in {paths[name]}, got {', '.join(arrays)}")
        rows = {split: arrays[split] for split in SPLITS}
    else:
        rows = {
            split: _read_text(path, size, entry.splits[split], entry.max_bytes)
            for split, path in zip(SPLITS, (paths[name] for name in entry.alternatives[0]), strict=True)
        }
    for split, x in rows.items():
        if x.ndim != 2 or x.shape[1] != size or not np.isin(x, (0, 1)).all():
            raise ValueError(f"expected {entry.name} {split} [N, {size}] of 0 and 1, got {x.dtype} {x.shape}")
    return {f"{split}/x": _canonical_order(x.astype(np.uint8)) for split, x in rows.items()}


def _canonical_order(x: np.ndarray) -> np.ndarray:
    packed = np.packbits(x, axis=1)
    return x[np.lexsort(packed.T[::-1])][order(0, 0, len(x), "split")]


def _read_text(path: Path, size: int, rows: int, limit: int) -> np.ndarray:
    data = files.read_unpacked(path, limit)
    if b":" in data[: 1 << 16]:
        lines = [line for line in data.decode("ascii", "replace").split("\n") if line.strip()]
        return parse_libsvm(lines, size, rows, str(path))[0]
    return text_table.read_table(path, size, limit)[1]  # a target column may follow


def parse_libsvm(lines: list[str], size: int, rows: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse `rows` libsvm lines `label id:value ...`, with ids from 1.

    Args:
      what: name of the file, for messages.

    Returns:
      Values int32 [rows, size] and labels float64 [rows].

    >>> values, labels = parse_libsvm(["-1 1:1 3:2"], size=3, rows=1, what="a file")
    >>> values.tolist(), labels.tolist()
    ([[1, 0, 2]], [-1.0])
    """
    if len(lines) != rows:
        raise ValueError(f"expected {rows} lines, got {len(lines)} in {what}")
    values, labels = np.zeros((len(lines), size), np.int32), np.zeros(len(lines))
    for row, line in enumerate(lines):
        try:
            label, *pairs = line.split()
            labels[row] = float(label)
            for pair in pairs:
                number, _, value = pair.partition(":")
                column = int(number) - 1
                if not 0 <= column < size:
                    raise ValueError(f"id {number}")
                values[row, column] = int(float(value))
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"expected `label id:value ...` with ids 1 to {size}, got {error} in line {row + 1} of {what}"
            ) from error
    return values, labels
