"""A set shown: `summary` as text for the terminal, `picture` as an image file."""

from pathlib import Path
from typing import Any

import numpy as np

from dgmzoo.data.dataset import Dataset

_SHADES = " .:-=+*#%@"
_WIDTH = 96


def summary(dataset: Dataset, split: str = "train") -> str:
    """Splits, digest and a look at the first rows: images, rolls, sounds and points as shades, tables as
    figures.

    Raises:
      ValueError: the set has no such split.
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
    return "\n".join(["; ".join(facts), "", *_look(dataset, split)])


def _look(dataset: Dataset, split: str) -> list[str]:
    kind, shape = dataset.entry.kind, dataset.shape
    if kind == "tokens":
        return _sentences(dataset, split)
    if kind == "counts":
        return _words(dataset, split)
    if kind in ("table", "points") or (kind == "images" and len(shape) != 3):
        lines = _table(dataset, split)
        return [*lines, "", *_points(dataset, split)] if shape == (2,) else lines
    if dataset.entry.look:
        return _images(dataset, split)
    if kind == "binary" or (len(shape) == 1 and kind != "sound"):
        return _shaded(dataset.fixed(split, 12)["x"].reshape(-1, shape[0]))
    if kind == "sound":
        return _wave(dataset, split)
    if kind == "rolls":
        roll = _whole(dataset, split).T[::-1]
        sounding = np.flatnonzero(roll.any(1))
        return _shaded(roll[sounding[0] : sounding[-1] + 1])
    return _images(dataset, split)


def _images(dataset: Dataset, split: str) -> list[str]:
    """The first images side by side, gray even where training binarizes them, 32 columns at most."""
    width = (dataset.entry.look or dataset.shape)[1]
    step = -(-width // 32)
    num = min(len(dataset.splits[split]["x"]), max(1, _WIDTH // (width // step + 1)))
    x = _stored(dataset, split, num).mean(-1)
    x = x / (x.max() or 1.0)
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % (2 * step)), (0, -x.shape[2] % step)))
    # A character is twice as high as wide, so it stands for 2 * step rows and step columns.
    x = x.reshape(num, x.shape[1] // (2 * step), 2 * step, x.shape[2] // step, step).mean((2, 4))
    return _shaded(np.concatenate([np.pad(image, ((0, 0), (0, 1))) for image in x], 1))


def _stored(dataset: Dataset, split: str, num: int) -> np.ndarray:
    """The first images [N, H, W, C] in [0, 1] as stored, whatever is drawn from them for training."""
    x = np.asarray(dataset.splits[split]["x"][:num], np.float32) / np.float32(dataset.entry.maximum or 1)
    return x.reshape(-1, *(dataset.entry.look or dataset.shape))


def _shaded(values: np.ndarray) -> list[str]:
    """A matrix in [0, 1] as shades."""
    level = np.clip(values[:, :_WIDTH] * (len(_SHADES) - 1), 0, len(_SHADES) - 1).round().astype(int)
    return ["".join(_SHADES[v] for v in row).rstrip() for row in level]


def _table(dataset: Dataset, split: str) -> list[str]:
    x = np.asarray(dataset.splits[split]["x"]).reshape(len(dataset.splits[split]["x"]), -1)
    lines = [f"{'column':>8}{'mean':>12}{'sd':>12}{'least':>12}{'largest':>12}"]
    for at in range(min(x.shape[1], 32)):
        c = x[:, at].astype(np.float64)
        lines.append(f"{at:>8}{c.mean():>12.4g}{c.std():>12.4g}{c.min():>12.4g}{c.max():>12.4g}")
    return lines + ([f"     ... {x.shape[1]} columns"] if x.shape[1] > 32 else [])


def _points(dataset: Dataset, split: str) -> list[str]:
    x = np.asarray(dataset.splits[split]["x"])
    counts, _, _ = np.histogram2d(x[:, 1], x[:, 0], bins=(24, 48))
    return _shaded(np.sqrt(counts[::-1] / counts.max()))


def _whole(dataset: Dataset, split: str) -> np.ndarray:
    """The first sequence [T, ...] without its padding."""
    return dataset.fixed(split, 1)["x"][0][np.asarray(dataset.splits[split]["mask"][0])]


def _wave(dataset: Dataset, split: str) -> list[str]:
    parts = np.array_split(np.abs(_whole(dataset, split)), _WIDTH)
    level = np.array([part.max() for part in parts])
    return _shaded((level / level.max() > np.linspace(0.95, 0.05, 8)[:, None]).astype(float))


def _sentences(dataset: Dataset, split: str, num: int = 2, length: int = 8) -> list[str]:
    rows = dataset.fixed(split, num)
    words = dataset.words
    return [f"{' '.join(words[token] for token in x[:length])} ..." for x in rows["x"]] + [f"{len(words):,} words"]


def _words(dataset: Dataset, split: str, num: int = 3) -> list[str]:
    lines = []
    for counts in dataset.fixed(split, num)["x"]:
        most = np.argsort(-counts, kind="stable")[:8]
        lines.append(", ".join(f"{dataset.words[at]} {int(counts[at])}" for at in most if counts[at]))
    return lines


def picture(dataset: Dataset, path: Path | str, split: str = "train", num: int = 64) -> Path:
    """Write a picture of a split's first rows (of all rows, for points and tables); gives the path back."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(f"{dataset.name}, {split}")
    _draw(axes, dataset, split, num)
    figure.savefig(path, dpi=120)
    return Path(path)


def _draw(axes: Any, dataset: Dataset, split: str, num: int) -> None:
    kind, shape = dataset.entry.kind, dataset.shape
    if dataset.entry.look or (kind == "images" and len(shape) == 3):
        axes.imshow(grid(_stored(dataset, split, num)), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
    elif shape == (2,):
        axes.plot(*np.asarray(dataset.splits[split]["x"]).T, ".", markersize=1)
        axes.set_aspect("equal")
    elif kind == "table":
        axes.boxplot(np.asarray(dataset.splits[split]["x"]).reshape(-1, int(np.prod(shape))), showfliers=False)
        axes.set_xlabel("column")
    elif kind in ("rolls", "sound"):
        x = _whole(dataset, split)
        if kind == "rolls":
            axes.imshow(x.T, origin="lower", aspect="auto", cmap="gray_r")
        else:
            axes.plot(x, linewidth=0.5)
        axes.set_xlabel("time step")
    else:
        x = dataset.fixed(split, num)["x"]
        x = x.reshape(len(x), -1)
        axes.imshow(x, aspect="auto", cmap="gray_r", interpolation="nearest")
        axes.set_ylabel("row")


def grid(images: np.ndarray, columns: int | None = None, between: float = 1) -> np.ndarray:
    """Images [N, H, W, C] as one sheet [rows * (H + 1), columns * (W + 1), C], without C if it is 1.

    Args:
      columns: None: as many as make it about square.
      between: the value of the lines between images.
    """
    num, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(num)))
    rows = -(-num // columns)
    sheet = np.full((rows * columns, height + 1, width + 1, channels), between, images.dtype)
    sheet[:num, :-1, :-1] = images
    sheet = sheet.reshape(rows, columns, height + 1, width + 1, channels).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * (height + 1), columns * (width + 1), channels)
    return sheet[..., 0] if channels == 1 else sheet
