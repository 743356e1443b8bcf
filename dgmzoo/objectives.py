"""Objectives: what is minimised, given a model's evidence. Nats per example; one reduction, here.

An objective is called as `objective(model, variables, batch, key, step, num_data) -> (loss, (metrics, updates))`.
Where it needs parameters or state of its own, `init` adds them to the variables and `optimizers` trains them.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dgmzoo.layers.latent import LatentLayer
from dgmzoo.layers.networks import MLP
from dgmzoo.model import Array, Batch, Evidence, Model, Query, Variables
from dgmzoo.parts import mapped, parts
from dgmzoo.reparam.estimators.score_function import normalized_signal, score_surrogate
from dgmzoo.reparam.reduce import batch_mean

Result = tuple[Array, tuple[dict[str, Array], Variables]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What all objectives share.

    Attributes:
      estimate: how gradients reach the posterior: "closed" | "sampled" | "importance" | "doubly" | "score".
    """

    num_samples: int = 1
    """Samples of the latents per example (K)."""

    estimate: ClassVar[str] = "closed"

    def __post_init__(self):
        if type(self.num_samples) is not int or self.num_samples < 1:
            raise ValueError(f"expected objective.num_samples to be a whole number >= 1, got {self.num_samples!r}")

    def corrected(
        self, module: nn.Module, path: str = "model", estimate: str | None = None
    ) -> tuple[nn.Module, tuple[str, ...]]:
        """The module with its layers in forms whose gradients are right under this objective; what changed, in words.

        Args:
          estimate: how gradients reach the layers, where that is another way than the objective's own: an entry that
            `samples_kl` (a hierarchy) has no closed KL below its top.
        """
        if self.estimate == "closed" and getattr(module, "samples_kl", False):
            estimate = "sampled"
        if isinstance(module, LatentLayer):
            found = module.correction(estimate or self.estimate)
            return (found[0], (f"{path}: {found[1]}",)) if found else (module, ())
        said, done = [], {}  # a layer in two places stays one

        def change(where, value):
            if isinstance(value, nn.Module) and id(value) not in done:
                done[id(value)], words = self.corrected(value, where, estimate)
                said.extend(words)
            return done.get(id(value), value)

        return mapped(module, change, path), tuple(said)

    def check(self, module: nn.Module) -> None:
        """Refuse a module with a layer whose gradient would be wrong under this objective.

        Raises:
          ValueError: with the reason.
        """
        for field, layer in variational_layers(module):
            if reason := self.refusal(layer, module):
                raise ValueError(
                    f"expected an objective with exact gradients for {field}, got {type(self).__name__}: {reason}"
                )

    def refusal(self, layer: LatentLayer, module: nn.Module) -> str | None:
        """Why a layer's gradients would be wrong under this objective, in this module; None where they are exact."""
        return next(filter(None, map(layer.refusal, self._estimates(module))), None)

    def _estimates(self, module: nn.Module) -> tuple[str, ...]:
        """How gradients reach the layers of the module."""
        sampled = self.estimate == "closed" and getattr(module, "samples_kl", False)
        return ("sampled" if sampled else self.estimate,)

    @property
    def bound_samples(self) -> int:
        """Samples of which the bound is made that is maximised: K for one of K samples, 1 for a mean over K."""
        return 1

    def init(self, key: chex.PRNGKey, batch: Batch) -> Variables:
        """Parameters and state of the objective's own, as collections to be merged into the model's."""
        return {}

    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        """Optimizers for top-level names of "params" that are not the model's."""
        return {}


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
        return _finish(loss, evidence, num_data, updates)


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
        return _finish(loss, evidence, num_data, updates)


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
        return _finish(loss, evidence, num_data, updates)


