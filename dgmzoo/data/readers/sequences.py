"""Decoders of sound and music: sequences padded with 0 to the longest, with a mask [N, T]."""

import io
import struct
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.readers import files, mat

Arrays = dict[str, np.ndarray]
_PADDED = 1 << 30
"""Bytes that a set of sequences may take once all are as long as the longest."""


def pad(splits: Mapping[str, list[np.ndarray]], entry: Entry) -> Arrays:
    """Sequences [T_i, ...] of one dtype as `split/x` [N, T, ...] and `split/mask` [N, T], T that of the longest.

    Raises:
      ValueError: not the rows that were published, or so long a sequence that padding all to it is out of proportion.
    """
    if (rows := {split: len(sequences) for split, sequences in splits.items()}) != dict(entry.splits):
        raise ValueError(f"expected {entry.name} with rows {dict(entry.splits)}, got {rows}")
    every = [sequence for sequences in splits.values() for sequence in sequences]
    longest = max(map(len, every))
    if (size := len(every) * longest * every[0][:1].nbytes) > _PADDED:
        raise ValueError(f"expected {entry.name} to take {_PADDED} bytes at most once padded, got {size}")
    arrays = {}
    for split, sequences in splits.items():
        x = np.zeros((len(sequences), longest, *every[0].shape[1:]), every[0].dtype)
        mask = np.zeros((len(sequences), longest), bool)
        for at, sequence in enumerate(sequences):
            x[at, : len(sequence)], mask[at, : len(sequence)] = sequence, True
        arrays |= {f"{split}/x": x, f"{split}/mask": mask}
    return arrays


def spoken_digits(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """`{digit}_{speaker}_{index}.wav`, 8 kHz mono 16 bit; recordings 0 to 4 are the test set."""
    clips: dict[str, list] = {"train": [], "test": []}
    path = paths[entry.files[0]]
    found = {}
    with files.told(path, "zip file"):
        for name, stream, size in files.members(path, 1 << 28, ".wav"):
            found[name.rpartition("/")[2]] = files.bounded(stream, size, name)
    for name in sorted(found):
        parts = name.removesuffix(".wav").split("_")
        if len(parts) != 3 or not parts[0].isdigit() or not parts[2].isdigit():
            raise ValueError(f"expected DIGIT_SPEAKER_INDEX.wav, got {name!r} in {path}")
        clips["test" if int(parts[2]) < 5 else "train"].append((_wav(found[name], name), int(parts[0])))
    if not clips["train"] or not clips["test"]:
        raise ValueError(f"expected recordings of train and test, got {len(found)} in {path}")
    labels = {f"{split}/label": np.array([digit for _, digit in rows], np.int32) for split, rows in clips.items()}
    return pad({split: [clip for clip, _ in rows] for split, rows in clips.items()}, entry) | labels


def _wav(data: bytes, name: str) -> np.ndarray:
    try:
        with wave.open(io.BytesIO(data)) as sound:
            kind = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            if kind != (1, 2, 8000):
                raise ValueError(f"{kind[0]} channels of {kind[1]} bytes at {kind[2]} Hz")
            frames = sound.readframes(len(data))
    except (wave.Error, EOFError, ValueError, RuntimeError, struct.error) as error:
        raise ValueError(f"expected a wav file, mono, 16 bit, 8 kHz, got {name}: {error}") from error
    return np.frombuffer(frames, "<i2").astype(np.int16)


def polyphony(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """Boulanger-Lewandowski's piano rolls as .mat cells: uint8 {0, 1} [N, T, 88]."""
    path = paths[entry.files[0]]
    names = {"train": "traindata", "valid": "validdata", "test": "testdata"}
    raw = mat.read(path, list(names.values()), 1 << 28)
    rolls = {}
    for split, name in names.items():
        cells = raw[name] if isinstance(raw[name], list) else []
        for cell in cells:
            good = isinstance(cell, np.ndarray) and cell.dtype.kind in "biuf" and cell.ndim == 2 and cell.shape[1] == 88
            if not good or not np.isin(cell, (0, 1)).all():
                raise ValueError(f"expected {name} to hold rolls [T, 88] of 0 and 1, got something else in {path}")
        if not cells:
            raise ValueError(f"expected {name} to hold rolls [T, 88], got none in {path}")
        rolls[split] = [cell.astype(np.uint8) for cell in cells]
    return pad(rolls, entry)
