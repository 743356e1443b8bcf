"""`PixelCNN`: an autoregressive density of images by masked convolutions.

    p(x) = prod_i p(x_i | x_1, ..., x_{i-1})

Pixels are read row by row. A convolution with mask A is followed by residual blocks with mask B (sections 3.3 and 3.4 of the
paper); some pixels to the right above are never read (the blind spot, which `GatedPixelCNN` closes). The features of a label
or a context are added to each block. A sample costs one pass for each pixel: there are no caches, take `GatedPixelCNN` where
samples matter. Missing elements are refused.

Source: van den Oord, Kalchbrenner & Kavukcuoglu 2016 (arXiv 1601.06759). Deviations: images of one channel; a condition,
which is of the later paper (arXiv 1606.05328).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Elements, Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.causal import MaskedConv, check_gray
from dgmzoo.layers.networks.context import context_features, refuse_mask
from dgmzoo.layers.networks.mlp import network
from dgmzoo.layers.sampling import ancestral
from dgmzoo.layers.validation import check_entry, check_likelihood_without_head
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class PixelCNN(nn.Module):
    """An autoregressive density of images of one channel, given a label or a context where one is read.

    >>> PixelCNN(depth=15).bound
    'exact'

    Raises:
      ValueError: a size is below 1, the window is even, x is no image of one channel, or the likelihood has settings of its
        own head; when called, x has a mask, or the context or the label is missing.
    """

    channels: int = 32
    """Channels inside a block; between blocks there are twice as many."""
    depth: int = 5
    """Number of residual blocks."""
    window: int = 7
    """Side of the first convolution, odd; that of a block is 3."""
    likelihood: Likelihood = Bernoulli()
    """Conditionals p(x_i | x_<i)."""
    context: nn.Module | None = network(None)
    """Network of the flattened context, for a density of x given the context; None: the context is not read."""
    labels: int = 0
    """Number of labels, for a density of x given the label; 0: the label is not read."""
    shape: tuple[int, ...] | None = None
    """Shape of one x, `[H, W]` or `[H, W, 1]`; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("channels", "depth"))
        check_likelihood_without_head(self)
        check_gray(self.shape)
        MaskedConv(window=self.window, parent=None)

    def setup(self):
        c = self.channels
        self.first = MaskedConv(2 * c, self.window, strict=True)
        self.down, self.up = ([nn.Dense(size) for _ in range(self.depth)] for size in (c, 2 * c))
        self.blocks = [MaskedConv(c) for _ in range(self.depth)]
        self.from_context = [nn.Dense(c, use_bias=False) for _ in range(self.depth)]
        self.hidden, self.head = nn.Dense(2 * c), nn.Dense(self.likelihood.size)

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x = batch["x"]  # [B, H, W] or [B, H, W, 1]
        refuse_mask(self, batch)
        p = self.conditionals(x, context_features(self, batch, len(x), query))
        return Evidence(p.log_prob(x), parameters=p.parameters())

    def generate(self, num: int, context=None) -> Draw:
        context = context_features(self, context, num)
        start = self.conditionals(jnp.zeros((num, *self.shape)), context).draw(self.make_rng("sample")).x

        def sample_pixel(module, x, i):
            new = module.conditionals(x, context).draw(module.make_rng("sample")).x
            is_pixel = (jnp.arange(x[0].size) == i).reshape(1, *module.shape)
            return jnp.where(is_pixel, new, x), None

        x, _ = ancestral(self, sample_pixel, start, start[0].size)
        return Draw(x, self.conditionals(x, context).parameters()["mean"][0])

    def conditionals(self, x: jax.Array, context: jax.Array | None) -> Elements:
        """`p(x_i | x_<i)` of all pixels, `[1, B, *shape]`."""
        h = self.first(self.likelihood.inputs(x, self.shape).reshape(len(x), *self.shape[:2], -1))
        for down, block, up, from_context in zip(self.down, self.blocks, self.up, self.from_context, strict=True):
            inner = block(nn.relu(down(nn.relu(h))))
            if context is not None:
                inner = inner + from_context(context)[:, None, None]
            h = h + up(nn.relu(inner))
        outputs = self.head(nn.relu(self.hidden(nn.relu(h))))
        return self.likelihood.elements(outputs.reshape(1, len(x), -1), self.shape)