@dataclasses.dataclass(frozen=True)
class NVIL(Objective):
    """The ELBO of a model with discrete latents, by the score function with baselines.

    The learning signal `log p(x, z) - log q(z | x)` is centred by a network of x and a running mean, and divided by its
    running standard deviation. The running mean includes the batch itself, as in the paper's algorithm 1, which scales
    the gradient of q by 1 - (1 - decay) / (K B). Mnih & Gregor 2014 (arXiv 1402.0030), sections 2.2 and 2.3.
    """

    baseline_hidden: tuple[int, ...] = (100,)
    """Widths of the baseline network of x."""
    baseline_learning_rate: float = 1e-3
    """Of the baseline's own Adam."""
    decay: float = 0.8
    """Of the running moments of the signal."""

    estimate: ClassVar[str] = "score"

    def __post_init__(self):
        super().__post_init__()
        if any(width < 1 for width in self.baseline_hidden):
            raise ValueError(f"expected objective.baseline_hidden of widths >= 1, got {self.baseline_hidden}")
        if not 0 < self.baseline_learning_rate < math.inf or not 0 <= self.decay < 1:
            raise ValueError(f"expected baseline_learning_rate > 0 and decay in [0, 1), got {self}")

    def init(self, key: chex.PRNGKey, batch: Batch) -> Variables:
        zero = jnp.zeros(())
        return {
            "params": {"baseline": self._baseline.init(key, batch["x"])["params"]},
            "signal": {"mean": zero, "variance": zero},
        }

    def optimizers(self) -> Mapping[str, optax.GradientTransformation]:
        return {"baseline": optax.adam(self.baseline_learning_rate)}

    @property
    def _baseline(self) -> nn.Module:
        return _Baseline(self.baseline_hidden)

    def __call__(self, model: Model, variables, batch, key, step, num_data) -> Result:
        query = Query(self.num_samples, train=True, step=step)
        evidence, updates = model.evidence(variables, batch, key, query)
        predicted = self._baseline.apply({"params": variables["params"]["baseline"]}, batch["x"])  # [B]
        reward = jax.lax.stop_gradient(evidence.log_weight)  # [K, B]
        moments = variables["signal"]
        signal, mean, variance = normalized_signal(
            reward - jax.lax.stop_gradient(predicted)[None], moments["mean"], moments["variance"], self.decay
        )
        error = jnp.square(reward - mean - predicted[None])
        # The score of log_q has mean zero, so the generative gradient is that of log_joint alone.
        surrogate = (
            evidence.log_joint
            - jax.lax.stop_gradient(evidence.log_q)
            + score_surrogate(evidence.log_q, signal)
            - (error - jax.lax.stop_gradient(error))
        )
        loss = -surrogate.mean() + evidence.weight_kl / num_data
        for term in evidence.aux.values():  # through samples without a path; the other examples' mean as its baseline
            others = (term.sum() - term) / max(1, len(term) - 1)
            loss = loss + score_surrogate(evidence.log_q.sum(0), term - others).mean()
        updates = {**updates, "signal": {"mean": mean, "variance": variance}}
        return _finish(loss, evidence, num_data, updates)


class _Baseline(nn.Module):
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = MLP(self.hidden)(x.reshape(x.shape[0], -1))
        return nn.Dense(1)(h)[:, 0]


NAMES: dict[str, type[Objective]] = {"elbo": ELBO, "iwae": IWAE, "dreg": DReG, "nvil": NVIL}


def log_mean_exp(value: Array) -> Array:
    """`log 1/K sum_k exp(value_k)` over the first axis."""
    return jax.nn.logsumexp(value, 0) - math.log(value.shape[0])


def variational_layers(module: nn.Module, path: str = "model") -> list[tuple[str, LatentLayer]]:
    """The variational layers among a module's fields, at any depth, with their paths."""
    return [(where, part) for where, part in parts(module, path) if isinstance(part, LatentLayer)]


def _finish(loss: Array, evidence: Evidence, num_data: int, updates: Variables) -> Result:
    terms = {name: term.mean() for name, term in evidence.aux.items()}
    loss = sum(terms.values(), loss)
    kl = {name: latent.kl.sum(-1).mean() for name, latent in evidence.latents.items()}
    elbo = evidence.log_likelihood.mean() - sum(kl.values()) - evidence.weight_kl / num_data
    return loss, (
        {
            "loss": loss,
            "elbo": elbo,
            **{f"kl/{name}": value for name, value in kl.items()},
            **{f"term/{name}": value for name, value in terms.items()},
        },
        updates,
    )
