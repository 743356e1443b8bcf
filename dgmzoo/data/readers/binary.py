"""Decoders of the binary vectors of the NADE and MADE papers: `{"train/x": uint8 {0, 1} [N, D], ...}`.

The sets go round in two orders of rows, so they are brought into one: sorted, then shuffled by a fixed draw
(the first rows should look like the rest). Both copies have one digest then.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.host_random import order
from dgmzoo.data.readers import files

SPLITS = ("train", "valid", "test")


def vectors(paths: Mapping[str, Path], entry: Entry) -> dict[str, np.ndarray]:
    """An npz of train, valid, test, or one text file a split: libsvm, comma- or blank-separated 0 and 1."""
    size = entry.shape[0]
    if (name := entry.files[0]) in paths:
        raw = files.npz(paths[name], sum(entry.splits.values()) * size * 8 + (1 << 20))
        if missing := set(SPLITS) - set(raw):
            raise ValueError(f"expected {', '.join(sorted(missing))} in {paths[name]}, got {', '.join(raw)}")
        raw = {split: raw[split] for split in SPLITS}
    else:
        raw = {
            split: _text(path, size, entry.splits[split], entry.limit)
            for split, path in zip(SPLITS, (paths[n] for n in entry.also[0]), strict=True)
        }
    for split, x in raw.items():
        if x.ndim != 2 or x.shape[1] != size or not np.isin(x, (0, 1)).all():
            raise ValueError(f"expected {entry.name} {split} [N, {size}] of 0 and 1, got {x.dtype} {x.shape}")
    return {f"{split}/x": _one_order(x.astype(np.uint8)) for split, x in raw.items()}


def _one_order(x: np.ndarray) -> np.ndarray:
    packed = np.packbits(x, axis=1)
    return x[np.lexsort(packed.T[::-1])][order(0, 0, len(x), "split")]


def _text(path: Path, size: int, rows: int, limit: int) -> np.ndarray:
    data = files.unpack(path, limit)
    if b":" in data[: 1 << 16]:
        lines = [line for line in data.decode("ascii", "replace").split("\n") if line.strip()]
        return sparse(lines, size, rows, str(path))[0]
    return files.table(path, size, limit)[1]  # a target may follow


def sparse(lines: list[str], size: int, rows: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """`rows` libsvm lines `label id:value ...`, ids from 1: values int32 [rows, size] and labels float64 [rows]."""
    if len(lines) != rows:
        raise ValueError(f"expected {rows} lines, got {len(lines)} in {what}")
    out, labels = np.zeros((len(lines), size), np.int32), np.zeros(len(lines))
    for row, line in enumerate(lines):
        try:
            label, *pairs = line.split()
            labels[row] = float(label)
            for pair in pairs:
                at, _, value = pair.partition(":")
                place = int(at) - 1
                if not 0 <= place < size:
                    raise ValueError(f"id {at}")
                out[row, place] = int(float(value))
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"expected `label id:value ...` with ids 1 to {size}, got {error} in line {row + 1} of {what}"
            ) from error
    return out, labels
