"""Importance-weighted bounds: IWAE, and DReG with its doubly reparameterized gradient."""

import dataclasses
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.model.contract import Array, Model, Query
from dgmzoo.objectives.base import Objective, Result, finish


@dataclasses.dataclass(frozen=True)
class IWAE(Objective):
    """The importance-weighted bound: `log 1/K sum_k p(x, z_k) / q(z_k | x)`.

    Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), equation 8.
    """

    num_samples: int = 5
    """Samples of the latents per example (K)."""

    estimate: ClassVar[str] = "importance"

    @property
    def bound_samples(self) -> int:
        return self.num_samples

    def __call__(self, model: Model, variables, batch, key, step, num_data) -> Result:
        query = Query(self.num_samples, train=True, step=step)
        evidence, updates = model.evidence(variables, batch, key, query)
        loss = -log_mean_exp(evidence.log_weight).mean() + evidence.weight_kl / num_data
        return finish(loss, evidence, num_data, updates)


@dataclasses.dataclass(frozen=True)
class DReG(IWAE):
    """The importance-weighted bound with its doubly reparameterized gradient, at any depth of latents.

    With normalized weights `w_k`, taken as constants, the gradient is that of

        sum_k w_k log p(x, z_k) at fixed z_k  +  sum_k w_k^2 log [p(x, z_k) / q(z_k | x)] at fixed parameters,

    z_k moving along its path. Its mean is the gradient of the bound; its signal-to-noise ratio does not fall with K as
    the plain one's does. Parameters may be shared between p and q. The density of q must not jump at a point that its
    parameters move (the end of a uniform, say): there the score of q does not become a path.

    Tucker et al. 2019 (arXiv 1810.04152), equation 8; several layers: Bauer & Mnih 2021 (arXiv 2101.11046), section 4.
    """

    def _estimates(self, module: nn.Module) -> tuple[str, ...]:
        return (*super()._estimates(module), "doubly")

    def __call__(self, model: Model, variables, batch, key, step, num_data) -> Result:
        query = Query(self.num_samples, train=True, step=step)
        evidence, updates = model.evidence(variables, batch, key, query)
        if not evidence.latents:
            raise ValueError("expected a model with latents for DReG, got one without; use ELBO")
        path = {name: latent.sample for name, latent in evidence.latents.items()}
        fixed = dataclasses.replace(query, given=jax.lax.stop_gradient(path))
        moved = dataclasses.replace(query, given=path)
        generative, _ = model.evidence(variables, batch, key, fixed)
        # All variables are stopped, not q's parameters alone: those of z2 depend on z1, along its path.
        inference, _ = model.evidence(jax.lax.stop_gradient(variables), batch, key, moved)
        log_weight = jax.lax.stop_gradient(evidence.log_weight)  # [K, B]
        weight = jax.nn.softmax(log_weight, 0)
        surrogate = (weight * generative.log_joint + jnp.square(weight) * inference.log_weight).sum(0)  # [B]
        bound = log_mean_exp(log_weight) + surrogate - jax.lax.stop_gradient(surrogate)
        loss = -bound.mean() + evidence.weight_kl / num_data
        return finish(loss, evidence, num_data, updates)


def log_mean_exp(value: Array) -> Array:
    """`log 1/K sum_k exp(value_k)` over the first axis."""
    return jax.nn.logsumexp(value, 0) - math.log(value.shape[0])
