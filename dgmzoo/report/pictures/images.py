"""`Images`: grey and colour images, and images of classes, as sheets of enlarged pixels."""

import functools
import io
from typing import Any

import numpy as np

from dgmzoo.report.pictures.base import Picture, Renderer

_SIDE, _MOST = 560, 1600  # pixels of a sheet: about, and at most
_PAIRS = 10  # images in a row above their reconstructions
_PALETTE = 20  # classes that have a colour each
_HIDDEN = 0.5  # intensity of elements that are not observed


class Images(Renderer):
    """Images in a square sheet, a whole number of screen pixels for each of theirs."""

    shows_means = True
    num_samples = 64

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """`[H, W, C]` of an image."""
        return self.dataset.entry.display_shape or self.dataset.shape

    def has_classes(self, x: np.ndarray) -> bool:
        """True if pixels are classes, which have no order as grey levels have, by the data or else by samples x."""
        if not self.dataset.observe.integer_valued:
            return False
        largest = int(np.nanmax(x if self.test_x is None else self.test_x))
        are_levels = self.dataset.entry.maximum is not None and largest in (self.dataset.entry.maximum, 1)
        return not are_levels and largest < _PALETTE

    def value_range(self, x: np.ndarray) -> tuple[float, float]:
        """The values that are drawn black and white: 0 and 1 of intensities, else the range of the data."""
        if self.dataset.in_unit_interval:
            return 0.0, 1.0
        if self.dataset.observe.integer_valued and self.dataset.entry.maximum:
            return 0.0, float(self.dataset.entry.maximum)
        reference = x if self.test_x is None else self.test_x
        return min(0.0, float(np.nanmin(reference))), float(np.nanmax(reference))

    def intensities(self, x: np.ndarray) -> np.ndarray:
        """Images `[N, H, W, 1 or 3]` in [0, 1]; classes have a colour each, and other channels lie side by side."""
        x = np.asarray(x, np.float32).reshape(-1, *self.shape)
        has_classes, (low, high) = self.has_classes(x), self.value_range(x)
        if x.shape[-1] not in (1, 3) or (has_classes and x.shape[-1] > 1):
            x = x.transpose(0, 1, 3, 2).reshape(*x.shape[:2], -1, 1)
        if has_classes:
            colours = np.concatenate([palette(), np.full((1, 3), _HIDDEN)])
            index = np.where(np.isnan(x[..., 0]), _PALETTE, np.clip(x[..., 0], 0, _PALETTE - 1))
            return colours[index.astype(int)]
        return np.nan_to_num(np.clip((x - low) / ((high - low) or 1), 0, 1), nan=_HIDDEN)

    def draw(self, figure, x, beside=False, density=None):
        self._show(figure, tile_images(self.intensities(x)))

    def draw_pairs(self, figure, x, y):
        self._show(figure, self._pair_sheet(x, y))

    def draw_rows(self, figure: Any, x: np.ndarray, columns: int) -> None:
        """Draw images in rows of `columns`."""
        self._show(figure, tile_images(self.intensities(x), columns))

    def picture(self, x, caption, beside=False, density=None):
        return Picture(encode_png(tile_images(self.intensities(x))), caption, is_drawn=False)

    def pairs(self, x, y, caption):
        return Picture(encode_png(self._pair_sheet(x, y)), caption, is_drawn=False)

    def caption(self, are_means):
        if not are_means:
            return "Samples"
        is_class = (
            self.dataset.observe.integer_valued
        )  # the mean of a categorical distribution is its most probable class
        return f"Samples ({'the most probable class of each pixel' if is_class else 'means of the pixels'})"

    def _pair_sheet(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Sheet in which each row of x is followed by the row of its reconstructions."""
        num = len(x) - len(x) % _PAIRS if len(x) >= _PAIRS else len(x)
        columns = min(_PAIRS, num)
        above, below = self.intensities(x[:num]), self.intensities(y[:num])
        rows = [part[i : i + columns] for i in range(0, num, columns) for part in (above, below)]
        return tile_images(np.concatenate(rows), columns)

    def _show(self, figure: Any, sheet: np.ndarray) -> None:
        axes = figure.add_subplot()
        axes.imshow(np.broadcast_to(sheet, (*sheet.shape[:2], 3)), interpolation="nearest")
        axes.set_axis_off()


def palette() -> np.ndarray:
    """Colours of classes, `[20, 3]` in [0, 1].

    >>> palette().shape
    (20, 3)
    """
    import matplotlib

    return np.array(matplotlib.colormaps["tab20"].colors)


def tile_images(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tile images [N, H, W, C] into one sheet [rows * (H + 1), columns * (W + 1), C], with black lines between them.

    Args:
      columns: images side by side; None: as many as make the sheet about square.

    >>> tile_images(np.zeros((6, 8, 8, 1)), columns=3).shape
    (18, 27, 1)
    """
    num, height, width, channels = images.shape
    columns = columns or _square_columns(num, height / width)
    rows = -(-num // columns)
    sheet = np.zeros((rows * columns, height + 1, width + 1, channels), images.dtype)
    sheet[:num, :-1, :-1] = images
    sheet = sheet.reshape(rows, columns, height + 1, width + 1, channels).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(rows * (height + 1), columns * (width + 1), channels)


def _square_columns(num: int, ratio: float) -> int:
    """Columns of an about square sheet of `num` images of a ratio height / width, with few empty places."""
    ideal = max(1, round(np.sqrt(num * ratio)))
    near = [columns for columns in (ideal, ideal - 1, ideal + 1) if 1 <= columns <= num] or [num]
    return min(near, key=lambda columns: -num % columns)


def encode_png(sheet: np.ndarray) -> bytes:
    """Encode a sheet `[H, W, C]` in [0, 1] as PNG, enlarged by a whole factor to about 560 pixels, or shrunk to 1600.

    >>> encode_png(np.zeros((2, 2, 1)))[1:4]
    b'PNG'
    """
    import matplotlib.image

    side = max(sheet.shape[:2])
    if (step := -(-side // _MOST)) > 1:  # means over blocks
        padded = np.pad(sheet, (*((0, -size % step) for size in sheet.shape[:2]), (0, 0)), mode="edge")
        blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step, -1)
        sheet = blocks.mean((1, 3))
    scale = max(1, round(_SIDE / side))
    large = np.repeat(np.repeat(sheet, scale, 0), scale, 1)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, np.broadcast_to(large, (*large.shape[:2], 3)), format="png")
    return buffer.getvalue()
