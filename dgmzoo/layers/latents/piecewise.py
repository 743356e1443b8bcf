"""`PiecewiseLayer`: latents whose posterior or prior is a piecewise normal distribution, which can be skewed."""

import flax.linen as nn
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.posteriors.base import FactorizedPosterior, Posterior
from dgmzoo.layers.priors.base import Prior, StandardPrior
from dgmzoo.layers.validation import check_whole
from dgmzoo.model.compatibility import Facts
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PiecewiseNormal


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

    posterior: Posterior = FactorizedPosterior(PiecewiseNormal)
    pieces: int = 5
    """Number of pieces, of equal mass."""
    centred: bool = False
    """Use z instead of the prior's noise as the latent under a piecewise prior."""

    def __post_init__(self):
        object.__setattr__(self, "pieces", check_whole("pieces", self.pieces))
        super().__post_init__()
        q, p = (getattr(part, "family", None) for part in (self.posterior, self.prior))
        if PiecewiseNormal not in (q, p):
            raise ValueError(
                f"expected a piecewise normal posterior or prior, got {_name(self.posterior)} and {_name(self.prior)}; "
                "choose the layer `normal`"
            )
        if self.centred and (p is not PiecewiseNormal or q not in (PiecewiseNormal, dist.Normal)):
            raise ValueError(
                "expected a piecewise prior and a normal or piecewise posterior, whose KL is closed, with centred=True, "
                f"got {_name(self.prior)} and {_name(self.posterior)}"
            )

    @nn.nowrap
    def facts(self) -> Facts:
        posterior = self.posterior.facts()
        return self.prior.clone(**self._sizes(self.prior), parent=None).facts(posterior)

    @nn.nowrap
    def alternative(self) -> tuple[LatentLayer, str] | None:
        if self.centred:
            corrected = self.clone(centred=False, parent=None)
            return corrected, "the noise of the prior is the latent instead (centred=False)"
        return super().alternative()

    @nn.nowrap
    def _sizes(self, part: Posterior | Prior) -> dict:
        if getattr(part, "family", None) is not PiecewiseNormal:
            return {}
        fields = {"family": families.with_sizes(PiecewiseNormal, scales=self.pieces)}
        return fields | ({"centred": self.centred} if isinstance(part, StandardPrior) else {})


def _name(part: Posterior | Prior) -> str:
    return getattr(part, "family", type(part)).__name__
