"""`NSF`: the neural spline flow, with coupling or autoregressive steps.

    z_i = RQS_{theta_i}(x_i),    theta_i = NN(x_{1:d}) (coupling) or NN(x_{1:i-1}) (autoregressive)

The map of an element is a monotonic rational-quadratic spline with K bins on [-B, B] and the identity outside (section 3.1
of the paper). A random permutation and an LU-linear map stand between steps (section 3.2). With couplings the density and
the samples cost one pass each; with autoregressive steps samples take D steps. Missing elements are refused.

Source: Durkan, Bekasov, Murray & Papamakarios 2019 (arXiv 1906.04032). Deviations: the networks are plain instead of
residual, without dropout and batch normalization; elements are normalized by the data at initialization before each step.
"""

from typing import Literal

import flax.linen as nn

from dgmzoo.layers.flows.base import Bijection
from dgmzoo.layers.flows.density import FlowDensity
from dgmzoo.layers.flows.elements import Spline
from dgmzoo.layers.flows.maps import Autoregressive, Coupling, steps


class NSF(FlowDensity):
    """A density of real-valued x by rational-quadratic splines.

    >>> NSF(bins=4).step
    'coupling'

    Raises:
      ValueError: a size is below 1, or the bound is not positive; when called, x has a mask, or the context or the label is
        missing.
    """

    step: Literal["coupling", "autoregressive"] = "coupling"
    """Conditioner of the splines."""
    bins: int = 8
    """Number of bins of a spline (K)."""
    limit: float = 4.0
    """Half the width of the interval that a spline bends (B)."""

    @nn.nowrap
    def bijections(self) -> tuple[Bijection, ...]:
        kinds = {"coupling": Coupling, "autoregressive": Autoregressive}
        if self.step not in kinds:
            raise ValueError(f"expected step to be one of {', '.join(kinds)}, got {self.step!r}")
        spline = Spline(self.bins, self.limit)
        return steps(kinds[self.step](spline, self.hidden, parent=None), self.num_layers, mix="linear")
