"""The variational layer of any families: a posterior and a prior of NumPyro's or of ours."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from dgmzoo.layers.latents.base import Inferred, LatentLayer
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion


class VariationalLayer(LatentLayer):
    """A layer of independent units: `q(z | features)` and `p(z)` or `p(z | above)` of any family.

    Under a piecewise normal prior, which is always learned, the noise n of `z = T(n)` is the latent: `q(n | features)`,
    `n ~ N(0, 1)`, and T is the first step of what follows. The jumps of the prior's density then lie where no parameter
    moves them.

    With a family that has no pathwise gradient (a discrete one) samples carry no gradient, and only objectives with a
    score-function gradient are exact.
    """

    posterior: type[dist.Distribution] = dist.Normal
    """Family of q(z | x)."""
    prior: type[dist.Distribution] = dist.Normal
    """Family of p(z): laplace, student_t, spike_slab; mixture and piecewise, which are always learned; or any other."""

    def __post_init__(self):
        super().__post_init__()
        if (self.posterior, self.prior) in _OTHER_FORMS:
            return
        _check_pair(self.posterior, self.prior)
        with jax.ensure_compile_time_eval():
            families.check_pair(self._sized(self.posterior), self._sized(self.prior))

    def setup(self):
        if form := _OTHER_FORMS.get((self.posterior, self.prior)):
            raise ValueError(
                f"expected families for a layer of plain densities, got a pair where {form.why}; {form.use}"
            )
        super().setup()

    @nn.nowrap
    def correction(self, estimate: str) -> tuple[LatentLayer, str] | None:
        if form := _OTHER_FORMS.get((self.posterior, self.prior)):
            return form.layer(units=self.units, noise=self.noise, weights=self.weights), f"{form.why}, so {form.does}"
        return super().correction(estimate)

    def refusal(self, estimate: str) -> str | None:
        if form := _OTHER_FORMS.get((self.posterior, self.prior)):
            return f"{form.why}; {form.use}"
        name, has_path = self.posterior.__name__, pathwise.is_reparameterized(self.posterior)
        if estimate == "score":
            return super().refusal(estimate) if has_path else None
        if estimate in ("closed", "sampled", "importance", "doubly") and not has_path:
            return f"its posterior {name} has no pathwise gradient, so use a score-function objective (nvil)"
        if estimate == "doubly" and constraints.is_dependent(self.posterior.support):
            return f"the support of its posterior {name} moves with the parameters, so use iwae"
        if estimate == "doubly" and self.posterior is PiecewiseNormal:
            return f"the density of its posterior {name} jumps where the parameters move it, so use iwae"
        return super().refusal(estimate)

    @property
    def _has_penalty(self) -> bool:
        with jax.ensure_compile_time_eval(), relaxed_promotion():
            q = families.default(self._sized(self.posterior), (1,), jnp.float32)
            prior = dist.Normal if self._noncentred else self._sized(self.prior)
            kl = closed_kl(q, families.default(prior, (1,), jnp.float32))
            return kl is not None and bool(jnp.isfinite(q.mean).all())

    def density(self, grid: jax.Array) -> jax.Array:
        """The prior's density of each unit at points `grid [N]` of what the next layer sees, `[N, U]`."""
        p = self._prior(None, grid.dtype)
        points = jnp.broadcast_to(grid[:, None, None], (len(grid), 1, self.units))
        with relaxed_promotion():
            return jnp.exp(p.log_prob(points)[:, 0])

    @property
    def _noncentred(self) -> bool:
        return self.prior is PiecewiseNormal

    def _num_unconstrained(self) -> tuple[int, int]:
        return families.num_unconstrained(self._sized(self.posterior)), families.num_unconstrained(
            self._sized(self.prior)
        )

    @nn.nowrap
    def _sized(self, family: type[dist.Distribution]) -> type[dist.Distribution]:
        return family

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(self._sized(self.posterior), unconstrained)

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(self._sized(self.prior), unconstrained)

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is not None or self.learned_prior:
            return super()._prior(above, dtype)
        if getattr(self.prior, "free_form", False):
            return self._prior_from(self.prior_parameters()[None, None])
        return families.default(self.prior, (1, 1, self.units), dtype)

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, z = inferred.q, inferred.sample
        p, value = self._prior(above, z.dtype), z
        if self._noncentred:
            value, p = p.transform(z), families.default(dist.Normal, (1, 1, self.units), z.dtype)
        with relaxed_promotion():
            log_p, log_q = p.log_prob(z), q.log_prob(z)  # [K, B, U]
        kl = closed_kl(q, p) if closed else None
        return Latent(
            value=value,
            sample=z,
            log_p=log_p.sum(-1),
            log_q=log_q.sum(-1),
            kl=log_q - log_p if kl is None else jnp.broadcast_to(kl, jnp.broadcast_shapes(kl.shape, q.batch_shape)),
            q=families.parameters(q),
        )


class _Form(NamedTuple):
    """The layer that stands for a pair of families whose plain densities train badly."""

    layer: type[LatentLayer]
    why: str
    does: str
    use: str


_OTHER_FORMS = {
    (dist.Normal, Horseshoe): _Form(
        HorseshoeLayer,
        "the gradient of a normal posterior against a horseshoe has infinite variance",
        "the layer `horseshoe` takes its place (its local scale is a second latent, tau is learned, the slab is 2)",
        "choose the layer `horseshoe`",
    ),
    (RectifiedNormal, RectifiedNormal): _Form(
        RectifiedLayer,
        "a rectified normal has a point mass at 0, where densities of samples jump",
        "the layer `rectified` takes its place (the normal before the cut is the latent, the prior is learned)",
        "choose the layer `rectified`",
    ),
}


def _check_pair(q: type[dist.Distribution], p: type[dist.Distribution]) -> None:
    """Refuse families that belong to another layer, or whose divergence is not finite."""
    for family, layer, why in (
        (Horseshoe, "horseshoe", "the gradient against it has infinite variance"),
        (RectifiedNormal, "rectified", "it has a point mass at 0, where densities of samples jump"),
    ):
        if family in (q, p):
            raise ValueError(
                f"expected families for a layer of plain densities, got {family.__name__}: {why}; "
                f"choose the layer `{layer}`, which is right by construction"
            )
    if p is PiecewiseNormal and q.support is not constraints.real:
        raise ValueError(f"expected a posterior on the real line for a piecewise normal prior, got {q.__name__}")
