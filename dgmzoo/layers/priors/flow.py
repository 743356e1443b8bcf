"""`FlowPrior`: a prior that is the density of a flow."""

import jax

from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.flows.base import Flow
from dgmzoo.layers.flows.elements import Affine, Spline
from dgmzoo.layers.flows.maps import Coupling, steps
from dgmzoo.layers.networks.mlp import check_widths
from dgmzoo.layers.priors.base import Prior
from dgmzoo.layers.validation import check_whole
from dgmzoo.model.contract import Query


class FlowPrior(Prior):
    """p(z) or p(z | above) by couplings, whose density and samples cost one pass each.

    Source: Dinh, Sohl-Dickstein & Bengio 2017 (arXiv 1605.08803); Durkan et al. 2019 (arXiv 1906.04032) with splines.

    >>> FlowPrior(num_layers=6, bins=8).hidden
    (64,)

    Raises:
      ValueError: a size is below 1, or the number of bins is negative; when called, the entry has random weights.
    """

    num_layers: int = 4
    """Number of couplings; the units are reversed between them."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers of each coupling's network."""
    bins: int = 0
    """Bins of a rational-quadratic spline for each unit; 0: affine maps."""

    def __post_init__(self):
        object.__setattr__(self, "num_layers", check_whole("num_layers", self.num_layers))
        object.__setattr__(self, "hidden", check_widths("hidden", self.hidden))
        object.__setattr__(self, "bins", check_whole("bins", self.bins, least=0))
        super().__post_init__()

    def setup(self):
        step = Coupling(Spline(self.bins) if self.bins else Affine(), self.hidden, parent=None)
        self.flow = Flow(steps(step, self.num_layers, norm=False), dims=self.units)

    def __call__(self, above: jax.Array | None = None, query: Query | None = None) -> Conditional:
        if self.weights.is_random:
            raise ValueError(
                f"expected point weights for a flow prior, got {type(self.weights).__name__}; choose another prior"
            )
        return self.flow(above)
