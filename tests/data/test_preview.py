"""Previews: every kind of data has a summary for the terminal."""

import numpy as np
import pytest

from dgmzoo.data import Data, from_arrays, load_dataset, summarize

random = np.random.default_rng(0)


def test_summary_shows_an_image_in_shades():
    x = np.zeros((11, 16, 12), np.uint8)
    x[:, 4:12, 3:9] = 255
    text = summarize(load_dataset(from_arrays(x))).splitlines()
    assert text[0].startswith("arrays: train 9, valid 1, test 1 of 16 x 12 x 1; encoding gray; sha256")
    assert text[2] == text[3] == "" and text[4].startswith("   @@@@@@       @@@@@@ ")


@pytest.mark.parametrize(
    "config",
    [
        Data(),
        Data("toy_moons"),
        from_arrays(random.normal(size=(50, 40))),
        from_arrays(random.integers(0, 2, (50, 9))),
        from_arrays(random.integers(0, 256, (50, 300, 200, 3)).astype(np.uint8)),
        from_arrays(random.random((50, 7))),
    ],
    ids=lambda config: config.name,
)
def test_every_kind_has_a_summary(config):
    data = load_dataset(config)
    lines = summarize(data).splitlines()
    assert lines[0].startswith(config.name) and max(map(len, lines[2:])) <= 110
    with pytest.raises(ValueError, match="one of train"):
        summarize(data, "dev")


def test_f11_statistics_of_own_tables_are_in_their_units():
    x = np.random.default_rng(0).normal(5000, 1000, (300, 2)) * [1, 0.001]
    for missing in (0.0, 0.3):
        data = load_dataset(from_arrays(x, missing=missing))
        mask = data.splits["train"].get("mask", True)
        column = np.ma.masked_array(x[data.row_numbers["train"]], mask=~np.array(mask) & np.ones((240, 2), bool))[:, 0]
        line = summarize(data).splitlines()[3].split()
        np.testing.assert_allclose(
            [float(v) for v in line[1:]], [column.mean(), column.std(), column.min(), column.max()], rtol=2e-3
        )


def test_f47_preview_with_hidden_elements():
    data = load_dataset(from_arrays({"x": np.eye(40)[:, :30] > 0, "mask": np.ones((40, 30))}, missing=0.2))
    assert summarize(data)
