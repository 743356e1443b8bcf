"""What each variant of an experiment learned, as one picture: a row of panels for each."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dgmzoo.report import plots

STEPS = 8  # of a traversal
_UNITS = 6  # of a layer whose posterior is drawn; those that say most of x


class View(NamedTuple):
    """What is drawn of one model; None or empty where there is no such thing."""

    kl: dict[str, np.ndarray]  # layer -> [U]  mean over examples
    values: dict[str, np.ndarray]  # layer -> [N, U]  one draw of q(z | x) for each example
    prior: dict[str, np.ndarray]  # layer -> [N, U]
    labels: np.ndarray | None  # [N]
    samples: np.ndarray | None  # [num, ...]  means
    traversed: np.ndarray | None  # [units * STEPS, ...]  means
    flipped: np.ndarray | None  # [3 * num, ...]  x, x with pixels flipped, the mean of p(x | z) from there


def leading(values: np.ndarray, kl: np.ndarray | None, num: int = _UNITS) -> np.ndarray:
    """The units `[num]` with most KL, or where there is none, with most variance over x."""
    spread = values.reshape(len(values), -1).var(0)
    weight = spread if kl is None or kl.shape != spread.shape else kl
    return np.argsort(-weight, kind="stable")[:num]


def draw(views: Mapping[str, View]) -> bytes:
    """A picture with a row for each variant, as PNG."""
    from matplotlib.figure import Figure

    layers = list(dict.fromkeys(layer for view in views.values() for layer in sorted(view.values)))
    panels = [_Panel("samples (means)", _samples)]
    if layers:
        panels = [
            _Panel("KL per unit, sorted [nats]", _kl),
            *(_Panel(f"q({layer}) against p, leading units", _posterior, layer) for layer in layers),
            *(
                _Panel(f"{layer}: a draw of q(z | x) for each x", _map, layer)
                for layer in layers
                if _is_flat(views, layer)
            ),
            *panels,
            _Panel("leading units, one a row", _images("traversed")),
            _Panel("x; flipped; from the flipped", _images("flipped")),
        ]
    several = [units for view in views.values() for units in view.kl.values() if len(units) > 1]
    finite = [units[np.isfinite(units)] for units in several]
    most = max((units.max() for units in finite if units.size), default=1.0) or 1.0
    figure = Figure(figsize=(3.1 * len(panels), 2.7 * len(views) + 0.2), layout="constrained")
    rows = np.atleast_1d(figure.subfigures(len(views), 1, hspace=0.03))
    for row, (name, view) in zip(rows, views.items(), strict=True):
        row.suptitle(name, x=0.01, ha="left", fontweight="bold")
        places = np.atleast_1d(row.subfigures(1, len(panels)))
        for place, panel in zip(places, panels, strict=True):
            place.suptitle(panel.title, fontsize=9, color="0.35")
            if panel.draw(place, view, panel.layer, most) is False:
                _blank(place)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=90)
    return written.getvalue()


class _Panel(NamedTuple):
    title: str
    draw: Any
    layer: str = ""


def _is_flat(views: Mapping[str, View], layer: str) -> bool:
    return any(view.values[layer].shape[1:] == (2,) for view in views.values() if layer in view.values)


def _blank(place) -> None:
    place.text(0.5, 0.5, "–", ha="center", color="0.5")


def _kl(place, view: View, layer: str, most: float) -> bool:
    if not view.kl:
        return False
    axes = place.add_subplot()
    drawn = {}
    for name, units in view.kl.items():
        whole = len(units) == 1 and view.values[name].shape[1:] != (1,)  # of a code whose units have none of their own
        drawn[f"{name}: {'the whole code' if whole else len(units)}"] = units
    plots.draw_sorted_units(axes, drawn)
    own = max((units.max() for units in view.kl.values() if np.isfinite(units).all()), default=most)
    alone = all(len(units) == 1 for units in view.kl.values())  # beside the sums of others its scale would say nothing
    axes.set(ylim=(0, 1.05 * (own if alone else max(own, most)) or 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return True


def _posterior(place, view: View, layer: str, most: float) -> bool:
    if layer not in view.values:
        return False
    values = view.values[layer].reshape(len(view.values[layer]), -1)
    units = leading(values, view.kl.get(layer))
    for i, unit in enumerate(units):
        axes = place.add_subplot(2, _UNITS // 2, i + 1)
        drawn = [values[:, unit]]
        if layer in view.prior:
            drawn.append(view.prior[layer].reshape(len(view.prior[layer]), -1)[:, unit])
        drawn = [each[np.isfinite(each)] for each in drawn]
        if not all(each.size for each in drawn):
            return False
        low, high = np.quantile(np.concatenate(drawn), (0.005, 0.995))
        bins = np.linspace(low - 1e-3, high + 1e-3, 41)
        axes.hist(drawn[0], bins, density=True, alpha=0.6, label="q")
        if len(drawn) > 1:
            axes.hist(drawn[1], bins, density=True, histtype="step", color="black", linewidth=0.8, label="p")
        axes.set_yscale("function", functions=(np.sqrt, np.square))  # beside a point mass the rest stays visible
        axes.set_yticks([])
        axes.tick_params(labelsize=6)
        if i == 0:
            axes.legend(frameon=False, fontsize=6, handlelength=1)
    return True


def _map(place, view: View, layer: str, most: float) -> bool:
    if layer not in view.values or view.values[layer].shape[1:] != (2,):
        return False
    axes = place.add_subplot()
    points = view.values[layer]
    colours = {} if view.labels is None else {"c": view.labels[: len(points)], "cmap": "tab10"}
    axes.scatter(*points.T, s=2, **colours)
    axes.set_aspect("equal", "datalim")
    return True


def _samples(place, view: View, layer: str, most: float) -> bool:
    return view.samples is not None and _show(place, plots.image_grid(view.samples))


def _images(field: str):
    def draw(place, view: View, layer: str, most: float) -> bool:
        x = getattr(view, field)
        return x is not None and _show(place, plots.image_grid(x, STEPS if field == "traversed" else len(x) // 3))

    return draw


def _show(place, sheet: np.ndarray) -> bool:
    axes = place.add_subplot()
    axes.imshow(sheet[..., 0] if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    return True
