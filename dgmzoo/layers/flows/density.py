"""`FlowDensity`: the base class of entries whose density is that of a flow."""

import math

import flax.linen as nn
import jax

from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.flows.base import Bijection, Flow
from dgmzoo.layers.networks.context import context_features, refuse_mask
from dgmzoo.layers.networks.mlp import flat, network
from dgmzoo.layers.validation import check_entry
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class FlowDensity(nn.Module):
    """A density of real-valued x under a flow, given a context or a label where one is read.

    A subclass defines `bijections`. Missing elements are refused.

    >>> from dgmzoo import MAF
    >>> isinstance(MAF(), FlowDensity), MAF().bound
    (True, 'exact')

    Raises:
      ValueError: a size is below 1; when called, x has a mask, or the context or the label is missing.
    """

    num_layers: int = 5
    """Number of steps of the flow."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of each step's network."""
    context: nn.Module | None = network(None)
    """Network of the flattened context, for a density of x given the context; None: the context is not read."""
    labels: int = 0
    """Number of labels, for a density of x given the label; 0: the label is not read."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("num_layers",))
        self.bijections()

    @nn.nowrap
    def bijections(self) -> tuple[Bijection, ...]:
        """The bijections of the flow, from data to noise."""
        raise NotImplementedError

    def setup(self):
        self.flow = Flow(self.bijections(), dims=math.prod(self.shape or ()))

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        refuse_mask(self, batch)
        x = flat(batch["x"], self.shape)  # [B, D]
        p = self.conditional(batch, len(x), query)
        return Evidence(p.log_prob(x[None])[..., 0])

    def generate(self, num: int, context=None) -> Draw:
        x = self.conditional(context, num, False).sample(self.make_rng("sample"), (1, num))
        return Draw(x[0].reshape(num, *self.shape))

    def conditional(self, rows: Batch | None, num: int, query: Query | bool) -> Conditional:
        """p(x | context) of the flattened x `[1, B, D]`."""
        features: jax.Array | None = context_features(self, rows, num, query)
        return self.flow(None if features is None else features[None])
