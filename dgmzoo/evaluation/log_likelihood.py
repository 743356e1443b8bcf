"""How probable held-out data are: exact densities, and importance-weighted bounds streamed in chunks of samples."""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model import Model, Query, Variables
from dgmzoo.reparam.quick_keys import quick

ROWS = 1000  # examples times samples that are worked on at once; about what a core's cache holds
_BATCH = 250  # examples at most; the same for every split, so that all share one program


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The negative log-likelihood (or bound) of a split, in nats per example; lower is better."""

    per_example: np.ndarray  # [N]  log p(x), or the bound
    variance: np.ndarray  # [N]  of the estimator, by the delta method; NaN where one sample cannot tell
    per_example_elbo: np.ndarray  # [N]
    kl: dict[str, np.ndarray]  # layer -> [U]  mean over examples
    means: dict[str, np.ndarray]  # layer -> [N, U]  posterior means

    @property
    def value(self) -> float:
        """Mean negative log-likelihood or bound."""
        return -float(self.per_example.mean(dtype=np.float64))

    @property
    def standard_error(self) -> float:
        """Of the value, over examples."""
        num = len(self.per_example)
        return float(self.per_example.std(ddof=1) / math.sqrt(num)) if num > 1 else math.nan

    @property
    def monte_carlo_error(self) -> float:
        """Standard error of the value that comes from the samples alone."""
        return math.sqrt(float(self.variance.sum(dtype=np.float64))) / len(self.variance)

    @property
    def elbo(self) -> float:
        """Mean of log p(x, z) - log q(z | x)."""
        return float(self.per_example_elbo.mean(dtype=np.float64))

    @property
    def kl_by_layer(self) -> dict[str, float]:
        """`kl/<layer>` -> nats."""
        return {f"kl/{name}": float(units.sum()) for name, units in self.kl.items()}

    def active_units(self, threshold: float = 0.01) -> dict[str, int]:
        """Layer -> units whose posterior mean varies over x: variance above 0.01 (Burda et al. 2016, section 5.2)."""
        return {name: int((mean.var(0) > threshold).sum()) for name, mean in self.means.items()}


def evaluate(
    model: Model,
    variables: Variables,
    rows: Mapping[str, np.ndarray],
    key: chex.PRNGKey,
    num_samples: int,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """`log p(x)` of rows `{"x": [N, ...]}`, exact or by `num_samples` importance samples each.

    `log 1/K sum_k w_k` with `w = p(x, z) / q(z | x)` is summed in chunks of samples and examples, so that K in the
    thousands fits in memory. Its Monte Carlo variance is estimated by `(mean w^2 / (mean w)^2 - 1) / (K - 1)`.

    Args:
      progress: told after each part (examples done, of all).
    """
    if num_samples < 1:
        raise ValueError(f"expected num_samples >= 1, got {num_samples}")
    if model.bound == "exact":
        num_samples = 1
    num = len(rows["x"])
    if num == 0:
        raise ValueError("expected at least one example to evaluate, got none")
    key = jax.random.fold_in(key, zlib.crc32(b"evaluation"))  # the same seed may have drawn initial values
    if model.prepare is not None:
        variables = jax.jit(model.prepare)(variables, jax.random.fold_in(key, 0))
    chunk = min(num_samples, 50)
    batch = min(_BATCH, max(1, ROWS // chunk))
    sums = _compiled(model, num_samples, chunk)
    found = []
    for start in range(0, num, batch):
        index = np.arange(start, start + batch) % num  # the last batch is filled up from the start
        part = {name: np.asarray(leaf[index]) for name, leaf in rows.items()}
        found.append(sums(variables, part, jax.random.fold_in(key, start + 1)))
        if progress:
            jax.block_until_ready(found[-2:][0])  # the one before: the device has always one to do
            progress(min(start, num), num)
    host = jax.device_get(found)
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *host)
    relative = np.exp(joined["log_square"] - 2 * joined["log_sum"] + math.log(num_samples))
    if model.bound == "exact":
        variance = np.zeros(num)
    elif num_samples == 1:
        variance = np.full(num, np.nan)
    else:
        variance = np.maximum(relative - 1, 0) / (num_samples - 1)
    return Estimate(
        per_example=joined["log_sum"] - math.log(num_samples),
        variance=variance,
        per_example_elbo=joined["total"] / num_samples,
        kl={name: units.mean(0, dtype=np.float64) for name, units in joined["kl"].items()},
        means=joined["means"],
    )


@functools.lru_cache(maxsize=16)
def _compiled(model: Model, num_samples: int, chunk: int):
    """A program for one batch of examples: the sums over K samples, a chunk of samples at a time."""

    def ask(variables, rows, key, num):
        evidence, _ = model.evidence(variables, rows, key, Query(num_samples=num))
        return evidence

    def sums(variables, rows, key):
        def body(carry, inputs):
            log_sum, log_square, total, kl = carry
            key, wanted = inputs
            evidence = ask(variables, rows, key, chunk)
            weight = evidence.log_weight  # [k, B]
            counts = (jnp.arange(chunk) < wanted)[:, None]
            counted = jnp.where(counts, weight, -jnp.inf)
            log_sum = jnp.logaddexp(log_sum, jax.nn.logsumexp(counted, 0))
            log_square = jnp.logaddexp(log_square, jax.nn.logsumexp(2 * counted, 0))
            total = total + jnp.where(counts, weight, 0).sum(0)
            means = {}
            for name, latent in evidence.latents.items():
                each = jnp.broadcast_to(latent.kl, (chunk, *latent.kl.shape[1:]))
                kl[name] = kl[name] + jnp.where(counts[..., None], each, 0).sum(0)
                means[name] = latent.q["mean"].mean(0)
            return (log_sum, log_square, total, kl), means

        shapes = jax.eval_shape(functools.partial(ask, num=chunk), variables, rows, key)
        zero = jnp.zeros(shapes.log_likelihood.shape[1:], shapes.log_likelihood.dtype)
        kl = {name: jnp.zeros(latent.kl.shape[1:], latent.kl.dtype) for name, latent in shapes.latents.items()}
        num_chunks = -(-num_samples // chunk)
        wanted = jnp.minimum(chunk, num_samples - chunk * jnp.arange(num_chunks))
        start = (zero - jnp.inf, zero - jnp.inf, zero, kl)
        (log_sum, log_square, total, kl), means = jax.lax.scan(
            body, start, (jax.random.split(quick(key), num_chunks), wanted)
        )
        return {
            "log_sum": log_sum,
            "log_square": log_square,
            "total": total,
            "kl": jax.tree.map(lambda leaf: leaf / num_samples, kl),
            "means": jax.tree.map(lambda leaf: leaf.mean(0), means),
        }

    return jax.jit(sums)
