"""Pictures of what a model makes of its data. Matplotlib is imported where it draws."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgmzoo import data


def image_grid(x: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Examples `[N, H, W, C]` (or `[N, D]`, one row of pixels each) side by side, `[rows, columns, C]` in [0, 1]."""
    x = np.asarray(x, np.float32)
    if not (x.ndim == 4 and x.shape[-1] in (1, 3)):
        flat = x.reshape(len(x), -1)
        spread = np.ptp(flat) or 1.0
        shown = flat if flat.min() >= 0 and flat.max() <= 1 else (flat - flat.min()) / spread
        return np.repeat(np.repeat(shown[..., None], 4, 0), 4, 1)
    sheet = data.grid(np.clip(x, 0, 1), columns, between=0)
    return sheet if sheet.ndim == 3 else sheet[..., None]


def image_pairs(x: np.ndarray, y: np.ndarray, columns: int = 10) -> np.ndarray:
    """Rows of `x` and, below each, the row of `y` that belongs to it."""
    num = len(x) - len(x) % columns if len(x) >= columns else len(x)
    columns = min(columns, num)
    woven = []
    for start in range(0, num, columns):
        woven += [x[start : start + columns], y[start : start + columns]]
    return image_grid(np.concatenate(woven), columns)


def encode_png(image: np.ndarray) -> bytes:
    """A picture `[H, W, C]` in [0, 1] as PNG, pixels enlarged by whole numbers to some 560 in all."""
    import matplotlib.image

    scale = max(1, round(560 / max(image.shape[:2])))
    large = np.repeat(np.repeat(image, scale, 0), scale, 1)
    colour = np.broadcast_to(large, (*large.shape[:2], 3)) if large.shape[-1] == 1 else large
    written = io.BytesIO()
    matplotlib.image.imsave(written, colour, format="png")
    return written.getvalue()


def inline_image(png_bytes: bytes, caption: str = "") -> str:
    """A PNG as an HTML image that needs no file."""
    alt, encoded = html.escape(caption, quote=True), base64.b64encode(png_bytes).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{encoded}">'


def training_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Training curves as SVG: the ELBO (or log-likelihood) of each split, and the KL of each layer."""
    terms = sorted({name for row in rows for name in row if name.startswith("kl/")})
    figure, axes = _figure(2 if terms else 1)
    for split in ("train", "valid"):
        chosen = [row for row in rows if row["split"] == split]
        if chosen:
            axes[0].plot([row["step"] for row in chosen], [row["elbo"] for row in chosen], label=split)
    values = [row["elbo"] for row in rows]
    if values:  # the first steps are far off; keep the rest readable
        axes[0].set_ylim(np.quantile(values, 0.05), max(values) + 0.03 * abs(max(values)))
    axes[0].set(xlabel="step", ylabel="bound on log p(x) [nats]")
    for name in terms:
        chosen = [row for row in rows if row["split"] == "train" and name in row]
        axes[1].plot([row["step"] for row in chosen], [row[name] for row in chosen], label=name)
        axes[1].set(xlabel="step", ylabel="KL [nats]")
    return _svg(figure, axes)


def sorted_units(units: Mapping[str, np.ndarray], label: str = "KL [nats]") -> str:
    """A number per unit, sorted, as SVG."""
    figure, axes = _figure(1)
    draw_sorted_units(axes[0], {f"{name}: {len(each)} unit{'s' if len(each) > 1 else ''}": each for name, each in units.items()})
    axes[0].set(xlabel="unit, sorted", ylabel=label, ylim=(0, None))
    return _svg(figure, axes)


def draw_sorted_units(axes, units: Mapping[str, np.ndarray]) -> None:
    """Draw legend -> numbers, sorted, over units counted from one; the dots show a unit that is alone."""
    for legend, values in units.items():
        axes.plot(np.arange(len(values)) + 1, np.sort(values)[::-1], ".-", drawstyle="steps-mid", label=legend)
    axes.set_xlim(0.5, max(map(len, units.values())) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def line_plot(x: np.ndarray, y: np.ndarray, xlabel: str, ylabel: str) -> str:
    """Curves `y [N, C]` over `x [N]`, as SVG."""
    figure, axes = _figure(1)
    axes[0].plot(x, y, linewidth=1)
    axes[0].set(xlabel=xlabel, ylabel=ylabel)
    return _svg(figure, axes)


def scatter_plot(points: np.ndarray, labels: np.ndarray | None) -> str:
    """A two-dimensional latent space as SVG: posterior means `[N, 2]`, coloured by label `[N]`."""
    figure, axes = _figure(1)
    found = axes[0].scatter(*points[:3000].T, s=4, c=None if labels is None else labels[:3000], cmap="tab10", alpha=0.7)
    if labels is not None:
        figure.colorbar(found, ax=axes[0])
    axes[0].set(xlabel="z[0]", ylabel="z[1]", aspect="equal")
    return _svg(figure, [])


def _figure(num: int):
    from matplotlib.figure import Figure  # no global state, no display

    figure = Figure(figsize=(5.2 * num, 3.4), layout="constrained")
    return figure, [figure.add_subplot(1, num, i + 1) for i in range(num)]


def _svg(figure, axes) -> str:
    for each in axes:
        each.grid(alpha=0.3)
        if each.get_legend_handles_labels()[0]:
            each.legend(frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
