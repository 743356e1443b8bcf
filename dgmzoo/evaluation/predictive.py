"""The predictive log-likelihood of a model with random weights: at their means, or averaged over draws of the network."""

import functools
import math
from collections.abc import Callable, Mapping

import chex
import jax
import numpy as np

from dgmzoo.evaluation.log_likelihood import Estimate, evaluate
from dgmzoo.model.contract import Model, Variables


def predictive_log_likelihood(
    model: Model,
    variables: Variables,
    rows: Mapping[str, np.ndarray],
    key: chex.PRNGKey,
    num_samples: int,
    weight_draws: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """`log 1/S sum_s p(x | w_s)` over S = `weight_draws` networks, each the same for all rows; 0: at the mean weights.

    `p(x | w_s)` is exact or by `num_samples` importance samples, as in `evaluate`. The Monte Carlo variance is that over
    draws, by the delta method: `(mean p^2 / (mean p)^2 - 1) / (S - 1)`.
    """
    if weight_draws == 0:
        return evaluate(model, variables, rows, key, num_samples, progress)
    found = []
    for draw in range(weight_draws):
        samples, weights = jax.random.split(jax.random.fold_in(key, draw))
        tell = progress and functools.partial(_after, progress, draw, weight_draws)
        found.append(evaluate(model, variables, rows, samples, num_samples, tell, weights=weights))
    return average_over_networks(found)


def average_over_networks(found: list[Estimate]) -> Estimate:
    """Probabilities averaged over draws of the network; what else there is, averaged as it stands."""
    each = np.stack([estimate.per_example for estimate in found]).astype(np.float64)  # [S, N]
    num = len(each)
    log_mean = np.logaddexp.reduce(each, 0) - math.log(num)
    relative = np.exp(np.logaddexp.reduce(2 * each, 0) - math.log(num) - 2 * log_mean)

    def mean(name):
        return jax.tree.map(lambda *leaves: np.mean(leaves, 0), *(getattr(estimate, name) for estimate in found))

    return Estimate(
        per_example=log_mean,
        variance=np.maximum(relative - 1, 0) / (num - 1) if num > 1 else np.full(len(log_mean), np.nan),
        per_example_elbo=mean("per_example_elbo"),
        kl=mean("kl"),
        means=mean("means"),
    )


def _after(progress, draw, draws, done, num):
    progress(draw * num + done, draws * num)
