"""Training curves, plots of units and scatter plots as SVG; `inline_image`: a PNG in a page.

Matplotlib is imported only when something is drawn.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
_SPLITS = {"train": ("train", "train_bound"), "valid": ("valid",)}  # label of a curve -> splits of its rows
_BOUNDS = {"bound": "bound on log p(x), importance-weighted [nats]", "elbo": "bound on log p(x) [nats]"}


def inline_image(png_bytes: bytes, caption: str = "") -> str:
    """HTML image tag that contains the PNG itself.

    >>> inline_image(b"", "samples")
    '<img alt="samples" src="data:image/png;base64,">'
    """
    alt, encoded = html.escape(caption, quote=True), base64.b64encode(png_bytes).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{encoded}">'


def training_curves(rows: Sequence[Mapping[str, Any]], has_bound: bool = True) -> str:
    """Training curves as SVG: the bound that is trained, of each split, and the KL of each layer, over steps.

    Where the training value is no bound, the rows of the training split have no `elbo`, and those of `train_bound` have.

    Args:
      rows: rows of metrics with `step`, `split`, `elbo`, `kl/<layer>`, and for an importance-weighted objective `bound`.
      has_bound: False for a model without a bound on log p(x), whose `elbo` is its reconstruction.

    >>> training_curves([{"step": step, "split": "train", "elbo": -90.0 - step} for step in (1, 2)])[:4]
    '<svg'
    """
    terms = sorted({name for row in rows for name in row if name.startswith("kl/")})
    bound = "bound" if any("bound" in row for row in rows) else "elbo"
    curves = {label: _values(rows, splits, bound) for label, splits in _SPLITS.items()}
    curves = {label: curve for label, curve in curves.items() if curve}
    figure, axes = _figure(max(1, bool(curves) + bool(terms)))
    if curves:
        for label, curve in curves.items():
            _curve(axes[0], list(curve), list(curve.values()), label)
        _limit(axes[0], [list(curve.values()) for curve in curves.values()])
        axes[0].set(xlabel="step", ylabel=_BOUNDS[bound] if has_bound else "log p(x | z) [nats], no bound")
    for name in terms:
        curve = _values(rows, ("train",), name) or _values(rows, ("valid",), name)
        _curve(axes[-1], list(curve), list(curve.values()), name)
        axes[-1].set(xlabel="step", ylabel="KL [nats]")
    return _svg(figure, axes) if curves or terms else ""


def _values(rows: Sequence[Mapping[str, Any]], splits: Sequence[str], name: str) -> dict[int, float]:
    """Step -> value of a metric in the rows of some splits."""
    return {row["step"]: row[name] for row in rows if row["split"] in splits and name in row}


def _curve(axes: Any, steps: Sequence[int], values: Sequence[float], label: str) -> None:
    """A line, or a point where there is one value (a run within one epoch)."""
    axes.plot(steps, values, label=label, marker="o" if len(steps) == 1 else None)


def _limit(axes: Any, curves: Sequence[Sequence[float]]) -> None:
    """Limits that exclude the first steps of each curve, whose bounds are far from the others."""
    low, high = min(np.quantile(values, 0.05) for values in curves), max(map(max, curves))
    margin = 0.08 * (high - low) or 0.03 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def metric_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Curves of the extra losses and of the objective's own metrics as SVG, one panel each; empty if there are none.

    The loss has a panel too where it is not the negative bound: with extra losses, a weight of the KL, a relaxed layer.

    >>> rows = [{"step": step, "split": "train", "loss": 1.0, "elbo": -1.0, "temperature": 1 / step} for step in (1, 2)]
    >>> metric_curves(rows)[:4], metric_curves([])
    ('<svg', '')
    """
    names = sorted({name for row in rows for name in row if name not in _KNOWN and not name.startswith("kl/")})
    names = ["loss"] * _loss_is_no_bound(rows) + names
    if not names:
        return ""
    figure, axes = _figure(min(len(names), _PANELS), -(-len(names) // _PANELS))
    for name, plot in zip(names, axes, strict=False):
        for split in sorted({row["split"] for row in rows if name in row}):
            curve = _values(rows, (split,), name)
            _curve(plot, list(curve), list(curve.values()), split)
        plot.set(xlabel="step", ylabel=name)
    for plot in axes[len(names) :]:
        plot.remove()
    return _svg(figure, axes[: len(names)])


def _loss_is_no_bound(rows: Sequence[Mapping[str, Any]]) -> bool:
    """True if the training loss and the negative bound differ by more than a constant (the units of a table)."""
    train = [row for row in rows if row["split"] == "train" and "loss" in row]
    if not train:
        return False
    if any("elbo" not in row and "bound" not in row for row in train):
        return True
    differences = [row["loss"] + row.get("bound", row.get("elbo")) for row in train]
    is_constant = np.ptp(differences) <= 1e-3 * (1 + abs(train[-1]["loss"]))
    return not is_constant or any(name.startswith("extra_loss/") for name in train[-1])


def draw_mean_curves(axes: Any, metrics: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> None:
    """Draw the learning curve of each variant of a comparison: the mean over seeds, in a band of a standard deviation.

    The curve is that of the bound that is trained, or of the ELBO where the variants train different ones, on the
    validation split, or on the training rows of data without.

    Args:
      axes: the Matplotlib axes to draw on.
      metrics: variant -> rows of metrics of each seed.
    """
    runs = [rows for seeds in metrics.values() for rows in seeds]
    bound = "bound" if all(any("bound" in row for row in rows) for rows in runs) else "elbo"
    label = "valid" if any(row["split"] == "valid" for rows in runs for row in rows) else "train"
    drawn: list[list[float]] = []
    for variant, seeds in metrics.items():
        curves = [_values(rows, _SPLITS[label], bound) for rows in seeds]
        steps = sorted(set.intersection(*map(set, curves))) if curves else []
        if not steps:  # no bound
            continue
        values = np.array([[curve[step] for step in steps] for curve in curves])  # [seeds, steps]
        mean, deviation = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(steps))
        _curve(axes, steps, mean, variant[:40])
        axes.fill_between(steps, mean - deviation, mean + deviation, alpha=0.2, linewidth=0)
        drawn.append(mean.tolist())
    if drawn:
        _limit(axes, drawn)
        axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    split = "validation split" if label == "valid" else "training rows"
    axes.set(xlabel="step", ylabel=_BOUNDS[bound])
    axes.set_title(f"learning curves on the {split}, mean over seeds", fontsize=9, color="0.35")


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
