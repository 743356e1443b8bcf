"""`GatedPixelCNN`: an autoregressive density of images by gated causal convolutions.

    p(x | h) = prod_i p(x_i | x_1, ..., x_{i-1}, h),    y = tanh(W_f * x + V_f^T h) . sigmoid(W_g * x + V_g^T h)

Pixels are read row by row. A vertical stack of convolutions reads all rows above, a horizontal one the pixels to the left
and the vertical stack (figure 2 of the paper), so that no pixel is in a blind spot. A label or the features of a context are
h. Samples carry the inputs of all layers along: a row of the vertical stack and a pixel of the horizontal one are computed
once, so that an image costs about one pass. Missing elements are refused.

Source: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016 (arXiv 1606.05328). Deviation: images of one
channel, and all convolutions have the same window.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.causal import GatedCausalStack, check_gray
from dgmzoo.layers.networks.context import context_features, refuse_mask
from dgmzoo.layers.networks.mlp import network
from dgmzoo.layers.sampling import ancestral
from dgmzoo.layers.validation import check_entry, check_likelihood_without_head
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class GatedPixelCNN(nn.Module):
    """An autoregressive density of images of one channel, given a label or a context where one is read.

    >>> GatedPixelCNN(labels=10).bound
    'exact'

    Raises:
      ValueError: a size is below 1, the window is even, x is no image of one channel, or the likelihood has settings of its
        own head; when called, x has a mask, or the context or the label is missing.
    """

    channels: int = 32
    """Channels of each stack."""
    depth: int = 7
    """Number of layers."""
    window: int = 5
    """Width of the convolutions, odd; they reach half as far up and to the left."""
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
        check_entry(self)
        check_likelihood_without_head(self)
        check_gray(self.shape)
        self._network()

    @nn.nowrap
    def _network(self) -> GatedCausalStack:
        return GatedCausalStack(self.likelihood.size, self.channels, self.depth, self.window, parent=None)

    def setup(self):
        self.net = self._network()

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x = batch["x"]  # [B, H, W] or [B, H, W, 1]
        refuse_mask(self, batch)
        inputs = self.likelihood.inputs(x, self.shape).reshape(len(x), *self.shape[:2], -1)
        outputs = self.net(inputs, context_features(self, batch, len(x), query))
        p = self.likelihood.elements(outputs.reshape(1, len(x), -1), self.shape)
        return Evidence(p.log_prob(x), parameters=p.parameters())

    def generate(self, num: int, context=None) -> Draw:
        height, width, size = *self.shape[:2], self.likelihood.input_size
        context = context_features(self, context, num)

        def sample_row(module, carry, _):
            caches, shifts = module.net.row(*carry, context)

            def sample_pixel(module, carry, column):
                caches_of_row, outputs = module.net.pixel(*carry, shifts[:, :, column], context)
                draw = module.likelihood.elements(outputs[None], (1,)).draw(module.make_rng("sample"))
                inputs = module.likelihood.inputs(draw.x, (1,))
                return (caches_of_row, inputs), (inputs, draw.x[:, 0], draw.mean[:, 0])

            start = module.net.start(num, size), jnp.zeros((num, size))
            _, (inputs, *drawn) = ancestral(module, sample_pixel, start, width)
            return (caches, jnp.moveaxis(inputs, 0, 1)), drawn

        start = self.net.start(num, size, width), jnp.zeros((num, width, size))
        _, drawn = ancestral(self, sample_row, start, height)  # [H, W, num] each
        x, mean = (jnp.moveaxis(each, -1, 0).reshape(num, *self.shape) for each in jax.tree.map(jnp.asarray, drawn))
        return Draw(x, mean)
