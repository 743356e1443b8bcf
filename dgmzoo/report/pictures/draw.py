"""`picture`: draw examples in the way of their kind of data; `renderer`: the drawings of a data set."""

import numpy as np

from dgmzoo.data import Dataset
from dgmzoo.data.masks import spread_mask
from dgmzoo.report.pictures.base import Picture, Renderer, observed, test_rows
from dgmzoo.report.pictures.images import Images
from dgmzoo.report.pictures.sequences import Counts, Rolls, Sound, Words
from dgmzoo.report.pictures.tables import Bits, Points, Tables

_OF_KIND = {"tokens": Words, "counts": Counts, "rolls": Rolls, "sound": Sound}


def renderer(dataset: Dataset) -> Renderer:
    """The drawings of a data set.

    >>> from dgmzoo.data import Data, load_dataset
    >>> type(renderer(load_dataset(Data("digits")))).__name__, type(renderer(load_dataset(Data("toy_moons")))).__name__
    ('Images', 'Points')
    """
    kind, shape = dataset.entry.kind, dataset.shape
    if kind in _OF_KIND:
        return _OF_KIND[kind](dataset)
    if dataset.entry.display_shape or len(shape) == 3:
        return Images(dataset)
    if dataset.in_unit_interval and _are_bits(dataset):
        return Bits(dataset)
    return Points(dataset) if shape == (2,) and not dataset.observe.integer_valued else Tables(dataset)


def _are_bits(dataset: Dataset) -> bool:
    if dataset.entry.maximum == 1 or dataset.encoding in ("dynamic", "static", "threshold"):
        return True
    x = test_rows(dataset)  # real numbers may be 0 and 1 alone
    return x is not None and bool(np.isin(x[np.isfinite(x)], (0, 1)).all())


def picture(dataset: Dataset, x: np.ndarray | None = None, split: str = "train", num: int = 64) -> Picture:
    """Picture of examples: images, histograms or scatter plots of columns, points, words, notes or waves.

    A notebook shows it, and `save` writes it to a file.

    Args:
      x: examples `[N, ...]` as the model sees them, such as `run.sample(64)`; None: rows of a split, images without the
        binarization of training.
      split: the split of the rows.
      num: number of rows of images, texts and sequences; all rows of tables and points are drawn, up to 10,000.

    Raises:
      ValueError: the set has no such split.

    >>> from dgmzoo.data import Data, load_dataset
    >>> picture(load_dataset(Data("toy_moons"))).caption
    'toy_moons, train'
    """
    drawn = renderer(dataset)
    if x is not None:
        return drawn.picture(np.asarray(x), dataset.name)
    if split not in dataset.splits:
        raise ValueError(f"expected a split of {dataset.name}, one of {', '.join(dataset.splits)}, got {split!r}")
    if isinstance(drawn, Images):
        x = _stored_images(dataset, split, num)
    else:
        x = observed(dataset.evaluation_rows(split, 10_000 if isinstance(drawn, Tables | Counts) else num))
    return drawn.picture(x, f"{dataset.name}, {split}")


def _stored_images(dataset: Dataset, split: str, num: int) -> np.ndarray:
    """The first images, grey even where training binarizes them; NaN where an element is not observed."""
    rows = {name: np.asarray(leaf[:num]) for name, leaf in dataset.splits[split].items()}
    x = rows["x"]
    if dataset.encoding not in ("static", "classes"):
        x = x.astype(np.float32) / np.float32(dataset.entry.maximum or 1)
    if "mask" in rows:
        rows["mask"] = spread_mask(rows["mask"], x.shape)
    return observed(rows | {"x": x})
