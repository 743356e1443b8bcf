"""How probable held-out data are: exact densities, and importance-weighted bounds streamed in chunks of samples.

The examples are worked off in parts of a fixed size, each with a key of its own. A part is always one device's, so the
result does not depend on how many devices, or processes, share the parts.
"""

import dataclasses
import functools
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dgmzoo.model.contract import Model, Query, Variables
from dgmzoo.reparam.fast_threefry import fast_key

_ROWS = 1000  # examples times samples in one chunk of a core's work
_CHUNK = 50  # samples
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
    devices: Sequence[jax.Device] | None = None,
    weights: chex.PRNGKey | None = None,
) -> Estimate:
    """`log p(x)` of rows `{"x": [N, ...]}`, exact or by `num_samples` importance samples each.

    `log 1/K sum_k w_k` with `w = p(x, z) / q(z | x)` is summed in chunks of samples and examples, so that K in the
    thousands fits in memory. Its Monte Carlo variance is estimated by `(mean w^2 / (mean w)^2 - 1) / (K - 1)`.

    Args:
      progress: told after each part (examples done, of all).
      devices: of this process, to spread the parts over; by default all. Of several processes, all must call this.
      weights: key of a draw of random weights, the same for all examples and samples; None: their means.
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
    chunk = min(num_samples, _CHUNK)
    batch = examples_per_batch(num_samples)
    joined = _in_parts(_sums(model, num_samples, chunk), variables, rows, key, weights, batch, progress, devices)
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


def _in_parts(sums, variables, rows, key, weights, batch, progress, devices):
    """The sums of all examples `[N, ...]` on the host. Parts lie in the order of processes, then rounds, then devices."""
    num, processes = len(rows["x"]), jax.process_count()
    devices = local_devices() if devices is None else list(devices)
    devices = devices[: -(-num // (batch * processes))]  # no more than there are parts
    width = batch * len(devices)  # examples of one process at once
    rounds = -(-num // (width * processes))
    if len(devices) > 1:
        variables = jax.device_put(variables, NamedSharding(_mesh(tuple(devices)), PartitionSpec()))
    compiled = _compiled(sums, tuple(devices))
    found = []
    for i in range(rounds):
        start = width * (jax.process_index() * rounds + i)
        starts = np.arange(start, start + width, batch, dtype=np.int32)
        index = np.arange(start, start + width) % num  # what is left over is filled up from the start
        part = {name: np.asarray(leaf[index]) for name, leaf in rows.items()}
        found.append(compiled(variables, part, key, weights, starts))
        if progress:
            jax.block_until_ready(found[-2:][0])  # the one before: the device has always one to do
            progress(min(i * width * processes, num), num)
    host = jax.device_get(found)
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *host)
    if processes > 1:
        joined = multihost_utils.process_allgather(joined, tiled=True)
    return jax.tree.map(lambda leaf: leaf[:num], joined)


def examples_per_batch(num_samples: int) -> int:
    """Examples in one part, each with so many samples; what is left over is filled up to a whole part."""
    # A core's cache holds few rows, an accelerator needs many.
    rows = _ROWS if jax.default_backend() == "cpu" else 50 * _ROWS
    return min(_BATCH, max(1, rows // min(num_samples, _CHUNK)))


def local_devices() -> list[jax.Device]:
    """The devices of this process that training and evaluation use: all, or the first `DGMZOO_DEVICES` of them.

    Raises:
      ValueError: `DGMZOO_DEVICES` is not a number of devices that this process has.
    """
    devices, limit = jax.local_devices(), os.environ.get("DGMZOO_DEVICES")
    if limit is None:
        return devices
    if not limit.isdecimal() or not 1 <= int(limit) <= len(devices):
        raise ValueError(
            f"expected DGMZOO_DEVICES from 1 to {len(devices)}, the devices of this process, got {limit!r}"
        )
    return devices[: int(limit)]


def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.array(devices), ("parts",))


@functools.lru_cache(maxsize=16)
def _compiled(sums: Callable, devices: tuple[jax.Device, ...]):
    """`(variables, rows {name: [devices * B, ...]}, key, weights, starts [devices]) -> sums [devices * B, ...]`."""

    def one(variables, rows, key, weights, starts):
        return sums(variables, rows, jax.random.fold_in(key, starts[0] + 1), weights)

    if len(devices) == 1:
        return jax.jit(one)
    spread, same = PartitionSpec("parts"), PartitionSpec()
    specs = (same, spread, same, same, spread)
    return jax.jit(jax.shard_map(one, mesh=_mesh(devices), in_specs=specs, out_specs=spread, check_vma=False))


@functools.lru_cache(maxsize=16)
def _sums(model: Model, num_samples: int, chunk: int):
    """The function of one batch of examples that gives the sums over K samples, a chunk of samples at a time."""

    def ask(variables, rows, key, weights, num):
        evidence, _ = model.evidence(variables, rows, key, Query(num_samples=num, weights=weights))
        return evidence

    def sums(variables, rows, key, weights):
        def body(carry, inputs):
            log_sum, log_square, total, kl = carry
            key, wanted = inputs
            evidence = ask(variables, rows, key, weights, chunk)
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

        shapes = jax.eval_shape(functools.partial(ask, num=chunk), variables, rows, key, weights)
        zero = jnp.zeros(shapes.log_likelihood.shape[1:], shapes.log_likelihood.dtype)
        kl = {name: jnp.zeros(latent.kl.shape[1:], latent.kl.dtype) for name, latent in shapes.latents.items()}
        num_chunks = -(-num_samples // chunk)
        wanted = jnp.minimum(chunk, num_samples - chunk * jnp.arange(num_chunks))
        start = (zero - jnp.inf, zero - jnp.inf, zero, kl)
        # Two chunks in one turn don't wait for each other: cores of a CPU that one leaves idle work on the other. What is
        # no longer inside a loop (the only turn, an odd chunk) would be fused with, and rounded like, what is around it;
        # four chunks in one turn were 4 % quicker, and rounded otherwise on one device than on several.
        on_cpu = jax.default_backend() == "cpu"
        at_once = 2 if on_cpu and num_chunks > 2 and num_chunks % 2 == 0 else 1
        (log_sum, log_square, total, kl), means = jax.lax.scan(
            body, start, (jax.random.split(fast_key(key, reused=on_cpu), num_chunks), wanted), unroll=at_once
        )
        return {
            "log_sum": log_sum,
            "log_square": log_square,
            "total": total,
            "kl": jax.tree.map(lambda leaf: leaf / num_samples, kl),
            "means": jax.tree.map(lambda leaf: leaf.mean(0), means),
        }

    return sums
