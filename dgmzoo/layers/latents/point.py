"""`PointLayer`: a deterministic code, without noise and without a prior, as in a plain autoencoder."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.latents.base import Inferred, JointLayer
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Latent
from dgmzoo.reparam.ops import relaxed_promotion


class PointLayer(JointLayer):
    """A deterministic code: z is a linear function of the features.

    It has no prior, a KL of 0, no bound on log p(x), and cannot be sampled. An entry that holds it has no `generate`.

    >>> PointLayer().has_prior, PointLayer().has_bound
    (False, False)
    """

    learned_prior: bool = dataclasses.field(default=False, metadata={"cli": False})
    """Always False: there is no prior."""

    has_prior: ClassVar[bool] = False
    has_bound: ClassVar[bool] = False

    @nn.nowrap
    def facts(self) -> Facts:
        return Facts(posterior="Delta", training_value="deterministic")

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        """Refuse to sample.

        Raises:
          ValueError: always.
        """
        raise ValueError(
            f"expected a layer with a prior to sample {num} values, got a point layer, which has no prior; choose the "
            "layer `normal`"
        )

    def _num_unconstrained(self) -> tuple[int, int]:
        return 1, 0

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        with relaxed_promotion():
            return dist.Delta(unconstrained[..., 0].astype(jnp.promote_types(unconstrained.dtype, jnp.float32)))

    def condition(self, features: jax.Array) -> Conditional:
        q = super().condition(features)

        def sample(key, leading):
            return jnp.broadcast_to(q.distribution.v, (*leading, self.units))

        return dataclasses.replace(q, sample=sample)

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        value, point = inferred.value, inferred.q.distribution.v
        zero = jnp.zeros(value.shape[:2], value.dtype)
        return Latent(value, value, zero, zero, jnp.zeros_like(point), {"mean": point})
