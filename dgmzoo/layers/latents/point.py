"""No distribution at all: a plain autoencoder's code, so that every comparison has one beside it."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import Inferred, LatentLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam.ops import relaxed_promotion


class PointLayer(LatentLayer):
    """z is a function of the features: no posterior, no prior, no KL, no bound on log p(x), nothing to draw."""

    learned_prior: bool = dataclasses.field(default=False, metadata={"cli": False})
    """There is no prior."""
    noise: bool = dataclasses.field(default=False, metadata={"cli": False})
    """There is none."""

    has_prior: ClassVar[bool] = False
    has_bound: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.noise:
            raise ValueError("expected a point layer without noise, got noise=True; choose the layer `normal`")

    def refusal(self, estimate: str) -> str | None:
        """As any layer; there is no KL, hence no wrong one."""
        if estimate == "sampled":
            return (
                "x would depend on the lowest layer alone, and those above never be trained; use one layer of latents"
            )
        return None if estimate == "closed" else super().refusal(estimate)

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        """Refused.

        Raises:
          ValueError: always; an entry that holds this layer has no `generate`.
        """
        raise ValueError(f"expected a layer with a prior to draw {num} values from, got a point layer, which has none")

    def _num_unconstrained(self) -> tuple[int, int]:
        return 1, 0

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        with relaxed_promotion():
            return dist.Delta(unconstrained[..., 0].astype(jnp.promote_types(unconstrained.dtype, jnp.float32)))

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        value, point = inferred.value, inferred.q.v
        zero = jnp.zeros(value.shape[:2], value.dtype)
        return Latent(value, value, zero, zero, jnp.zeros_like(point), {"mean": point})
