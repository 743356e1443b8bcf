"""`IWAE`: the importance-weighted bound; `DReG`: the same bound with the doubly reparameterized gradient."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from dgmzoo.model.compatibility import Needs
from dgmzoo.model.contract import Array, Model, Query
from dgmzoo.objectives.base import Objective, Result, finish


@dataclasses.dataclass(frozen=True)
class IWAE(Objective):
    """The importance-weighted bound `log 1/K sum_k p(x, z_k) / q(z_k | x)`.

    Source: Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), equation 8.

    >>> IWAE(num_samples=50).bound_samples
    50
    """

    num_samples: int = 5
    """Samples of the latents per example (K)."""

    needs: ClassVar[Needs] = Needs(kl="sampled", several=True)

    @property
    def bound_samples(self) -> int:
        return self.num_samples

    def __call__(self, model: Model, variables, batch, key, step, num_data) -> Result:
        query = Query(self.num_samples, train=True, step=step)
        evidence, updates = model.evidence(variables, batch, key, query)
        loss = -log_mean_exp(evidence.log_weight).mean() + evidence.weight_kl / num_data
        return _with_bound(finish(loss, evidence, num_data, updates), loss)


@dataclasses.dataclass(frozen=True)
class DReG(IWAE):
    """The importance-weighted bound with its doubly reparameterized gradient, for any number of latent layers.

    With the normalized weights `w_k` as constants, the gradient is that of

        sum_k w_k log p(x, z_k) at fixed z_k  +  sum_k w_k^2 log [p(x, z_k) / q(z_k | x)] at fixed parameters,

    where in the second term z_k depends on the parameters through its path. The gradient is unbiased, and its
    signal-to-noise ratio does not fall with K, unlike that of `IWAE`. p and q may share parameters. The density of q must
    not jump at a point that its parameters move (for example the end of a uniform), because the score of q is then not
    equal to a pathwise gradient.

    Source: Tucker et al. 2019 (arXiv 1810.04152), equation 8. Several layers: Bauer & Mnih 2021 (arXiv 2101.11046),
    section 4.

    >>> DReG(num_samples=50).bound_samples
    50

    Raises:
      ValueError: when called, the model has no latents.
    """

    needs: ClassVar[Needs] = Needs(kl="sampled", several=True, doubly=True, given=True)

    def __call__(self, model: Model, variables, batch, key, step, num_data) -> Result:
        query = Query(self.num_samples, train=True, step=step)
        evidence, updates = model.evidence(variables, batch, key, query)
        if not evidence.latents:
            raise ValueError("expected a model with latents for DReG, got one without; use ELBO")
        samples = {name: latent.sample for name, latent in evidence.latents.items()}
        fixed_samples = dataclasses.replace(query, given=jax.lax.stop_gradient(samples))
        pathwise_samples = dataclasses.replace(query, given=samples)
        generative, _ = model.evidence(variables, batch, key, fixed_samples)
        # All variables are stopped, instead of the parameters of q: those of q(z_2 | z_1) depend on z_1 and its path.
        inference, _ = model.evidence(jax.lax.stop_gradient(variables), batch, key, pathwise_samples)
        log_weight = jax.lax.stop_gradient(evidence.log_weight)  # [K, B]
        weight = jax.nn.softmax(log_weight, 0)
        surrogate = (weight * generative.log_joint + jnp.square(weight) * inference.log_weight).sum(0)  # [B]
        bound = log_mean_exp(log_weight) + surrogate - jax.lax.stop_gradient(surrogate)
        loss = -bound.mean() + evidence.weight_kl / num_data
        return _with_bound(finish(loss, evidence, num_data, updates), loss)


def _with_bound(result: Result, loss: Array) -> Result:
    """The result with the metric "bound": that of K samples, which curves then show instead of the ELBO."""
    total, (metrics, updates) = result
    return total, ({**metrics, "bound": -loss}, updates)


def log_mean_exp(value: Array) -> Array:
    """`log 1/K sum_k exp(value_k)` over the first axis.

    >>> round(float(log_mean_exp(jnp.log(jnp.array([1.0, 3.0])))), 4)  # log 2
    0.6931
    """
    return jax.nn.logsumexp(value, 0) - math.log(value.shape[0])
