"""Draws grids of images as PNG, and training curves and scatter plots as SVG.

Matplotlib is imported only when something is drawn.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgmzoo import data

_KNOWN = (
    "step",
    "split",
    "loss",
    "elbo",
    "bound",
    "grad_norm",
    "seconds",
)  # all other metrics but the KLs have a panel each
_PANELS = 3  # in a row


def image_grid(x: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Image `[H', W', C]` in [0, 1] with all examples.

    Args:
      x: images `[N, H, W, C]`, which are arranged in a grid, or vectors `[N, ...]`, each of which becomes one row of
        pixels. Values of vectors outside of [0, 1] are rescaled.
      columns: images in a row of the grid.

    >>> image_grid(np.zeros((4, 8, 8, 1)), columns=2).shape
    (18, 18, 1)
    """
    x = np.asarray(x, np.float32)
    if not (x.ndim == 4 and x.shape[-1] in (1, 3)):
        flat = x.reshape(len(x), -1)
        spread = np.ptp(flat) or 1.0
        scaled = flat if flat.min() >= 0 and flat.max() <= 1 else (flat - flat.min()) / spread
        return np.repeat(np.repeat(scaled[..., None], 4, 0), 4, 1)
    image = data.tile_images(np.clip(x, 0, 1), columns, between=0)
    return image if image.ndim == 3 else image[..., None]


def image_pairs(x: np.ndarray, y: np.ndarray, columns: int = 10) -> np.ndarray:
    """Grid of images in which each row of `x [N, ...]` is followed by the corresponding row of `y [N, ...]`.

    >>> image_pairs(np.zeros((4, 8, 8, 1)), np.ones((4, 8, 8, 1)), columns=2).shape
    (36, 18, 1)
    """
    num = len(x) - len(x) % columns if len(x) >= columns else len(x)
    columns = min(columns, num)
    rows = []
    for start in range(0, num, columns):
        rows += [x[start : start + columns], y[start : start + columns]]
    return image_grid(np.concatenate(rows), columns)


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image `[H, W, C]` in [0, 1] as PNG, enlarged by a whole factor to about 560 pixels.

    >>> encode_png(np.zeros((2, 2, 1)))[1:4]
    b'PNG'
    """
    import matplotlib.image

    scale = max(1, round(560 / max(image.shape[:2])))
    large = np.repeat(np.repeat(image, scale, 0), scale, 1)
    colour = np.broadcast_to(large, (*large.shape[:2], 3)) if large.shape[-1] == 1 else large
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, colour, format="png")
    return buffer.getvalue()


def inline_image(png_bytes: bytes, caption: str = "") -> str:
    """HTML image tag that contains the PNG itself.

    >>> inline_image(b"", "samples")
    '<img alt="samples" src="data:image/png;base64,">'
    """
    alt, encoded = html.escape(caption, quote=True), base64.b64encode(png_bytes).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{encoded}">'


def training_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Training curves as SVG: the bound that is trained, of each split, and the KL of each layer, over steps.

    Where the training value is no bound, the rows of the training split have no `elbo`, and those of `train_bound` have.

    Args:
      rows: rows of metrics with `step`, `split`, `elbo`, `kl/<layer>`, and for an importance-weighted objective `bound`.

    >>> training_curves([{"step": step, "split": "train", "elbo": -90.0 - step} for step in (1, 2)])[:4]
    '<svg'
    """
    terms = sorted({name for row in rows for name in row if name.startswith("kl/")})
    bound = "bound" if any("bound" in row for row in rows) else "elbo"
    figure, axes = _figure(2 if terms else 1)
    for split, label in (("train", "train"), ("train_bound", "train"), ("valid", "valid")):
        split_rows = [row for row in rows if row["split"] == split and bound in row]
        if split_rows:
            _curve(axes[0], [row["step"] for row in split_rows], [row[bound] for row in split_rows], label)
    values = [row[bound] for row in rows if bound in row]
    if values:  # exclude the first steps, whose values are far from the others
        low, high = np.quantile(values, 0.05), max(values)
        margin = 0.03 * abs(high) or 1.0
        axes[0].set_ylim(low if low < high else low - margin, high + margin)
    axes[0].set(xlabel="step", ylabel="bound on log p(x) [nats]")
    for name in terms:
        kl_rows = [row for row in rows if row["split"] == "train" and name in row]
        _curve(axes[1], [row["step"] for row in kl_rows], [row[name] for row in kl_rows], name)
        axes[1].set(xlabel="step", ylabel="KL [nats]")
    return _svg(figure, axes)


