"""`Picture`: a PNG with a caption; `Renderer`: the base class of the drawings of one kind of data."""

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dgmzoo import files
from dgmzoo.data import Dataset
from dgmzoo.data.masks import spread_mask
from dgmzoo.report.matplotlib_style import default_style

Density = Callable[[np.ndarray], np.ndarray]
"""Points `[N, 2]` in the units of the data to a model's density at them, `[N]`."""

DATA, MODEL = "0.72", "tab:blue"  # colours of rows of the data and of samples of a model
_BESIDE = 2000  # rows of the data, at most, that are drawn beside samples


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG, which a notebook shows.

    >>> Picture(b"...", "Samples").caption
    'Samples'
    """

    png: bytes = dataclasses.field(repr=False)
    caption: str
    is_drawn: bool = True
    """True for axes and text; False for enlarged pixels of images, which a page must not smooth."""

    def save(self, path: str | Path) -> Path:
        """Write the PNG to a file and return its path."""
        path = Path(path).expanduser()
        files.write_bytes(path, self.png)
        return path

    def _repr_png_(self) -> bytes:
        return self.png


@dataclasses.dataclass(frozen=True, eq=False)
class Renderer:
    """Drawings of one kind of data. All arrays of x are `[N, *shape]`, as the model sees them.

    A subclass draws into a Matplotlib figure, or a part of one. Columns of a table that was standardised for the model are
    drawn in their own units.
    """

    dataset: Dataset

    shows_means = False
    """Samples are shown as the means of p(x | .), as papers picture images."""
    num_samples = 1000
    """Samples in a picture of a report."""
    size = (8.0, 5.0)
    """Inches of a picture."""

    def draw(self, figure: Any, x: np.ndarray, beside: bool = False, density: Density | None = None) -> None:
        """Draw examples x.

        Args:
          figure: a Matplotlib figure or subfigure.
          beside: x are samples of a model, and are drawn beside test rows.
          density: the density of the model, which is drawn for points of the plane.
        """
        raise NotImplementedError

    def draw_pairs(self, figure: Any, x: np.ndarray, y: np.ndarray) -> None:
        """Draw rows x of the data and their reconstructions y. Elements of x that are not observed are NaN."""
        raise NotImplementedError

    def picture(self, x: np.ndarray, caption: str, beside: bool = False, density: Density | None = None) -> Picture:
        """Picture of examples x; see `draw`. Without the data, of a run that was moved, x stand alone."""
        beside = beside and self.test_x is not None
        return self._picture(lambda figure: self.draw(figure, x, beside, density), caption)

    def pairs(self, x: np.ndarray, y: np.ndarray, caption: str) -> Picture:
        """Picture of rows and their reconstructions; see `draw_pairs`."""
        return self._picture(lambda figure: self.draw_pairs(figure, x, y), caption)

    def caption(self, are_means: bool) -> str:
        """Caption of a picture of samples."""
        return "Samples beside test rows, in the units of the data"

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Examples as columns in the units of the data, float64 `[N, D]`."""
        if self.dataset.standardization:
            x = self.dataset.standardization.invert(x)
        return np.asarray(x, np.float64).reshape(len(x), -1)

    @functools.cached_property
    def test_x(self) -> np.ndarray | None:
        """Test rows as the model sees them, `[N, *shape]`, NaN where an element is not observed; None without the data."""
        return test_rows(self.dataset)

    @functools.cached_property
    def test_columns(self) -> np.ndarray:
        """Test rows as columns in the units of the data, `[N, D]`; NaN where an element is not observed."""
        return self.columns(self.test_x)

    def _picture(self, draw: Callable[[Any], None], caption: str) -> Picture:
        with default_style():
            from matplotlib.figure import Figure  # in contrast to pyplot it has no global state and needs no display

            figure = Figure(figsize=self.size, layout="constrained")
            draw(figure)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
        return Picture(buffer.getvalue(), caption)


def test_rows(dataset: Dataset) -> np.ndarray | None:
    """x of test rows, at most 2000; None where a loaded run has its description of the data, and the data are not there."""
    try:
        return observed(dataset.evaluation_rows("test", _BESIDE))
    except (OSError, ValueError):
        return None


def observed(rows: dict[str, np.ndarray]) -> np.ndarray:
    """x of encoded rows, with NaN where the mask is False.

    >>> observed({"x": np.ones((1, 2)), "mask": np.array([[True, False]])}).tolist()
    [[1.0, nan]]
    """
    x = np.asarray(rows["x"])
    if "mask" not in rows:
        return x
    return np.where(spread_mask(np.asarray(rows["mask"], bool), x.shape), x.astype(np.float32), np.float32(np.nan))


def num_panels(figure: Any, width: float, height: float) -> tuple[int, int]:
    """Rows and columns of panels of at least `width` x `height` inches that a figure has room for."""
    inches = figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi
    return max(1, int(inches[1] / height)), max(1, int(inches[0] / width))


def finite(values: np.ndarray) -> np.ndarray:
    """The finite ones of some values, as a vector."""
    return values[np.isfinite(values)]
