"""`Prior`: the base class of priors; `StandardPrior`: a fixed prior; `LearnedPrior`: a prior with learned parameters.

How to choose a prior (by the name that `--model.latent.prior` accepts):

- `standard`: the default distribution of a family, N(0, 1) for `normal`. It adds no parameters. A family's name
  (`laplace`, `student_t`) chooses it with that family. Families of free form (`mixture`, `piecewise`) are learned anyway.
- `learned`: a family whose parameters are learned for each unit. It can fit scales and locations, and no dependence
  between units.
- `vamp`: a mixture of posteriors at learned pseudo-inputs (`VampPrior`). It follows the aggregate posterior, and costs one
  encoding of every pseudo-input a step.
- `flow`: couplings of standard normal noise (`FlowPrior`). Units depend on each other, and it may have several modes.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.conditional import Conditional, factorized
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Query
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.reparam.ops import relaxed_promotion

CENTRED_JUMPS = "the density of its centred piecewise prior jumps where the parameters move it"


class Prior(nn.Module):
    """p(z), or p(z | above) below another layer.

    A subclass defines `__call__(above, query)`, which returns a `Conditional`. A prior that uses the encoder of the entry
    (the VampPrior) declares the fields `encoder` and `posterior`, which the layer then sets.

    >>> StandardPrior(dist.Laplace).is_noncentred
    False
    """

    units: int = dataclasses.field(default=0, kw_only=True, metadata={"cli": False})
    """Number of units; set by the layer that holds the prior."""
    weights: Weights = dataclasses.field(default=PointWeights(), kw_only=True, metadata={"cli": False})
    """Weights of the prior's networks, which belong to the generative network; set by the entry."""

    @property
    def is_noncentred(self) -> bool:
        """True if the sample is noise of the prior, of which the value is a function."""
        return False

    def __call__(self, above: jax.Array | None = None, query: Query | None = None) -> Conditional:
        """The distribution of samples `[K, B, U, ...]`.

        Args:
          above: features `[K, B, H]` of the layer above; None: an unconditional prior, which broadcasts over K and B.
          query: the query of the evidence; None when the prior is sampled.
        """
        raise NotImplementedError

    def facts(self, posterior: Facts) -> Facts:
        """The facts of the compatibility table for a layer of this prior and a posterior with these facts.

        Default: of a prior with a smooth density.
        """
        reason = ""
        if posterior.discrete or posterior.atom:
            kind = "is discrete" if posterior.discrete else "has a point mass"
            reason = f"its posterior {posterior.posterior} {kind}, and its prior {type(self).__name__} is a density"
        return dataclasses.replace(posterior, closed_kl=False, heavy_gradient=reason)


class StandardPrior(Prior):
    """Independent units of the default distribution of a family, N(0, 1) for the normal family.

    A family of free form (a mixture, a piecewise normal) is learned. A piecewise normal prior is non-centred: the sample
    is the noise n of `z = T(n)`, and the value is T(n), so that no density jumps at a point that its parameters move.

    >>> StandardPrior().family.__name__
    'Normal'
    """

    family: type[dist.Distribution] = dataclasses.field(default=dist.Normal, metadata={"taken_over": True})
    """Distribution family of a unit, such as Normal, Laplace, StudentT or PiecewiseNormal."""
    centred: bool = dataclasses.field(default=False, kw_only=True, metadata={"cli": False})
    """Use z instead of the noise as the sample under a piecewise prior; set by the layer that holds the prior."""

    is_learned: ClassVar[bool] = False

    def __post_init__(self):
        families.check_class(self.family)
        super().__post_init__()

    def setup(self):
        size = families.num_unconstrained(self.family)
        self.head = dense(self.units * size, self.weights)
        self.free = Free((self.units, size))

    def __call__(self, above: jax.Array | None = None, query: Query | None = None) -> Conditional:
        p = self.distribution(above)
        if not self.is_noncentred:
            return factorized(p)
        noise = families.default(dist.Normal, (1, 1, self.units), p.loc.dtype)
        return dataclasses.replace(factorized(noise), transform=lambda n: (p.transform(n), jnp.zeros_like(n)))

    def distribution(self, above: jax.Array | None = None) -> dist.Distribution:
        """The distribution of the value z, with batch shape `[K or 1, B or 1, U]`."""
        if above is not None:
            unconstrained = self.head(above)
            unconstrained = unconstrained.reshape(*unconstrained.shape[:-1], self.units, -1)  # [K, B, U, P]
        elif self.is_learned or getattr(self.family, "free_form", False):
            unconstrained = self.free()[None, None]
        else:
            return families.default(self.family, (1, 1, self.units), jnp.result_type(float))
        return families.from_unconstrained(self.family, unconstrained)

    def density(self, grid: jax.Array) -> jax.Array:
        """Density `[N, U]` of each unit at the values `grid [N]`."""
        points = jnp.broadcast_to(grid[:, None, None], (len(grid), 1, self.units))
        with relaxed_promotion():
            return jnp.exp(self.distribution().log_prob(points)[:, 0])

    def facts(self, posterior: Facts) -> Facts:
        jumps = issubclass(self.family, PiecewiseNormal) and not self.is_noncentred
        return dataclasses.replace(posterior, prior_jumps=CENTRED_JUMPS if jumps else "")

    @property
    def is_noncentred(self) -> bool:
        return issubclass(self.family, PiecewiseNormal) and not self.centred


class LearnedPrior(StandardPrior):
    """Independent units of a family whose parameters are learned, one set for each unit.

    >>> LearnedPrior(dist.StudentT).is_learned
    True
    """

    is_learned: ClassVar[bool] = True


class Free(nn.Module):
    """Unconstrained parameters that depend on no input. They are created on the first call.

    >>> Free((3, 2)).init(jax.random.key(0))["params"]["unconstrained"].shape
    (3, 2)
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("unconstrained", nn.initializers.zeros, self.shape, jnp.float32)