def _curve(axes: Any, steps: Sequence[int], values: Sequence[float], label: str) -> None:
    """A line, or a point where there is one value (a run within one epoch)."""
    axes.plot(steps, values, label=label, marker="o" if len(steps) == 1 else None)


def metric_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Curves of the extra losses and of the objective's own metrics as SVG, one panel each; empty if there are none.

    >>> rows = [{"step": step, "split": "train", "loss": 1.0, "temperature": 1 / step} for step in (1, 2)]
    >>> metric_curves(rows)[:4], metric_curves([])
    ('<svg', '')
    """
    names = sorted({name for row in rows for name in row if name not in _KNOWN and not name.startswith("kl/")})
    if not names:
        return ""
    figure, axes = _figure(min(len(names), _PANELS), -(-len(names) // _PANELS))
    for name, plot in zip(names, axes, strict=False):
        for split in sorted({row["split"] for row in rows if name in row}):
            points = [(row["step"], row[name]) for row in rows if row["split"] == split and name in row]
            _curve(plot, *zip(*points, strict=True), split)
        plot.set(xlabel="step", ylabel=name)
    for plot in axes[len(names) :]:
        plot.remove()
    return _svg(figure, axes[: len(names)])


def sorted_units(units: Mapping[str, np.ndarray], label: str = "KL [nats]") -> str:
    """Plot of one number per unit, sorted, as SVG.

    Args:
      units: layer -> numbers `[U]`.

    >>> sorted_units({"z": np.array([0.1, 2.0])})[:4]
    '<svg'
    """
    figure, axes = _figure(1)
    legends = {name: f"{name}: {len(values)} unit{'s' if len(values) > 1 else ''}" for name, values in units.items()}
    draw_sorted_units(axes[0], {legends[name]: values for name, values in units.items()})
    axes[0].set(xlabel="unit, sorted", ylabel=label, ylim=(0, None))
    return _svg(figure, axes)


def draw_sorted_units(axes, units: Mapping[str, np.ndarray]) -> None:
    """Draw sorted numbers over units counted from 1. Dots make a single unit visible.

    Args:
      axes: the Matplotlib axes to draw on.
      units: legend -> numbers `[U]`.
    """
    for legend, values in units.items():
        axes.plot(np.arange(len(values)) + 1, np.sort(values)[::-1], ".-", drawstyle="steps-mid", label=legend)
    axes.set_xlim(0.5, max(map(len, units.values())) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def line_plot(x: np.ndarray, y: np.ndarray, xlabel: str, ylabel: str) -> str:
    """Plot of the curves `y [N, C]` over `x [N]` as SVG.

    >>> line_plot(np.arange(3.0), np.ones((3, 2)), xlabel="z", ylabel="density")[:4]
    '<svg'
    """
    figure, axes = _figure(1)
    axes[0].plot(x, y, linewidth=1)
    axes[0].set(xlabel=xlabel, ylabel=ylabel)
    return _svg(figure, axes)


def scatter_plot(points: np.ndarray, labels: np.ndarray | None) -> str:
    """Scatter plot of a two-dimensional latent space as SVG: posterior means `[N, 2]`, coloured by label `[N]`.

    >>> scatter_plot(np.eye(2), labels=None)[:4]
    '<svg'
    """
    figure, axes = _figure(1)
    colours = {} if labels is None else {"c": labels[:3000], "cmap": "tab10"}
    points_artist = axes[0].scatter(*points[:3000].T, s=4, alpha=0.7, **colours)
    if labels is not None:
        figure.colorbar(points_artist, ax=axes[0])
    axes[0].set(xlabel="z[0]", ylabel="z[1]", aspect="equal")
    return _svg(figure, [])


def _figure(num: int, rows: int = 1):
    from matplotlib.figure import Figure  # in contrast to pyplot it has no global state and needs no display

    figure = Figure(figsize=(5.2 * num, 3.4 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, num, i + 1) for i in range(rows * num)]


def _svg(figure, axes) -> str:
    for plot in axes:
        plot.grid(alpha=0.3)
        if plot.get_legend_handles_labels()[0]:
            plot.legend(frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
