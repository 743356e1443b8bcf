"""`summarize`: describe a data set as text."""

import numpy as np

from dgmzoo.data.dataset import Dataset
from dgmzoo.data.masks import spread_mask

_SHADES = " .:-=+*#%@"
_WIDTH = 96
"""Columns of the terminal that shades may take."""


def summarize(dataset: Dataset, split: str = "train") -> str:
    """Text about a loaded set: splits, digest, and the first rows of a split.

    Images, piano rolls, sounds and points are shown as shades, tables as statistics of their columns.

    Raises:
      ValueError: the set has no such split.

    >>> from dgmzoo.data import Data, load_dataset
    >>> summarize(load_dataset(Data("toy_moons"))).splitlines()[2].split()
    ['column', 'mean', 'sd', 'least', 'largest']
    """
    if split not in dataset.splits:
        raise ValueError(f"expected a split of {dataset.name}, one of {', '.join(dataset.splits)}, got {split!r}")
    rows = ", ".join(f"{name} {len(fields['x']):,}" for name, fields in dataset.splits.items())
    facts = [f"{dataset.name}: {rows} of {' x '.join(map(str, dataset.shape))}"]
    if dataset.encoding:
        facts.append(f"encoding {dataset.encoding}")
    if dataset.num_classes:
        facts.append(f"{dataset.num_classes} classes")
    facts.append(f"sha256 {dataset.sha256[:16]}")
    return "\n".join(["; ".join(facts), "", *_preview_lines(dataset, split)])


def _preview_lines(dataset: Dataset, split: str) -> list[str]:
    kind, shape = dataset.entry.kind, dataset.shape
    if kind == "tokens":
        return _sentence_lines(dataset, split)
    if kind == "counts":
        return _frequent_word_lines(dataset, split)
    if kind in ("table", "points") or (kind == "images" and len(shape) != 3):
        lines = _column_lines(dataset, split)
        return [*lines, "", *_scatter_lines(dataset, split)] if shape == (2,) else lines
    if dataset.entry.display_shape:
        return _image_lines(dataset, split)
    if kind == "binary" or (len(shape) == 1 and kind != "sound"):
        return _shade(dataset.evaluation_rows(split, 12)["x"].reshape(-1, shape[0]))
    if kind == "sound":
        return _waveform_lines(dataset, split)
    if kind == "rolls":
        roll = _first_sequence(dataset, split).T[::-1]
        pitches = np.flatnonzero(roll.any(1))
        return _shade(roll[pitches[0] : pitches[-1] + 1])
    return _image_lines(dataset, split)


def _image_lines(dataset: Dataset, split: str) -> list[str]:
    """The first images side by side, gray even where training binarizes them, 32 columns each at most."""
    width = (dataset.entry.display_shape or dataset.shape)[1]
    step = -(-width // 32)
    num = min(len(dataset.splits[split]["x"]), max(1, _WIDTH // (width // step + 1)))
    x = _stored_images(dataset, split, num).mean(-1)
    x = x / (x.max() or 1.0)
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % (2 * step)), (0, -x.shape[2] % step)))
    # A character is twice as high as wide, so it stands for 2 * step rows and step columns.
    x = x.reshape(num, x.shape[1] // (2 * step), 2 * step, x.shape[2] // step, step).mean((2, 4))
    return _shade(np.concatenate([np.pad(image, ((0, 0), (0, 1))) for image in x], 1))


def _stored_images(dataset: Dataset, split: str, num: int) -> np.ndarray:
    """The first images [N, H, W, C] in [0, 1] as stored, without the binarization of training."""
    x = np.asarray(dataset.splits[split]["x"][:num], np.float32) / np.float32(dataset.entry.maximum or 1)
    return x.reshape(-1, *(dataset.entry.display_shape or dataset.shape))


def _shade(values: np.ndarray) -> list[str]:
    """Lines of characters for a matrix in [0, 1]."""
    level = np.clip(values[:, :_WIDTH] * (len(_SHADES) - 1), 0, len(_SHADES) - 1).round().astype(int)
    return ["".join(_SHADES[v] for v in row).rstrip() for row in level]


def _column_lines(dataset: Dataset, split: str) -> list[str]:
    """Statistics of the observed values of the first 32 columns."""
    x = _table_values(dataset, split)
    names = [name[:24] for name in dataset.entry.columns] or [str(number) for number in range(x.shape[1])]
    width = max(8, *(len(name) for name in names[:32]))
    lines = [f"{'column':>{width}}{'mean':>12}{'sd':>12}{'least':>12}{'largest':>12}"]
    for number in range(min(x.shape[1], 32)):
        column = x[:, number][~np.isnan(x[:, number])]
        if not len(column):
            lines.append(f"{names[number]:>{width}}  no value")
            continue
        lines.append(
            f"{names[number]:>{width}}{column.mean():>12.4g}{column.std():>12.4g}{column.min():>12.4g}{column.max():>12.4g}"
        )
    return lines + ([f"     ... {x.shape[1]} columns"] if x.shape[1] > 32 else [])


def _table_values(dataset: Dataset, split: str) -> np.ndarray:
    """The values of a split as columns in the units of the data, float64 [N, D]; NaN where an element is hidden."""
    rows = dataset.splits[split]
    x = np.asarray(rows["x"])
    if dataset.standardization:
        x = dataset.standardization.invert(x)
    if "mask" in rows:
        x = np.where(spread_mask(np.asarray(rows["mask"]), x.shape), x, np.nan)
    return x.reshape(len(x), -1).astype(np.float64)


def _scatter_lines(dataset: Dataset, split: str) -> list[str]:
    x = _table_values(dataset, split)
    x = x[~np.isnan(x).any(1)]
    if not len(x):
        return ["(no row with both values)"]
    counts, _, _ = np.histogram2d(x[:, 1], x[:, 0], bins=(24, 48))
    return _shade(np.sqrt(counts[::-1] / counts.max()))


def _first_sequence(dataset: Dataset, split: str) -> np.ndarray:
    """The first sequence [T, ...] without its padding."""
    rows = dataset.evaluation_rows(split, 1)
    return rows["x"][0][rows["mask"][0].reshape(len(rows["mask"][0]), -1).any(1)]


def _waveform_lines(dataset: Dataset, split: str) -> list[str]:
    parts = np.array_split(np.abs(_first_sequence(dataset, split)), _WIDTH)
    level = np.array([part.max() for part in parts])
    return _shade((level / level.max() > np.linspace(0.95, 0.05, 8)[:, None]).astype(float))


def _sentence_lines(dataset: Dataset, split: str, num: int = 2, length: int = 8) -> list[str]:
    words = dataset.vocabulary
    sentences = dataset.evaluation_rows(split, num)["x"]
    return [f"{' '.join(words[token] for token in x[:length])} ..." for x in sentences] + [f"{len(words):,} words"]


def _frequent_word_lines(dataset: Dataset, split: str, num: int = 3) -> list[str]:
    words, lines = dataset.vocabulary, []
    for counts in dataset.evaluation_rows(split, num)["x"]:
        most_frequent = np.argsort(-counts, kind="stable")[:8]
        lines.append(", ".join(f"{words[at]} {int(counts[at])}" for at in most_frequent if counts[at]))
    return lines
