"""`GatedCausalStack`: gated causal convolutions with caches; `MaskedConv`: a convolution that reads earlier pixels only.

Images are read row by row from the top, each row from the left.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.validation import check_whole

Caches = tuple[jax.Array, ...]  # [num, k, ...] the last k inputs of each layer, the newest last


class MaskedConv(nn.Module):
    """A convolution of images whose output at a pixel reads the pixels before it: `[B, H, W, C]` to `[B, H, W, F]`.

    Source: van den Oord, Kalchbrenner & Kavukcuoglu 2016 (arXiv 1601.06759), section 3.4: masks A (strict) and B.

    >>> ones = {"kernel": jnp.ones((2, 3, 1, 1)), "bias": jnp.zeros(1)}
    >>> MaskedConv(1, strict=True).apply({"params": {"Conv_0": ones}}, jnp.ones((1, 2, 2, 1)))[0, :, :, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]

    Raises:
      ValueError: the window is even, or a size is below 1.
    """

    features: int = 1
    """Number of output channels (F)."""
    window: int = 3
    """Side of the convolution window, odd."""
    strict: bool = False
    """Leave out the pixel itself (mask A)."""

    def __post_init__(self):
        check_window(self.window)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        above = self.window // 2
        mask = np.ones((above + 1, self.window, x.shape[-1], self.features))  # rows below the pixel are left out
        mask[-1, above + (not self.strict) :] = 0
        conv = nn.Conv(self.features, mask.shape[:2], padding="VALID", mask=jnp.asarray(mask, x.dtype))
        return conv(jnp.pad(x, ((0, 0), (above, 0), (above, above), (0, 0))))


class GatedLayer(nn.Module):
    """A layer of two stacks: the vertical one reads rows up to its own, the horizontal one its own row up to its pixel.

    Source: van den Oord et al. 2016 (arXiv 1606.05328), figure 2 and equation 4.

    >>> layer, x = GatedLayer(channels=4), jnp.ones((2, 5, 6, 3))
    >>> (v, h), _ = layer.init_with_output(jax.random.key(0), x, x)
    >>> v.shape, h.shape
    ((2, 5, 6, 4), (2, 5, 6, 4))
    """

    channels: int = 32
    """Channels of each stack."""
    window: int = 5
    """Width of the convolutions, odd; they reach half as far up and to the left."""

    def setup(self):
        wide, reach = 2 * self.channels, self.window // 2 + 1
        self.vertical = nn.Conv(wide, (reach, self.window), padding="VALID")
        self.horizontal = nn.Conv(wide, (1, reach), padding="VALID")
        self.across, self.out = nn.Conv(wide, (1, 1)), nn.Conv(self.channels, (1, 1))
        self.context_vertical, self.context_horizontal = (nn.Dense(wide, use_bias=False) for _ in range(2))

    def __call__(self, v: jax.Array, h: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Both stacks `[B, H, W, C]`, with features `[B, F]` of a context for all pixels."""
        before = self.window // 2
        v, shift = self.rows(jnp.pad(v, ((0, 0), (before, 0), (0, 0), (0, 0))), context)
        return v, self.pixels(jnp.pad(h, ((0, 0), (0, 0), (before, 0), (0, 0))), shift, context)

    def rows(self, v: jax.Array, context: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The vertical stack `[B, R, W, C]` of R rows from these and the k - 1 rows above, and its part in the other stack."""
        side = self.window // 2
        wide = self.vertical(jnp.pad(v, ((0, 0), (0, 0), (side, side), (0, 0))))
        wide = _shifted(wide, context, self.context_vertical)
        return _gate(wide), self.across(wide)

    def pixels(self, h: jax.Array, shift: jax.Array, context: jax.Array | None) -> jax.Array:
        """The horizontal stack `[B, R, N, C]` of N pixels from these and the k - 1 pixels to the left."""
        new = self.out(_gate(_shifted(self.horizontal(h) + shift, context, self.context_horizontal)))
        return new + h[:, :, self.window // 2 :] if h.shape[-1] == self.channels else new


def _shifted(wide, context, from_context):
    return wide if context is None else wide + from_context(context)[:, None, None]


def _gate(wide):
    left, right = jnp.split(wide, 2, -1)
    return nn.tanh(left) * nn.sigmoid(right)


class GatedCausalStack(nn.Module):
    """Gated causal convolutions of an image, whose outputs at a pixel depend on the pixels before it.

    `row` and `pixel` compute the outputs of one pixel after another from caches, so that all pixels together cost one
    pass. Caches start as zeros (`start`).

    >>> net, x = GatedCausalStack(size=2, channels=4, depth=2), jnp.ones((2, 5, 6, 1))
    >>> net.init_with_output(jax.random.key(0), x)[0].shape
    (2, 5, 6, 2)

    Source: van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders" (arXiv 1606.05328).

    Raises:
      ValueError: the window is even, or a size is below 1.
    """

    size: int = 1
    """Outputs of a pixel."""
    channels: int = 32
    """Channels of each stack."""
    depth: int = 7
    """Number of layers."""
    window: int = 5
    """Width of the convolutions, odd; they reach half as far up and to the left."""

    def __post_init__(self):
        check_window(self.window)
        for name in ("size", "channels", "depth"):
            check_whole(name, getattr(self, name))
        super().__post_init__()

    def setup(self):
        self.layers = [GatedLayer(self.channels, self.window) for _ in range(self.depth)]
        self.hidden, self.head = nn.Dense(self.channels), nn.Dense(self.size)

    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """x `[B, H, W, C]`, features of a context `[B, F]` to outputs `[B, H, W, size]`."""
        v = jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]  # row r holds the row above
        h = jnp.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]  # column c holds the pixel to the left
        for layer in self.layers:
            v, h = layer(v, h, context)
        return self._outputs(h)

    def start(self, num: int, inputs: int, *width: int, dtype: jax.typing.DTypeLike = float) -> Caches:
        """Caches of zeros: of rows of a width, or of pixels without one, for x of `inputs` channels."""
        reach = self.window // 2 + 1
        channels = [inputs, *[self.channels] * (self.depth - 1)]
        return tuple(jnp.zeros((num, reach, *width, each), dtype) for each in channels)

    def row(self, caches: Caches, above: jax.Array, context: jax.Array | None = None) -> tuple[Caches, jax.Array]:
        """The vertical stack of a row, from the row above `[num, W, C]`: its parts in the horizontal one.

        Returns:
          The caches, and the parts `[depth, num, W, 2 * channels]`.
        """
        new, shifts, v = [], [], above
        for layer, cache in zip(self.layers, caches, strict=True):
            new.append(_push(cache, v))
            v, shift = layer.rows(new[-1], context)
            v, shifts = v[:, 0], [*shifts, shift[:, 0]]
        return tuple(new), jnp.stack(shifts)

    def pixel(
        self, caches: Caches, left: jax.Array, shifts: jax.Array, context: jax.Array | None = None
    ) -> tuple[Caches, jax.Array]:
        """The outputs `[num, size]` of a pixel, from the pixel to the left `[num, C]`.

        Args:
          shifts: `[depth, num, 2 * channels]`, the parts of the vertical stack at the pixel.
        """
        new, h = [], left
        for layer, cache, shift in zip(self.layers, caches, shifts, strict=True):
            new.append(_push(cache, h))
            h = layer.pixels(new[-1][:, None], shift[:, None, None], context)[:, 0, 0]
        return tuple(new), self._outputs(h)

    def _outputs(self, h):
        return self.head(nn.relu(self.hidden(nn.relu(h))))


def _push(cache: jax.Array, newest: jax.Array) -> jax.Array:
    return jnp.concatenate([cache[:, 1:], newest[:, None]], 1)


def check_window(window: int) -> None:
    """Refuse a window that has no middle.

    Raises:
      ValueError: the window is even, or below 1.

    >>> check_window(3)
    """
    if check_whole("window", window) % 2 == 0:
        raise ValueError(f"expected an odd window, got {window}; choose {window + 1}")


def check_gray(shape: tuple[int, ...] | None) -> None:
    """Refuse x that is no image of one channel.

    Raises:
      ValueError: with the shape.

    >>> check_gray((28, 28, 1))
    """
    if shape is not None and (len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 1)):
        raise ValueError(
            f"expected x of shape [H, W] or [H, W, 1], got {tuple(shape)}; channels of a pixel have no order here, choose "
            "a MADE or a VAE"
        )
