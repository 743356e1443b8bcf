"""The evidence lower bound."""

import dataclasses
import math

import jax.numpy as jnp

from dgmzoo.model.contract import Model, Query
from dgmzoo.objectives.base import Objective, Result, finish
from dgmzoo.reparam.collectives import batch_mean


@dataclasses.dataclass(frozen=True)
class ELBO(Objective):
    """The evidence lower bound, with closed-form KL where the layers have one; for a density model its likelihood.

    `loss = -log p(x | z) + beta KL(q || p)`. Kingma & Welling 2014, equation 3; beta: Higgins et al. 2017, equation 4;
    warm-up: Sonderby et al. 2016, section 2.3; free bits: Kingma et al. 2016 (arXiv 1606.04934), appendix C.8.
    """

    beta: float = 1.0
    """Weight of the KL."""
    warmup_steps: int = 0
    """Steps over which that weight rises from 0."""
    free_bits: float = 0.0
    """Nats per unit, averaged over the batch, below which KL is not penalised."""

    def __post_init__(self):
        super().__post_init__()
        if not all(0 <= value < math.inf for value in (self.beta, self.warmup_steps, self.free_bits)):
            raise ValueError(f"expected finite beta, warmup_steps and free_bits >= 0, got {self}")

    def __call__(self, model: Model, variables, batch, key, step, num_data) -> Result:
        query = Query(self.num_samples, train=True, step=step)
        evidence, updates = model.evidence(variables, batch, key, query)
        beta = (
            self.beta * jnp.minimum(1.0, (step + 1).astype(jnp.float32) / self.warmup_steps)
            if self.warmup_steps
            else self.beta
        )
        penalty = 0.0
        for latent in evidence.latents.values():
            units = batch_mean(latent.kl, (0, 1)) if self.free_bits else latent.kl.mean((0, 1))  # [U]
            penalty += jnp.maximum(units, self.free_bits).sum() if self.free_bits else units.sum()
        loss = -evidence.log_likelihood.mean() + beta * (penalty + evidence.weight_kl / num_data)
        return finish(loss, evidence, num_data, updates)
