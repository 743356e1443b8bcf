"""`spoken_digits`: decode recordings of digits; `piano_rolls`: decode music; `pad`: pad sequences to one length.

Sequences are padded with 0 to the length of the longest; the mask is [N, T].
"""

import io
import struct
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.readers import files, mat

Arrays = dict[str, np.ndarray]
_MAX_PADDED_BYTES = 1 << 30
"""Limit on the bytes of a set of sequences once all are padded to the longest."""


def pad(splits: Mapping[str, list[np.ndarray]], entry: Entry) -> Arrays:
    """Pad sequences to the length T of the longest.

    Args:
      splits: split -> sequences [T_i, ...] of one dtype.

    Returns:
      `split/x` [N, T, ...] and `split/mask` bool [N, T].

    Raises:
      ValueError: other numbers of rows than published, or a sequence so long that the padded set would be too large.
    """
    if (rows := {split: len(sequences) for split, sequences in splits.items()}) != dict(entry.splits):
        raise ValueError(f"expected {entry.name} with rows {dict(entry.splits)}, got {rows}")
    all_sequences = [sequence for sequences in splits.values() for sequence in sequences]
    longest = max(map(len, all_sequences))
    if (size := len(all_sequences) * longest * all_sequences[0][:1].nbytes) > _MAX_PADDED_BYTES:
        raise ValueError(f"expected {entry.name} to take {_MAX_PADDED_BYTES} bytes at most once padded, got {size}")
    arrays = {}
    for split, sequences in splits.items():
        x = np.zeros((len(sequences), longest, *all_sequences[0].shape[1:]), all_sequences[0].dtype)
        mask = np.zeros((len(sequences), longest), bool)
        for row, sequence in enumerate(sequences):
            x[row, : len(sequence)], mask[row, : len(sequence)] = sequence, True
        arrays |= {f"{split}/x": x, f"{split}/mask": mask}
    return arrays


def spoken_digits(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """Decode recordings `{digit}_{speaker}_{index}.wav`, 8 kHz, mono, 16 bit; indices 0 to 4 are the test set."""
    clips: dict[str, list] = {"train": [], "test": []}
    path = paths[entry.files[0]]
    recordings = {}
    with files.reporting_damage(path, "zip file"):
        for name, stream, size in files.zip_members(path, 1 << 28, ".wav"):
            recordings[name.rpartition("/")[2]] = files.read_bounded(stream, size, name)
    for name in sorted(recordings):
        parts = name.removesuffix(".wav").split("_")
        if len(parts) != 3 or not parts[0].isdigit() or not parts[2].isdigit():
            raise ValueError(f"expected DIGIT_SPEAKER_INDEX.wav, got {name!r} in {path}")
        clips["test" if int(parts[2]) < 5 else "train"].append((_decode_wav(recordings[name], name), int(parts[0])))
    if not clips["train"] or not clips["test"]:
        raise ValueError(f"expected recordings of train and test, got {len(recordings)} in {path}")
    labels = {f"{split}/label": np.array([digit for _, digit in rows], np.int32) for split, rows in clips.items()}
    return pad({split: [clip for clip, _ in rows] for split, rows in clips.items()}, entry) | labels


def _decode_wav(data: bytes, name: str) -> np.ndarray:
    """Decode a wav file, mono, 16 bit, 8 kHz, to int16 [T]."""
    try:
        with wave.open(io.BytesIO(data)) as sound:
            parameters = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            if parameters != (1, 2, 8000):
                raise ValueError(f"{parameters[0]} channels of {parameters[1]} bytes at {parameters[2]} Hz")
            frames = sound.readframes(len(data))
    except (wave.Error, EOFError, ValueError, RuntimeError, struct.error) as error:
        raise ValueError(f"expected a wav file, mono, 16 bit, 8 kHz, got {name}: {error}") from error
    return np.frombuffer(frames, "<i2").astype(np.int16)


def piano_rolls(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """Decode Boulanger-Lewandowski's piano rolls, cells of a .mat file: uint8 {0, 1} [N, T, 88]."""
    path = paths[entry.files[0]]
    names = {"train": "traindata", "valid": "validdata", "test": "testdata"}
    variables = mat.read(path, list(names.values()), 1 << 28)
    rolls = {}
    for split, name in names.items():
        cells = variables[name] if isinstance(variables[name], list) else []
        for cell in cells:
            is_roll = (
                isinstance(cell, np.ndarray) and cell.dtype.kind in "biuf" and cell.ndim == 2 and cell.shape[1] == 88
            )
            if not is_roll or not np.isin(cell, (0, 1)).all():
                raise ValueError(f"expected {name} to hold rolls [T, 88] of 0 and 1, got something else in {path}")
        if not cells:
            raise ValueError(f"expected {name} to hold rolls [T, 88], got none in {path}")
        rolls[split] = [cell.astype(np.uint8) for cell in cells]
    return pad(rolls, entry)
