"""The rectified normal layer: z = max(0, y), exactly zero for some inputs and normal above zero for others."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import Inferred, LatentLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import RectifiedNormal, expected_softplus
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.distributions.special import ndtr
from dgmzoo.reparam.ops import relaxed_promotion


class RectifiedLayer(LatentLayer):
    """`z = max(0, y)`, `q(y | features)` and `p(y)` normal; the value is z, the sample is y.

    The closed-form KL is that of z, with its point mass at 0, which is below the KL of y. Importance weights are those
    of y in training, since a density of z jumps at 0 where the parameters move P(z = 0); out of training, where no
    gradient is taken, they are those of z. The probability that a unit is not zero is "alive" among the parameters of
    q: a unit where it is 0 for all x is dead.
    """

    learned_prior: bool = True
    """Learn location and scale of p(y) instead of keeping N(0, 1)."""
    smooth: bool = False
    """`z = log(1 + exp(y))` instead: positive, with a density, never exactly zero."""

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        return self._value(super().draw(num, above))

    def _num_unconstrained(self) -> tuple[int, int]:
        return 2, 2

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(dist.Normal, unconstrained)  # of y

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(dist.Normal, unconstrained)  # of y

    def _value(self, sample: jax.Array) -> jax.Array:
        return jax.nn.softplus(sample) if self.smooth else jnp.maximum(sample, 0)

    def _noiseless_sample(self, q: dist.Distribution) -> jax.Array:
        mean = self._mean(q)  # of z, as the y that gives it
        return mean + jnp.log(-jnp.expm1(-mean)) if self.smooth else mean

    def _mean(self, q: dist.Distribution) -> jax.Array:
        return expected_softplus(q.loc / 2, q.scale / 2) if self.smooth else _rectified(q).mean

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, y, p = inferred.q, inferred.sample, self._prior(above, inferred.sample.dtype)
        atom = not self.smooth
        with relaxed_promotion():
            if atom and not inferred.train:
                log_p, log_q = (_rectified(each).log_prob(inferred.value) for each in (p, q))  # [K, B, U]
            else:
                log_p, log_q = p.log_prob(y), q.log_prob(y)
        kl = closed_kl(_rectified(q), _rectified(p)) if atom else closed_kl(q, p)
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
