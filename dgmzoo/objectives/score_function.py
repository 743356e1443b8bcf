"""`NVIL`: the ELBO for discrete latents, with a score-function gradient and learned baselines."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dgmzoo.layers.networks.mlp import MLP, check_widths
from dgmzoo.model.compatibility import Needs
from dgmzoo.model.contract import Array, Batch, Model, Query, Variables
from dgmzoo.objectives.base import Objective, Result, finish
from dgmzoo.reparam.estimators.score_function import normalized_signal, score_surrogate


@dataclasses.dataclass(frozen=True)
class NVIL(Objective):
    """The ELBO of a model with discrete latents, with a score-function gradient and baselines.

    Two baselines are subtracted from the learning signal `log p(x, z) - log q(z | x)`: a network of x, and a running
    mean. The difference is divided by its running standard deviation, if that exceeds 1. Both statistics are those from
    before the batch; at the first step, those of the other samples of the batch.

    The baselines do not bias the gradient. The division scales it: the gradient of the parameters of q is that of the
    bound, divided by `max(1, running standard deviation)`. The score-function gradient of extra losses is divided by the
    same number, so that their weight relative to the bound is as stated. The gradient of the generative parameters, and a
    dependence of an extra loss on the parameters of q at fixed samples, are not scaled.

    Source: Mnih & Gregor 2014 (arXiv 1402.0030), sections 2.2 and 2.3.

    >>> NVIL().needs.gradient, list(NVIL().optimizers())
    ('score', ['baseline'])

    Raises:
      ValueError: a width is below 1, the learning rate is not positive, or `decay` lies outside [0, 1).
    """

    baseline_hidden: tuple[int, ...] = (100,)
    """Widths of the hidden layers of the baseline network."""
    baseline_learning_rate: float = 1e-3
    """Learning rate of the baseline network, which Adam trains."""
    decay: float = 0.8
    """Decay of the running mean and variance of the learning signal."""

    needs: ClassVar[Needs] = Needs(gradient="score", kl="sampled")
    collections: ClassVar[Mapping[str, str]] = {"signal": "equal"}

    def __post_init__(self):
        super().__post_init__()
        widths = check_widths("objective.baseline_hidden", self.baseline_hidden)
        object.__setattr__(self, "baseline_hidden", widths)
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
        baseline = self._baseline.apply({"params": variables["params"]["baseline"]}, batch["x"])  # [B]
        reward = jax.lax.stop_gradient(evidence.log_weight)  # [K, B]
        moments = variables["signal"]
        normalized = normalized_signal(
            reward - jax.lax.stop_gradient(baseline)[None], moments["mean"], moments["variance"], self.decay
        )
        error = jnp.square(reward - normalized.centre - baseline[None])
        # The score of q has mean zero, so the gradient of the generative parameters is that of log_joint.
        surrogate = (
            evidence.log_joint
            - jax.lax.stop_gradient(evidence.log_q)
            + score_surrogate(evidence.log_q, normalized.signal)
            - (error - jax.lax.stop_gradient(error))
        )
        loss = -surrogate.mean() + evidence.weight_kl / num_data
        for term in evidence.aux.values():  # the gradient of q, with the mean over the other examples as a baseline
            others_mean = (term.sum() - term) / max(1, len(term) - 1)
            signal = (term - others_mean)[None] / normalized.divisor
            loss = loss + score_surrogate(evidence.log_q, signal).sum(0).mean()
        updates = {**updates, "signal": {"mean": normalized.mean, "variance": normalized.variance}}
        return finish(loss, evidence, num_data, updates)


class _Baseline(nn.Module):
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = MLP(self.hidden)(x.reshape(x.shape[0], -1))
        return nn.Dense(1)(h)[:, 0]
