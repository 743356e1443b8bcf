"""`RealNVP`: a flow of affine couplings.

    y_{1:d} = x_{1:d},    y_{d+1:D} = x_{d+1:D} * exp(s(x_{1:d})) + t(x_{1:d})

Half of the elements are scaled and shifted by a network of the other half (equations 4 to 8 of the paper), and the order is
reversed between couplings. The density and the samples cost one pass each. Missing elements are refused.

Source: Dinh, Sohl-Dickstein & Bengio 2017 (arXiv 1605.08803). Deviations: x is a vector, without the multi-scale
architecture for images; normalization by the data at initialization (Kingma & Dhariwal 2018) replaces batch normalization;
the coupling is written as (x - t) exp(-s), with a bounded s.
"""

import flax.linen as nn

from dgmzoo.layers.flows.base import Bijection
from dgmzoo.layers.flows.density import FlowDensity
from dgmzoo.layers.flows.maps import Coupling, steps


class RealNVP(FlowDensity):
    """A density of real-valued x by affine couplings.

    >>> RealNVP(num_layers=8).bound
    'exact'

    Raises:
      ValueError: a size is below 1; when called, x has a mask, or the context or the label is missing.
    """

    @nn.nowrap
    def bijections(self) -> tuple[Bijection, ...]:
        return steps(Coupling(hidden=self.hidden, parent=None), self.num_layers)
