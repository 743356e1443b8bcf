"""`density`: estimate p(x) of a latent-variable model by importance sampling, with the variance of the estimate."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Model, Query
from dgmzoo.testing import continuous
from dgmzoo.testing.subject import Subject

MAX_ERROR = 0.02  # standard error of the total mass that a law needs
_PAIRS = 16_000  # of rows and samples in one call
_MAX_EVALUATIONS = 30


def density(subject: Subject, variables, rows) -> tuple[np.ndarray, np.ndarray]:
    """`p(x)` of rows `[N]`, and the variance of its estimate; zeros for a density without latents.

    Samples are added until the standard error of the sum is half of what a law needs. The variance is infinite where the
    weights are so unequal that it cannot be estimated.
    """
    if not subject.drawn.latents:
        return np.exp(log_weights(subject, variables, rows, 1)[0]), np.zeros(len(rows["x"]))
    parts: list[np.ndarray] = []
    for i in range(_MAX_EVALUATIONS):
        parts.append(np.exp(log_weights(subject, variables, rows, max(20, _PAIRS // len(rows["x"])), i)))
        weight = np.concatenate(parts)  # [K, N]
        variance = weight.var(0, ddof=1) / len(weight)
        is_unequal = continuous.tail_index(weight.ravel()) > continuous.MAX_TAIL_INDEX
        if np.sqrt(variance.sum()) < MAX_ERROR / 2 or (is_unequal and i >= 3):
            break
    if is_unequal:
        variance = np.full(len(variance), np.inf)
    return weight.mean(0), variance


def log_weights(subject: Subject, variables, rows, num_samples: int, key: int = 0) -> np.ndarray:
    """Log importance weights `[K or 1, N]`, whose mean weight is p(x), of rows in batches of one size.

    They are `log p(x, z) - log q(z | x)`, or `_defensive_log_weight` where the module samples its latents from the prior.
    """
    num = len(rows["x"])
    size = min(num, max(1, _PAIRS // num_samples))
    results = []
    for start in range(0, num, size):
        index = np.arange(start, start + size) % num  # the last batch is filled with the first rows
        batch = {name: np.asarray(leaf)[index] for name, leaf in rows.items()}
        keys = jax.random.fold_in(subject.keys(7), 1000 * key + start // size)
        if subject.draws_latents:
            if "defensive" not in subject.shared:
                function = functools.partial(_defensive_log_weight, subject.model)
                subject.shared["defensive"] = jax.jit(function, static_argnums=3)
            result = subject.shared["defensive"](variables, batch, keys, -(-num_samples // 2))
        else:
            result = subject.compiled_log_weight(variables, batch, keys, Query(num_samples))
        results.append(np.asarray(result, np.float64))
    return np.concatenate(results, 1)[:, :num]


def _defensive_log_weight(model: Model, variables, batch, key, num: int):
    """`log p(x, z) - log (q(z | x) + p(z)) / 2`, `[2 num, B]`, of `num` samples of the posterior and as many of the prior.

    For discrete x the weights are at most 2, however much narrower than the true posterior q is. Source: Hesterberg 1995,
    "Weighted average importance sampling and defensive mixture distributions".
    """
    own, prior = jax.random.split(key)
    size = len(batch["x"])
    inferred, _ = model.evidence(variables, batch, own, Query(num))
    context = {name: leaf for name, leaf in batch.items() if name not in ("x", "mask", "length")}
    repeated = {name: jnp.tile(leaf, (num, *(1,) * (leaf.ndim - 1))) for name, leaf in context.items()} or None
    drawn = model.generate(variables, prior, num * size, repeated).latents
    given = {
        name: jnp.concatenate([latent.sample, drawn[name].reshape(latent.sample.shape).astype(latent.sample.dtype)])
        for name, latent in inferred.latents.items()
    }
    evidence, _ = model.evidence(variables, batch, own, Query(2 * num, given=given))
    log_prior = sum(latent.log_p for latent in evidence.latents.values())
    return evidence.log_joint - jnp.logaddexp(evidence.log_q, log_prior) + math.log(2)
