"""The piecewise normal layer: a normal whose quantile intervals have scales of their own, as posterior or prior."""

import flax.linen as nn
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PiecewiseNormal

_SAMPLES_LOG_P = ("sampled", "importance", "doubly")  # estimates that differentiate log p at samples
_JUMPS = "the density of its centred piecewise prior jumps where the parameters move it"


class PiecewiseLayer(VariationalLayer):
    """A layer with a piecewise normal posterior, prior, or both: `z = T(n)` with standard normal noise n.

    T is increasing, and linear between quantiles of n. A piecewise posterior has exact gradients under the ELBO and
    importance weights. A piecewise prior is always learned. By default it is non-centred: the noise n is the latent, and
    gradients are exact under every pathwise objective. If it is `centred`, z is the latent. The density of the prior then
    jumps at points that its parameters move, so that only the ELBO with its KL in closed form has exact gradients.

    >>> from dgmzoo import PiecewiseNormal
    >>> layer = PiecewiseLayer(posterior=dist.Normal, prior=PiecewiseNormal, pieces=3)
    >>> layer.pieces, layer.centred
    (3, False)

    Raises:
      ValueError: neither family is piecewise normal, or a centred pair has no KL in closed form.
    """

    posterior: type[dist.Distribution] = PiecewiseNormal
    """Family of q(z | x)."""
    pieces: int = 5
    """Number of pieces, of equal mass."""
    centred: bool = False
    """Use z instead of the prior's noise as the latent under a piecewise prior."""

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
        if self.centred and estimate in _SAMPLES_LOG_P:
            return f"{_JUMPS}; use elbo, or centred=False"
        return super().refusal(estimate)

    @nn.nowrap
    def correction(self, estimate: str) -> tuple[LatentLayer, str] | None:
        if self.centred and estimate in _SAMPLES_LOG_P:
            corrected = self.clone(centred=False, parent=None)
            return corrected, f"{_JUMPS}, so the noise of the prior is the latent instead (centred=False)"
        return super().correction(estimate)

    @property
    def _noncentred(self) -> bool:
        return super()._noncentred and not self.centred

    @nn.nowrap
    def _sized(self, family: type[dist.Distribution]) -> type[dist.Distribution]:
        return families.with_sizes(family, scales=self.pieces) if family is PiecewiseNormal else family
