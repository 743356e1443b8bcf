"""`MAF`: the masked autoregressive flow, and the inverse autoregressive flow.

    u_i = (x_i - mu_i) exp(-alpha_i),    mu_i = f_mu(x_{1:i-1}),    alpha_i = f_alpha(x_{1:i-1})

A masked network (MADE) computes all mu and alpha in one pass (equations 3 to 5 of the paper), and the order of the elements
is reversed between steps. MAF's fast direction is the density: one pass, while samples take D steps. With
`fast="samples"` the directions are exchanged: mu and alpha are functions of u_{1:i-1}, samples cost one pass and the
density D steps (IAF). Missing elements are refused.

Source: Papamakarios, Pavlakou & Murray 2017 (arXiv 1705.07057); Kingma et al. 2016, "IAF" (arXiv 1606.04934). Deviations:
normalization by the data at initialization replaces batch normalization, and alpha is bounded.
"""

from typing import Literal

import flax.linen as nn

from dgmzoo.layers.flows.base import Bijection, Inverse
from dgmzoo.layers.flows.density import FlowDensity
from dgmzoo.layers.flows.maps import Autoregressive, steps


class MAF(FlowDensity):
    """A density of real-valued x by affine autoregressive maps.

    >>> MAF(fast="samples").bound
    'exact'

    Raises:
      ValueError: a size is below 1, or there is no hidden layer; when called, x has a mask, or the context or the label is
        missing.
    """

    fast: Literal["density", "samples"] = "density"
    """Direction that costs one pass: density (MAF), or samples (IAF)."""

    @nn.nowrap
    def bijections(self) -> tuple[Bijection, ...]:
        if self.fast not in ("density", "samples"):
            raise ValueError(f"expected fast to be 'density' or 'samples', got {self.fast!r}")
        step = Autoregressive(hidden=self.hidden, parent=None)
        return steps(Inverse(step, parent=None) if self.fast == "samples" else step, self.num_layers)
