"""`draw_figure`: plot one row of panels per variant; `leading_units`: find the latent units with the largest KL."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dgmzoo.report import plots
from dgmzoo.report.matplotlib_style import default_style
from dgmzoo.report.pictures.base import Renderer
from dgmzoo.report.pictures.images import Images

TRAVERSAL_STEPS = 8
_CURVES_WIDTH = 6.0  # inches
_UNITS = 6  # units of a layer whose posterior is plotted


class FigureRow(NamedTuple):
    """Arrays that are plotted in the row of one variant; None or empty if the model does not have them."""

    kl: dict[str, np.ndarray]  # layer -> [U]  mean over examples
    values: dict[str, np.ndarray]  # layer -> [N, U]  one sample of q(z | x) for each example
    prior: dict[str, np.ndarray]  # layer -> [N, U]  samples of the prior
    labels: np.ndarray | None  # [N]
    samples: np.ndarray | None  # [num, ...]  samples, or means of p(x | z) with z from the prior
    traversal: np.ndarray | None  # [units * TRAVERSAL_STEPS, ...]  means of p(x | z)
    flipped: np.ndarray | None  # [3 * num, ...]  x, x with flipped pixels, mean of p(x | z) with z from the flipped x


class _Panel(NamedTuple):
    """A column of the figure. `draw(subfigure, row, layer, max_kl)` returns False if there is nothing to draw."""

    title: str
    draw: Callable[[Any, FigureRow, str, float], bool]
    layer: str = ""


def leading_units(values: np.ndarray, kl: np.ndarray | None, num: int = _UNITS) -> np.ndarray:
    """Indices of the `num` units with the largest KL or, without a KL per unit, the largest variance over x.

    Args:
      values: codes `[N, U]`.
      kl: `[U]`.

    >>> leading_units(np.zeros((5, 3)), kl=np.array([0.1, 2.0, 0.5]), num=2).tolist()
    [1, 2]
    """
    variance = values.reshape(len(values), -1).var(0)
    weight = variance if kl is None or kl.shape != variance.shape else kl
    return np.argsort(-weight, kind="stable")[:num]


def draw_figure(
    rows: Mapping[str, FigureRow],
    renderer: Renderer,
    metrics: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
) -> bytes:
    """Draw a figure with the learning curves of all variants, and below them one row for each variant, as PNG.

    Args:
      renderer: the drawings of the data.
      metrics: variant -> rows of metrics of each seed.
    """
    with default_style():
        return _draw_figure(rows, renderer, metrics)


def _draw_figure(rows, renderer, metrics) -> bytes:
    from matplotlib.figure import Figure

    panels = _panels(rows, renderer)
    kls = [units for row in rows.values() for units in row.kl.values() if len(units) > 1]
    finite = [units[np.isfinite(units)] for units in kls]
    max_kl = max((units.max() for units in finite if units.size), default=1.0) or 1.0
    width = max(3.1 * len(panels), _CURVES_WIDTH)
    figure = Figure(figsize=(width, 2.7 * len(rows) + 3.2), layout="constrained")
    top, *row_figures = figure.subfigures(1 + len(rows), 1, hspace=0.03, height_ratios=[3.0] + [2.7] * len(rows))
    curves, _ = top.subfigures(1, 2, width_ratios=[_CURVES_WIDTH, width - _CURVES_WIDTH + 1e-3])
    plots.draw_mean_curves(curves.add_subplot(), metrics)
    for row_figure, (name, row) in zip(row_figures, rows.items(), strict=True):
        row_figure.suptitle(name, x=0.01, ha="left", fontweight="bold")
        subfigures = np.atleast_1d(row_figure.subfigures(1, len(panels)))
        for subfigure, panel in zip(subfigures, panels, strict=True):
            subfigure.suptitle(panel.title, fontsize=9, color="0.35")
            if panel.draw(subfigure, row, panel.layer, max_kl) is False:
                subfigure.text(0.5, 0.5, "–", ha="center", color="0.5")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def _panels(rows: Mapping[str, FigureRow], renderer: Renderer) -> list[_Panel]:
    """Panels that at least one variant can fill."""
    layers = list(dict.fromkeys(layer for row in rows.values() for layer in sorted(row.values)))

    def draw_samples(subfigure, row, layer, max_kl):
        if row.samples is None:
            return False
        renderer.draw(subfigure, row.samples, beside=True)
        return True

    def draw_traversal(subfigure, row, layer, max_kl):
        if row.traversal is None:
            return False
        renderer.draw_rows(subfigure, row.traversal, TRAVERSAL_STEPS)
        return True

    def draw_flipped(subfigure, row, layer, max_kl):
        if row.flipped is None:
            return False
        renderer.draw_rows(subfigure, row.flipped, len(row.flipped) // 3)
        return True

    samples = _Panel("samples (means)" if renderer.shows_means else "samples beside test rows", draw_samples)
    if not layers:
        return [samples]
    return [
        _Panel("KL per unit, sorted [nats]", _draw_kl),
        *(_Panel(f"q({layer}) against p, leading units", _draw_posterior, layer) for layer in layers),
        *(
            _Panel(f"{layer}: one sample of q(z | x) per x", _draw_code_map, layer)
            for layer in layers
            if any(_has_two_units(row, layer) for row in rows.values())
        ),
        samples,
        *([_Panel("traversal of the leading units", draw_traversal)] if isinstance(renderer, Images) else []),
        *([_Panel("x; flipped x; mean from flipped x", draw_flipped)] if isinstance(renderer, Images) else []),
    ]


def _has_two_units(row: FigureRow, layer: str) -> bool:
    return layer in row.values and row.values[layer].shape[1:] == (2,)


def _draw_kl(subfigure, row: FigureRow, layer: str, max_kl: float) -> bool:
    if not row.kl:
        return False
    axes = subfigure.add_subplot()
    curves = {}
    for name, units in row.kl.items():
        is_whole_code = len(units) == 1 and row.values[name].shape[1:] != (1,)  # a layer without a KL per unit
        curves[f"{name}: {'the whole code' if is_whole_code else len(units)}"] = units
    plots.draw_sorted_units(axes, curves)
    row_max = max((units.max() for units in row.kl.values() if np.isfinite(units).all()), default=max_kl)
    # Sums over units need a scale of their own, far above that of single units.
    only_sums = all(len(units) == 1 for units in row.kl.values())
    axes.set(ylim=(0, 1.05 * (row_max if only_sums else max(row_max, max_kl)) or 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return True


def _draw_posterior(subfigure, row: FigureRow, layer: str, max_kl: float) -> bool:
    """Histograms of the aggregate posterior and the prior of the leading units."""
    if layer not in row.values:
        return False
    values = row.values[layer].reshape(len(row.values[layer]), -1)
    units = leading_units(values, row.kl.get(layer))
    for i, unit in enumerate(units):
        axes = subfigure.add_subplot(2, _UNITS // 2, i + 1)
        samples = [values[:, unit]]
        if layer in row.prior:
            samples.append(row.prior[layer].reshape(len(row.prior[layer]), -1)[:, unit])
        samples = [array[np.isfinite(array)] for array in samples]
        if not all(array.size for array in samples):
            return False
        low, high = np.quantile(np.concatenate(samples), (0.005, 0.995))
        bins = np.linspace(low - 1e-3, high + 1e-3, 41)
        axes.hist(samples[0], bins, density=True, alpha=0.6, label="q")
        if len(samples) > 1:
            axes.hist(samples[1], bins, density=True, histtype="step", color="black", linewidth=0.8, label="p")
        axes.set_yscale("function", functions=(np.sqrt, np.square))  # keeps the density beside a point mass visible
        axes.set_yticks([])
        axes.tick_params(labelsize=6)
        if i == 0:
            axes.legend(frameon=False, fontsize=6, handlelength=1)
    return True


def _draw_code_map(subfigure, row: FigureRow, layer: str, max_kl: float) -> bool:
    """Scatter plot of a code of two units, coloured by label."""
    if not _has_two_units(row, layer):
        return False
    axes = subfigure.add_subplot()
    points = row.values[layer]
    colours = {} if row.labels is None else {"c": row.labels[: len(points)], "cmap": "tab10"}
    axes.scatter(*points.T, s=2, **colours)
    axes.set_aspect("equal", "datalim")
    return True
