"""`Posterior`: the base class of posteriors q(z | features); `FactorizedPosterior`: a posterior of independent units."""

import dataclasses

import flax.linen as nn
import jax
import numpyro.distributions as dist
from numpyro.distributions import constraints

from dgmzoo.layers.conditional import Conditional, factorized
from dgmzoo.layers.weights.base import PointWeights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.compatibility import Facts
from dgmzoo.reparam import families, pairs
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.reparam.estimators import pathwise


class Posterior(nn.Module):
    """q(z | features) of the units of a variational layer.

    A subclass defines `__call__(features)`, which returns a `Conditional`, and states its facts. If it transforms a base
    distribution (a flow), the sample is the noise of the base distribution, and `Conditional.transform` gives the value
    with the log-determinant: no inverse is needed.

    >>> FactorizedPosterior(dist.Laplace).facts().posterior
    'Laplace'
    """

    units: int = dataclasses.field(default=0, kw_only=True, metadata={"cli": False})
    """Number of units; set by the layer that holds the posterior."""

    def __call__(self, features: jax.Array) -> Conditional:
        """Features `[K or 1, B, H]` to the distribution of samples `[K, B, U, ...]`."""
        raise NotImplementedError

    def facts(self) -> Facts:
        """The facts of the compatibility table, from the fields alone. Default: an exact pathwise gradient."""
        return Facts(posterior=type(self).__name__)


class FactorizedPosterior(Posterior):
    """Independent units of one distribution family, with parameters that are linear in the features.

    >>> FactorizedPosterior(dist.BernoulliLogits).facts().reparameterized
    False
    """

    family: type[dist.Distribution] = dataclasses.field(default=dist.Normal, metadata={"taken_over": True})
    """Distribution family of a unit, such as Normal, Laplace or BernoulliLogits."""

    def __post_init__(self):
        families.check_class(self.family)
        super().__post_init__()

    def setup(self):
        self.head = dense(self.units * families.num_unconstrained(self.family), PointWeights())

    def __call__(self, features: jax.Array) -> Conditional:
        unconstrained = self.head(features)
        unconstrained = unconstrained.reshape(*unconstrained.shape[:-1], self.units, -1)  # [K or 1, B, U, P]
        return factorized(families.from_unconstrained(self.family, unconstrained))

    def facts(self) -> Facts:
        return Facts(
            reparameterized=pathwise.is_reparameterized(self.family),
            posterior=self.family.__name__,
            posterior_jumps=issubclass(self.family, PiecewiseNormal),
            atom=pairs.has_atom(self.family),
            discrete=families.is_discrete(self.family),
            support_moves=constraints.is_dependent(self.family.support) and not families.is_discrete(self.family),
        )
