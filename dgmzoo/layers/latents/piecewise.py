"""The piecewise normal layer: the range of a standard normal is cut, and each piece has its own scale."""

import flax.linen as nn
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PiecewiseNormal

_SAMPLED = ("sampled", "importance", "doubly")  # estimates that differentiate log p at samples
_JUMPS = "the density of its centred piecewise prior jumps where the parameters move it"


class PiecewiseLayer(VariationalLayer):
    """`z = T(n)`, n standard normal, T increasing and linear between quantiles: in the posterior, the prior, or both.

    As posterior it is exact under the ELBO and importance weights. As prior it is learned, with its noise as the latent
    (exact everywhere), or `centred`: z is the latent, and since the prior's density jumps where its parameters move it,
    only the ELBO with the closed-form KL is exact.
    """

    posterior: type[dist.Distribution] = PiecewiseNormal
    """Family of q(z | x)."""
    pieces: int = 5
    """Number of pieces, of equal mass."""
    centred: bool = False
    """Keep z itself as the latent under a piecewise prior."""

    def __post_init__(self):
        if isinstance(self.pieces, bool) or not isinstance(self.pieces, int) or self.pieces < 1:
            raise ValueError(f"expected pieces to be an integer >= 1, got {self.pieces!r}")
        if PiecewiseNormal not in (self.posterior, self.prior):
            raise ValueError(
                "expected a piecewise normal posterior or prior, "
                f"got {self.posterior.__name__} and {self.prior.__name__}; choose the layer `normal`"
            )
        if self.centred and (self.prior is not PiecewiseNormal or self.posterior not in (PiecewiseNormal, dist.Normal)):
            raise ValueError(
                "expected a piecewise prior and a normal or piecewise posterior, whose KL is closed, with centred=True, "
                f"got {self.prior.__name__} and {self.posterior.__name__}"
            )
        super().__post_init__()

    def refusal(self, estimate: str) -> str | None:
        if self.centred and estimate in _SAMPLED:
            return f"{_JUMPS}; use elbo, or centred=False"
        return super().refusal(estimate)

    @nn.nowrap
    def correction(self, estimate: str) -> tuple[LatentLayer, str] | None:
        if self.centred and estimate in _SAMPLED:
            return self.clone(
                centred=False, parent=None
            ), f"{_JUMPS}, so its noise is the latent instead (centred=False)"
        return super().correction(estimate)

    @property
    def _noncentred(self) -> bool:
        return super()._noncentred and not self.centred

    @nn.nowrap
    def _sized(self, family: type[dist.Distribution]) -> type[dist.Distribution]:
        return families.with_sizes(family, scales=self.pieces) if family is PiecewiseNormal else family
