"""Decoders of sound and music sets, on generated files of the published form."""

import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from dgmzoo.data import lookup
from tests.support import file_writers

SPLITS = ("train", "valid", "test")


def test_spoken_digits_are_padded_and_split_by_index(folder, registered, random):
    clips = {
        f"{digit}_ann_{index}": random.integers(-900, 900, 50 + 10 * index) for digit in (0, 7) for index in (0, 4, 5)
    }
    with zipfile.ZipFile(folder("fsdd") / "recordings.zip", "w") as archive:
        for name, samples in clips.items():
            archive.writestr(f"free-spoken-digit-dataset-master/recordings/{name}.wav", file_writers.wav_bytes(samples))
        archive.writestr("free-spoken-digit-dataset-master/README.md", "text")
    registered("fsdd", splits={"train": 2, "test": 4})
    arrays, _ = lookup.load_arrays("fsdd")
    assert arrays["train/label"].tolist() == [0, 7] and arrays["test/label"].tolist() == [0, 0, 7, 7]
    np.testing.assert_array_equal(arrays["test/x"][3][arrays["test/mask"][3]], clips["7_ann_4"])
    with zipfile.ZipFile(folder("fsdd") / "recordings.zip", "w") as archive:
        archive.writestr("recordings/0_ann_0.wav", file_writers.wav_bytes(np.zeros(9), rate=16000))
    registered("fsdd", splits={"train": 2, "test": 4}, sha256="0")
    with pytest.raises(ValueError, match="16000 Hz"):
        lookup.load_arrays("fsdd")


@pytest.mark.parametrize("name", ["jsb_chorales", "nottingham", "musedata", "piano_midi"])
def test_piano_rolls_are_padded_and_masked(name, folder, registered, random):
    rolls = {
        split: [random.integers(0, 2, (3 + row, 88)) for row in range(num)]
        for split, num in zip(SPLITS, (4, 2, 3), strict=True)
    }
    stored = {}
    for split, rows in rolls.items():
        stored[f"{split}data"] = np.empty((1, len(rows)), object)
        stored[f"{split}data"][0] = [row.astype(float) for row in rows]
    entry = registered(name, splits={"train": 4, "valid": 2, "test": 3})
    savemat(folder(name) / entry.files[0], stored)
    arrays, _ = lookup.load_arrays(name)
    assert arrays["test/x"].shape == (3, 6, 88)
    for x, mask, roll in zip(arrays["test/x"], arrays["test/mask"], rolls["test"], strict=True):
        np.testing.assert_array_equal(x[mask], roll)
        assert not x[~mask].any()
