"""`CategoricalLayer`: one-hot latents with a categorical posterior and a categorical prior."""

import flax.linen as nn
import jax
import numpyro.distributions as dist

from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.posteriors.base import FactorizedPosterior, Posterior
from dgmzoo.layers.priors.base import Prior, StandardPrior
from dgmzoo.layers.validation import check_whole
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.one_hot import OneHot


class CategoricalLayer(VariationalLayer):
    """Units of `classes` classes each, with a categorical posterior and prior; the default prior is uniform.

    The sample `[K, B, U, C]` is one-hot, and the value `[K, B, U * C]` is its flat form, so that classes never enter a
    network as numbers. A given sample may be relaxed. Samples carry no gradient, as the objective `nvil` expects.

    >>> CategoricalLayer(classes=8).facts().reparameterized
    False

    Raises:
      ValueError: there are fewer than 2 classes.
    """

    posterior: Posterior = FactorizedPosterior(OneHot)
    prior: Prior = StandardPrior(OneHot)
    classes: int = 10
    """Number of classes of a unit."""

    def __post_init__(self):
        object.__setattr__(self, "classes", check_whole("classes", self.classes, least=2))
        if isinstance(self.prior, StandardPrior) and self.prior.family is dist.Normal:  # the default of `learned`
            object.__setattr__(self, "prior", self.prior.clone(family=OneHot, parent=None))
        super().__post_init__()
        for part in (self.posterior, self.prior):
            if (family := getattr(part, "family", OneHot)) is not OneHot:
                raise ValueError(f"expected one-hot families in a categorical layer, got {family.__name__}")

    @nn.nowrap
    def _sizes(self, part: Posterior | Prior) -> dict:
        sized = isinstance(part, FactorizedPosterior | StandardPrior) and part.family is OneHot
        return {"family": families.with_sizes(OneHot, logits=self.classes)} if sized else {}

    def _value(self, sample: jax.Array) -> jax.Array:
        return sample.reshape(*sample.shape[:2], -1)
