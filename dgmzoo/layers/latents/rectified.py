"""`RectifiedLayer`: latents z = max(0, y) with a normal y, so that z is exactly 0 for some inputs."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import Inferred, JointLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import RectifiedNormal, expected_softplus
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.distributions.special import ndtr
from dgmzoo.reparam.ops import relaxed_promotion


class RectifiedLayer(JointLayer):
    """`z = max(0, y)` with normal `q(y | features)` and `p(y)`. The value of the layer is z, its sample is y.

    The KL in closed form is that of z, including its point mass at 0, and is at most the KL of y. In training importance
    weights are ratios of densities of y, because a density of z jumps at 0 where the parameters move P(z = 0). Outside
    training no gradient is taken, and importance weights are ratios of densities of z.

    The parameters of q include "alive", the probability that a unit is not 0. A unit is dead if it is 0 for all x.

    >>> RectifiedLayer().smooth, RectifiedLayer().learned_prior
    (False, True)
    """

    learned_prior: bool = True
    """Learn location and scale of p(y); otherwise p(y) is N(0, 1)."""
    smooth: bool = False
    """Use `z = log(1 + exp(y))` instead, which is positive, has a density, and is never exactly 0."""

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        return self._value(super().draw(num, above))  # of a sample of y

    def _num_unconstrained(self) -> tuple[int, int]:
        return 2, 2

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(dist.Normal, unconstrained)  # of y

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(dist.Normal, unconstrained)  # of y

    def _value(self, sample: jax.Array) -> jax.Array:
        return jax.nn.softplus(sample) if self.smooth else jnp.maximum(sample, 0)

    def _mean(self, q: dist.Distribution) -> jax.Array:
        """Mean of z, from the distribution q of y."""
        return expected_softplus(q.loc / 2, q.scale / 2) if self.smooth else _rectified(q).mean

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, y, p = inferred.q.distribution, inferred.sample, self._prior(above, inferred.sample.dtype)
        has_atom = not self.smooth
        with relaxed_promotion():
            if has_atom and not inferred.train:
                log_p, log_q = (_rectified(normal).log_prob(inferred.value) for normal in (p, q))  # [K, B, U]
            else:
                log_p, log_q = p.log_prob(y), q.log_prob(y)
        kl = closed_kl(_rectified(q), _rectified(p)) if has_atom else closed_kl(q, p)
        return Latent(
            value=inferred.value,
            sample=y,
            log_p=log_p.sum(-1),
            log_q=log_q.sum(-1),
            kl=kl if closed else log_q - log_p,
            q={"loc": q.loc, "scale": q.scale, "alive": ndtr(q.loc / q.scale), "mean": self._mean(q)},
        )


def _rectified(y: dist.Distribution) -> RectifiedNormal:
    return RectifiedNormal(y.loc, y.scale)
