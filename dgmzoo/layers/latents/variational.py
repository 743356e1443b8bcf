"""`VariationalLayer`: latents with any posterior and any prior, which are both normal by default."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from dgmzoo.layers.conditional import Conditional, in_dtype, per_unit
from dgmzoo.layers.latents.base import Inferred, LatentLayer
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.posteriors.base import FactorizedPosterior, Posterior
from dgmzoo.layers.priors.base import Prior, StandardPrior
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import pairs
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.estimators import pathwise

Family = type[dist.Distribution]


class VariationalLayer(LatentLayer):
    """A layer of latents with a posterior `q(z | features)` and a prior `p(z)` or `p(z | above)`.

    Posterior and prior are modules. The class of a distribution stands for independent units of that family. The KL is in
    closed form where there is one for the pair of families, and otherwise log q - log p at the sample.

    Samples of a family without a pathwise gradient (a discrete one, for example) carry no gradient. Only objectives with
    a score-function gradient are exact for it.

    >>> layer = VariationalLayer(prior=dist.Laplace)
    >>> layer.posterior.family.__name__, layer.prior.family.__name__
    ('Normal', 'Laplace')

    Raises:
      ValueError: the KL of the pair is infinite, or the pair belongs to another layer.
    """

    posterior: Posterior = FactorizedPosterior()
    """Posterior q(z | features), chosen by name; the name of a family (`laplace`) gives independent units of it."""
    prior: Prior = StandardPrior()
    """Prior p(z), chosen by name; the name of a family (`laplace`) gives independent units of its default distribution."""
    learned_prior: bool = dataclasses.field(default=False, kw_only=True, metadata={"cli": False})
    """Always False; `prior` chooses a learned prior."""

    former_fields = {"learned_prior": "choose the prior by name: prior=learned (in Python prior=LearnedPrior())"}

    def __post_init__(self):
        if self.learned_prior:
            raise ValueError(
                f"expected no learned_prior, got {self.learned_prior}; {self.former_fields['learned_prior']}"
            )
        for name, module in (("posterior", FactorizedPosterior), ("prior", StandardPrior)):
            if isinstance(value := getattr(self, name), type) and issubclass(value, nn.Module):
                raise ValueError(
                    f"expected a module as {name}, got the class {value.__name__}; pass {value.__name__}()"
                )
            if not isinstance(value, nn.Module):
                object.__setattr__(self, name, module(value))
        super().__post_init__()
        q, p = self._families()
        if (q, p) in _REPLACEMENTS:
            return
        _check_pair(q, p)
        if q is None or p is None:
            return
        with jax.ensure_compile_time_eval():
            pairs.check_pair(q, p)

    def setup(self):
        shared = {name: None for name in ("encoder", "posterior") if hasattr(self.prior, name)}
        self.q = self.posterior.clone(units=self.units, **self._sizes(self.posterior))
        if shared:
            shared = {"encoder": self.encoder, "posterior": self.q}
        self.p = self.prior.clone(units=self.units, weights=self.weights, **shared, **self._sizes(self.prior))

    def condition(self, features: jax.Array) -> Conditional:
        self.check_units()
        self._check_replaced()
        q, facts = self.q(features[None] if features.ndim == 2 else features), self.posterior.facts()
        name = type(self.posterior).__name__
        if (
            q.distribution is not None
            and facts.reparameterized
            and not pathwise.is_reparameterized(type(q.distribution))
        ):
            raise ValueError(
                f"expected facts() of the posterior {name} to say reparameterized=False, got True for a "
                f"{type(q.distribution).__name__}, whose samples carry no gradient"
            )
        if q.transform is not None and not facts.samples_noise:
            raise ValueError(
                f"expected facts() of the transformed posterior {name} to say samples_noise=True, got False"
            )
        return q

    def score(self, inferred: Inferred, above: jax.Array | None = None, bottom_up: bool = False) -> Latent:
        q, sample = inferred.q, inferred.sample
        z = sample if q.transform is None else inferred.value
        p = self.p(above, inferred.query)
        log_q, log_p = per_unit(log_q := q.log_prob(sample), p.log_prob(z).astype(log_q.dtype))
        if inferred.log_det is not None:
            log_q, log_p, log_det = per_unit(log_q, log_p, inferred.log_det)
            log_p = log_p + log_det  # of the sample, which is the noise of the posterior
        kl = log_q - log_p
        if not bottom_up and q.transform is None and q.distribution is not None and p.distribution is not None:
            closed = closed_kl(q.distribution, in_dtype(p.distribution, log_q.dtype))
            if closed is not None:
                kl = jnp.broadcast_to(closed, jnp.broadcast_shapes(closed.shape, q.distribution.batch_shape))
        mean = {} if q.mean is None else {"mean": q.mean}
        value = self._value(z if p.transform is None else p.transform(z)[0])
        return Latent(value, sample, log_p.sum(-1), log_q.sum(-1), kl, {**q.parameters, **mean})

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        self.check_units()
        p = self.p(above)
        z = p.sample(self.make_rng("sample"), (1, num))
        return self._value(z if p.transform is None else p.transform(z)[0])

    def density(self, grid: jax.Array) -> jax.Array:
        """Density `[N, U]` of the prior of each unit at values `grid [N]`, if the prior has independent units."""
        return self.p.density(grid)

    @property
    def is_noncentred(self) -> bool:
        return self.prior.clone(**self._sizes(self.prior), parent=None).is_noncentred

    @nn.nowrap
    def facts(self) -> Facts:
        facts = self.prior.facts(self.posterior.facts())
        if replacement := _REPLACEMENTS.get(self._families()):
            return dataclasses.replace(facts, heavy_gradient=replacement.reason)
        return facts

    @nn.nowrap
    def alternative(self) -> tuple[LatentLayer, str] | None:
        if replacement := _REPLACEMENTS.get(self._families()):
            return replacement.layer(units=self.units, weights=self.weights, template=self.template), replacement.effect
        return None

    @nn.nowrap
    def _families(self) -> tuple[Family | None, Family | None]:
        """The families of posterior and prior, with the sizes of their vector parameters; None for other modules."""
        return tuple(
            self._sizes(part).get("family", part.family)
            if isinstance(part, FactorizedPosterior | StandardPrior)
            else None
            for part in (self.posterior, self.prior)
        )

    @nn.nowrap
    def _sizes(self, part: Posterior | Prior) -> dict:
        """Fields of the posterior or prior that the layer sets (a family with the lengths of its vector parameters)."""
        return {}

    def _check_replaced(self) -> None:
        if replacement := _REPLACEMENTS.get(self._families()):
            raise ValueError(
                f"expected families for a layer of plain densities, got a pair where {replacement.reason}; "
                f"{replacement.advice}"
            )


class _Replacement(NamedTuple):
    """The layer that replaces `VariationalLayer` for a pair of families whose densities have no exact gradient."""

    layer: type[LatentLayer]
    reason: str
    effect: str
    advice: str


_REPLACEMENTS = {
    (dist.Normal, Horseshoe): _Replacement(
        HorseshoeLayer,
        "the gradient of a normal posterior against a horseshoe has infinite variance",
        "the layer `horseshoe` takes its place (its local scale is a second latent, tau is learned, the slab is 2)",
        "choose the layer `horseshoe`",
    ),
    (RectifiedNormal, RectifiedNormal): _Replacement(
        RectifiedLayer,
        "a rectified normal has a point mass at 0, where densities of samples jump",
        "the layer `rectified` takes its place (the normal before the rectification is the latent, the prior is learned)",
        "choose the layer `rectified`",
    ),
}


def _check_pair(q: Family | None, p: Family | None) -> None:
    """Refuse families that belong to another layer, and a posterior without a KL against a piecewise normal prior."""
    for family, layer, reason in (
        (Horseshoe, "horseshoe", "the gradient against it has infinite variance"),
        (RectifiedNormal, "rectified", "it has a point mass at 0, where densities of samples jump"),
        (dist.CategoricalLogits, "categorical", "its classes would enter the next network as numbers"),
    ):
        if family in (q, p):
            raise ValueError(
                f"expected families for a layer of plain densities, got {family.__name__}: {reason}; "
                f"choose the layer `{layer}`"
            )
    if None not in (q, p) and issubclass(p, PiecewiseNormal) and q.support is not constraints.real:
        raise ValueError(f"expected a posterior on the real line for a piecewise normal prior, got {q.__name__}")
