"""`Tables`: columns of real numbers or classes; `Points`: points of the plane; `Bits`: vectors of binary values."""

import functools
from typing import Any

import numpy as np

from dgmzoo.report.pictures.base import DATA, MODEL, Renderer, finite, num_panels

_SCATTER = 4  # columns, at most, that are drawn against each other
_GRID = 80  # points along each side of a density
_BINS = 40


class Tables(Renderer):
    """Columns of a table: scatter plots of a few, histograms of many, moments of all."""

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the columns, or their numbers from 0."""
        num = int(np.prod(self.dataset.shape))
        names = self.dataset.entry.columns
        return [name[:24] for name in names] if len(names) == num else [f"column {number}" for number in range(num)]

    def draw(self, figure, x, beside=False, density=None):
        columns = self.columns(x)
        rows, panels = num_panels(figure, 1.5, 1.3)
        num = columns.shape[1]
        if 2 <= num <= min(_SCATTER, rows, panels) and not self.dataset.observe.integer_valued:
            self._scatter_matrix(figure, columns, beside)
            return
        moments = beside and num > rows * panels > 8
        shown = min(num, rows * panels - 2 * moments)
        panels = min(panels, shown + 2 * moments)
        rows = -(-(shown + 2 * moments) // panels)
        for number in range(shown):
            axes = figure.add_subplot(rows, panels, number + 1)
            self._histogram(axes, columns, number, beside)
            axes.set_title(self.names[number], fontsize=8)
        if moments:
            for i, (moment, title) in enumerate(((np.nanmean, "means"), (np.nanstd, "deviations"))):
                self._moments(figure.add_subplot(rows, panels, shown + i + 1), x, moment, f"{title} of all {num:,}")
        if beside:
            _legend(figure)

    def draw_pairs(self, figure, x, y):
        truth, mean = self.columns(x), self.columns(y)
        rows, panels = num_panels(figure, 1.9, 1.6)
        shown = min(truth.shape[1], rows * panels)
        panels = min(panels, shown)
        for number in range(shown):
            axes = figure.add_subplot(-(-shown // panels), panels, number + 1)
            axes.plot(truth[:, number], mean[:, number], ".", color=MODEL, markersize=3)
            _diagonal(axes, truth[:, number], mean[:, number])
            axes.set_title(self.names[number], fontsize=8)
            axes.locator_params(nbins=4)
            axes.tick_params(labelsize=7)
        figure.supxlabel("test row", fontsize=9)
        figure.supylabel("reconstruction", fontsize=9)

    def caption(self, are_means):
        of_more = f", the first columns of {len(self.names):,}" if len(self.names) > 30 else ""
        return f"Samples beside test rows, in the units of the data{of_more}"

    def _histogram(self, axes: Any, columns: np.ndarray, number: int, beside: bool) -> None:
        values = finite(columns[:, number])
        data = finite(self.test_columns[:, number]) if beside else values
        bins = _bins(data, values)
        if len(data):
            axes.hist(data, bins, density=True, color=DATA)
        if beside and len(values):
            axes.hist(values, bins, density=True, histtype="step", color=MODEL, linewidth=1.4)
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(labelsize=7)

    def _scatter_matrix(self, figure: Any, columns: np.ndarray, beside: bool) -> None:
        num = columns.shape[1]
        for row in range(num):
            for column in range(num):
                axes = figure.add_subplot(num, num, row * num + column + 1)
                if row == column:
                    self._histogram(axes, columns, row, beside)
                else:
                    if beside:
                        axes.plot(*self.test_columns[:, (column, row)].T, ".", color=DATA, markersize=2)
                    colour = MODEL if beside else "0.45"
                    axes.plot(*columns[:, (column, row)].T, ".", color=colour, markersize=2, alpha=0.6)
                    axes.locator_params(nbins=4)
                    axes.tick_params(labelsize=7)
                    _frame(axes, *(self.test_columns if beside else columns)[:, (column, row)].T)
                if row == num - 1:
                    axes.set_xlabel(self.names[column], fontsize=8)
                if column == 0:
                    axes.set_ylabel(self.names[row], fontsize=8)
        if beside:
            _legend(figure)

    def _moments(self, axes: Any, x: np.ndarray, moment: Any, title: str) -> None:
        """A moment of every column, as the model sees it: the units of a table may be orders of magnitude apart."""
        x, test_x = (array.reshape(len(array), -1) for array in (x, self.test_x))
        has_value = np.isfinite(test_x).any(0)
        data, model = moment(test_x[:, has_value], axis=0), moment(x[:, has_value], axis=0)
        axes.plot(data, model, ".", color=MODEL, markersize=3)
        _diagonal(axes, data, model)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("test rows", fontsize=7)
        axes.set_ylabel("samples", fontsize=7)
        axes.tick_params(labelsize=7)


class Points(Tables):
    """Points of the plane: test rows, samples, and the density of the model."""

    num_samples = 2000
    size = (9.0, 3.2)

    def draw(self, figure, x, beside=False, density=None):
        points = self.columns(x)
        titles = ["test rows", "samples"] if beside else [""]
        data = self.test_columns if beside else points
        panels = [data, points][: len(titles)]
        num = len(titles) + (density is not None)
        for i, (title, shown) in enumerate(zip(titles, panels, strict=True)):
            axes = figure.add_subplot(1, num, i + 1)
            axes.plot(*shown.T, ".", color=MODEL if title == "samples" else "0.35", markersize=1.5)
            self._frame(axes, data, title)
        if density is not None:
            axes = figure.add_subplot(1, num, num)
            self._frame(axes, data, "density of the model")
            sides = [np.linspace(*limits, _GRID) for limits in (axes.get_xlim(), axes.get_ylim())]
            grid = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
            values = density(grid).reshape(_GRID, _GRID)
            # Importance weights are noisy where the posterior misses: single points must not set the scale.
            axes.pcolormesh(*sides, values, vmin=0, vmax=np.quantile(values, 0.998), shading="nearest")

    def draw_pairs(self, figure, x, y):
        truth, mean = self.columns(x), self.columns(y)
        axes = figure.add_subplot()
        axes.plot(*np.stack([truth, mean], 1).transpose(2, 1, 0), color="0.85", linewidth=0.6)
        axes.plot(*truth.T, ".", color="0.35", markersize=4, label="test row")
        axes.plot(*mean.T, ".", color=MODEL, markersize=4, label="reconstruction")
        axes.legend(frameon=False, fontsize=8)
        axes.set_aspect("equal", "datalim")

    def _frame(self, axes: Any, data: np.ndarray, title: str) -> None:
        _frame(axes, *data.T)
        axes.set_aspect("equal" if not self.dataset.standardization else "auto")
        axes.set_title(title, fontsize=9)
        if self.dataset.entry.columns:
            axes.set_xlabel(self.names[0], fontsize=8)
            axes.set_ylabel(self.names[1], fontsize=8)
        axes.tick_params(labelsize=7)


class Bits(Renderer):
    """Vectors of binary values: the first ones as rows of a matrix, and the share of ones of each element."""

    size = (8.0, 3.6)

    def draw(self, figure, x, beside=False, density=None):
        columns = self.columns(x)
        num = 2 if beside else 1
        self._matrix(figure.add_subplot(1, num, 1), columns, "sample" if beside else "row")
        if beside:
            axes = figure.add_subplot(1, num, 2)
            data, model = np.nanmean(self.test_columns, 0), np.nanmean(columns, 0)
            axes.plot(data, model, ".", color=MODEL)
            _diagonal(axes, data, model)
            axes.set(xlabel="mean of each element: test rows", ylabel="samples")

    def draw_pairs(self, figure, x, y):
        for i, (shown, title) in enumerate(((x, "test row"), (y, "reconstruction"))):
            self._matrix(figure.add_subplot(1, 2, i + 1), self.columns(shown), title)

    def caption(self, are_means):
        return "Samples, and the means of their elements beside those of test rows"

    def _matrix(self, axes: Any, columns: np.ndarray, title: str) -> None:
        axes.imshow(columns[:50], aspect="auto", cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xlabel="element", ylabel=title)


def _bins(data: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Edges of the bins of a histogram: centred on whole numbers where the data are a few of them."""
    data = data if len(data) else samples
    if not len(data):
        return np.array([0.0, 1.0])
    low, high = np.quantile(data, (0.002, 0.998))
    if np.array_equal(data, np.rint(data)) and data.max() - data.min() < _BINS:
        return np.arange(data.min(), data.max() + 2) - 0.5
    margin = 0.15 * (high - low) or 0.5
    num = int(np.clip(2 * np.sqrt(len(data)), 8, _BINS))
    return np.linspace(low - margin, high + margin, num + 1)


def _frame(axes: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Limits around the data, so that a few far samples do not shrink the picture."""
    for values, set_limits in ((finite(x), axes.set_xlim), (finite(y), axes.set_ylim)):
        if len(values):
            low, high = values.min(), values.max()
            margin = 0.12 * (high - low) or 0.5
            set_limits(low - margin, high + margin)


def _diagonal(axes: Any, x: np.ndarray, y: np.ndarray) -> None:
    values = np.concatenate([finite(x), finite(y)])
    if len(values):
        axes.plot([values.min(), values.max()], [values.min(), values.max()], color="0.7", linewidth=0.8, zorder=0)


def _legend(figure: Any) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=DATA, label="test rows"), Patch(color=MODEL, label="samples")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
