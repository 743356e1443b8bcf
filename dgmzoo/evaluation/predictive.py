"""`predictive_log_likelihood`: evaluate a Bayesian neural network, averaged over samples of its weights."""

import functools
import math
from collections.abc import Callable, Mapping

import chex
import jax
import numpy as np

from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.evaluation.partial import PartialSums
from dgmzoo.model.contract import Model, Variables


def predictive_log_likelihood(
    model: Model,
    variables: Variables,
    rows: Mapping[str, np.ndarray],
    key: chex.PRNGKey,
    num_samples: int,
    weight_draws: int = 0,
    progress: Callable[[int, int], None] | None = None,
    batch_size: int | None = None,
    partials: Callable[[int], PartialSums] | None = None,
) -> Estimate:
    """Estimate `log 1/S sum_s p(x | w_s)` over S = `weight_draws` sampled networks; 0: at the mean weights.

    A sampled network is the same for all rows. `p(x | w_s)` is exact or uses `num_samples` importance samples, as in
    `evaluate`. The Monte Carlo error is that over networks (`average_over_networks`).

    Args:
      variables: as `prepared.prepare` returns them.
      progress: callback with the number of finished examples and the total, over all networks.
      batch_size: as in `evaluate`.
      partials: number of a network -> its finished batches, which are not evaluated again.
    """
    if weight_draws == 0:
        partial = partials and partials(0)
        return evaluate(model, variables, rows, key, num_samples, progress, batch_size=batch_size, partial=partial)
    estimates = []
    for network in range(weight_draws):
        samples, weights = jax.random.split(jax.random.fold_in(key, network))
        network_progress = progress and functools.partial(_network_progress, progress, network, weight_draws)
        estimates.append(
            evaluate(
                model,
                variables,
                rows,
                samples,
                num_samples,
                network_progress,
                weights=weights,
                batch_size=batch_size,
                partial=partials and partials(network),
            )
        )
    return average_over_networks(estimates)


def average_over_networks(estimates: list[Estimate]) -> Estimate:
    """Average the probabilities of the examples, and all other quantities as they are, over networks.

    All examples share the networks, so that their errors are not independent. With `r[s, n] = p(x_n | w_s) / mean_s p`,
    the standard error of the mean of log p is the standard deviation over s of `mean_n r[s, n]`, over sqrt(S).

    >>> zeros = np.zeros(1)
    >>> networks = [Estimate(np.log([p]), zeros, zeros, kl={}, means={}) for p in (0.2, 0.4)]
    >>> average = average_over_networks(networks)
    >>> round(float(np.exp(-average.value)), 3), round(average.shared_error, 3)
    (0.3, 0.333)
    """
    log_p = np.stack([estimate.per_example for estimate in estimates]).astype(np.float64)  # [S, N]
    num = len(log_p)
    log_mean = np.logaddexp.reduce(log_p, 0) - math.log(num)
    ratio = np.exp(log_p - log_mean)  # [S, N]

    def mean(name):
        return jax.tree.map(lambda *leaves: np.mean(leaves, 0), *(getattr(estimate, name) for estimate in estimates))

    return Estimate(
        per_example=log_mean,
        variance=ratio.var(0) / (num - 1) if num > 1 else np.full(len(log_mean), np.nan),
        per_example_elbo=mean("per_example_elbo"),
        kl=mean("kl"),
        means=mean("means"),
        codes=estimates[0].codes,
        num_samples=num,
        weight_kl=float(np.mean([estimate.weight_kl for estimate in estimates])),
        aux=mean("aux"),
        shared_error=float(ratio.mean(1).std(ddof=1) / math.sqrt(num)) if num > 1 else math.nan,
    )


def _network_progress(progress, network, num_networks, done, num):
    progress(network * num + done, num_networks * num)
