"""`ELBO`: the evidence lower bound as a training objective, with a KL weight beta, a warm-up and free bits."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Model, Query
from dgmzoo.objectives.base import Objective, Result, finish
from dgmzoo.reparam.collectives import batch_mean


@dataclasses.dataclass(frozen=True)
class ELBO(Objective):
    """The evidence lower bound: `loss = -log p(x | z) + beta KL(q || p)`, averaged over K samples.

    The KL is in closed form for each layer that has one. For a density model the loss is the negative log-likelihood.

    Source: Kingma & Welling 2014, equation 3. Beta: Higgins et al. 2017, equation 4. Warm-up: Sonderby et al. 2016,
    section 2.3. Free bits: Kingma et al. 2016 (arXiv 1606.04934), appendix C.8.

    >>> ELBO(warmup_steps=1000).beta
    1.0

    Raises:
      ValueError: a field is negative or infinite.
    """

    beta: float = 1.0
    """Weight of the KL."""
    warmup_steps: int = 0
    """Steps over which the weight of the KL rises linearly from 0 to beta."""
    free_bits: float = 0.0
    """KL per unit, in nats and averaged over the batch, below which it is not penalized."""

    def __post_init__(self):
        super().__post_init__()
        if not all(0 <= value < math.inf for value in (self.beta, self.warmup_steps, self.free_bits)):
            raise ValueError(f"expected finite beta, warmup_steps and free_bits >= 0, got {self}")

    def validation_loss(self, bound, kl, weight_kl):
        units = np.concatenate([np.ravel(units) for units in kl.values()]) if kl else np.zeros(0)
        penalty = np.maximum(units, self.free_bits).sum()
        return self.beta * (penalty + weight_kl) - (bound + units.sum())  # the sum is log p(x | z)

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
            unit_kl = batch_mean(latent.kl, (0, 1)) if self.free_bits else latent.kl.mean((0, 1))  # [U]
            penalty += jnp.maximum(unit_kl, self.free_bits).sum() if self.free_bits else unit_kl.sum()
        loss = -evidence.log_likelihood.mean() + beta * (penalty + evidence.weight_kl / num_data)
        return finish(loss, evidence, num_data, updates)
