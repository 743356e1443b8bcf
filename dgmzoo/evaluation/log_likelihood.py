"""`evaluate`: log-likelihood of held-out data, exact or as an importance-weighted bound; `local_devices`.

Examples are evaluated in batches of a fixed size, each with a key of its own. A batch is never divided between devices,
so the result does not depend on the number of devices or processes.
"""

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

from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.evaluation.memory import largest_batch, live_bytes
from dgmzoo.evaluation.pareto import tail_shape, tail_size
from dgmzoo.evaluation.partial import PartialSums
from dgmzoo.model.contract import Model, Query, Variables
from dgmzoo.reparam.fast_threefry import fast_key

_CHUNK_ROWS = 1000  # examples times samples in one chunk, for one core
_CHUNK = 50  # samples in one chunk
_MAX_BATCH = 250  # examples; the same for every split, so that all splits share one program


def evaluate(
    model: Model,
    variables: Variables,
    rows: Mapping[str, np.ndarray],
    key: chex.PRNGKey,
    num_samples: int,
    progress: Callable[[int, int], None] | None = None,
    devices: Sequence[jax.Device] | None = None,
    weights: chex.PRNGKey | None = None,
    batch_size: int | None = None,
    partial: PartialSums | None = None,
) -> Estimate:
    """Estimate `log p(x)` of rows `{"x": [N, ...]}`, exactly or by `num_samples` importance samples per example.

    `log 1/K sum_k w_k` with `w = p(x, z) / q(z | x)` is summed in chunks of samples and examples, so that K in the
    thousands fits in memory. Its Monte Carlo variance is estimated by `(mean w^2 / (mean w)^2 - 1) / (K - 1)`. If there are
    several processes, all of them must make the same call.

    Args:
      variables: as `prepared.prepare` returns them.
      progress: callback after each batch, with the number of finished examples and the total.
      devices: local devices that share the batches. Default: those of `local_devices`.
      weights: key of a sample of random weights that all examples share. None: their means.
      batch_size: examples that are evaluated at once; None: as many as a budget of memory allows (`memory.BUDGET`).
      partial: the finished batches, which are not evaluated again; for one process.

    Raises:
      ValueError: no rows, or `num_samples` below 1.
    """
    if num_samples < 1:
        raise ValueError(f"expected num_samples >= 1, got {num_samples}")
    is_exact = model.bound == "exact" or (model.bound == "predictive" and not _has_latents(model, variables, rows, key))
    if is_exact:
        num_samples = 1
    num = len(rows["x"])
    if num == 0:
        raise ValueError("expected at least one example to evaluate, got none")
    key = jax.random.fold_in(
        key, zlib.crc32(b"evaluation")
    )  # independent of the initial values, which may have the same seed
    batch, chunk = batch_sizes(model, variables, rows, key, weights, num_samples, batch_size)
    batch_sums = _sums(model, num_samples, chunk)
    sums = _evaluate_batches(batch_sums, variables, rows, key, weights, batch, progress, devices, partial)
    second_moment = np.exp(sums["log_square"] - 2 * sums["log_sum"] + math.log(num_samples))  # mean w^2 / (mean w)^2
    if is_exact:
        variance = np.zeros(num)
    elif num_samples == 1:
        variance = np.full(num, np.nan)
    else:
        variance = np.maximum(second_moment - 1, 0) / (num_samples - 1)
    return Estimate(
        per_example=sums["log_sum"] - math.log(num_samples),
        variance=variance,
        num_samples=num_samples,
        tail_shape=sums["tail_shape"] if tail_size(num_samples) else None,
        weight_kl=float(sums["weight_kl"][0]),
        aux={name: float(term.mean(dtype=np.float64)) for name, term in sums["aux"].items()},
        per_example_elbo=sums["total"] / num_samples,
        kl={name: units.mean(0, dtype=np.float64) for name, units in sums["kl"].items()},
        means=sums["means"],
        codes=sums["codes"],
    )


def _has_latents(model: Model, variables: Variables, rows: Mapping[str, np.ndarray], key: chex.PRNGKey) -> bool:
    first = {name: np.asarray(leaf[:1]) for name, leaf in rows.items()}
    return bool(jax.eval_shape(model.evidence, variables, first, key)[0].latents)


def _evaluate_batches(batch_sums, variables, rows, key, weights, batch, progress, devices, partial):
    """Sums of all examples `[N, ...]` on the host. Batches are ordered by process, then round, then device."""
    num, processes = len(rows["x"]), jax.process_count()
    devices = local_devices() if devices is None else list(devices)
    devices = devices[: -(-num // (batch * processes))]  # at most one device for each batch
    width = batch * len(devices)  # examples of one process in one round
    rounds = -(-num // (width * processes))
    if len(devices) > 1:
        variables = jax.device_put(variables, NamedSharding(_mesh(tuple(devices)), PartitionSpec()))
    compiled = _compiled(batch_sums, tuple(devices))

    def inputs(i):
        start = width * (jax.process_index() * rounds + i)
        starts = np.arange(start, start + width, batch, dtype=np.int32)
        index = np.arange(start, start + width) % num  # the last batches are filled with the first rows
        batches = {name: np.asarray(leaf[index]) for name, leaf in rows.items()}
        return variables, batches, key, weights, starts

    partial = partial if processes == 1 else None
    results = partial.rounds(jax.eval_shape(compiled, *inputs(0))) if partial else []
    first = len(results)
    try:
        for i in range(first, rounds):
            results.append(compiled(*inputs(i)))
            if i > first and (progress or partial):
                jax.block_until_ready(results[-2])  # wait for the previous round, so that the device is never idle
                if partial:
                    partial.add(results[-2])
            if progress:
                progress(min(i * width * processes, num), num)
    except KeyboardInterrupt:
        if partial:
            partial.write()
        raise
    sums = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(results))
    if processes > 1:
        sums = multihost_utils.process_allgather(sums, tiled=True)
    return jax.tree.map(lambda leaf: leaf[:num], sums)


def examples_per_batch(num_samples: int) -> int:
    """Number of examples in a batch of `evaluate` with `num_samples` samples per example.

    >>> examples_per_batch(1)
    250
    """
    # The cache of a CPU core holds few rows; an accelerator needs many.
    rows = _CHUNK_ROWS if jax.default_backend() == "cpu" else 50 * _CHUNK_ROWS
    return min(_MAX_BATCH, max(1, rows // min(num_samples, _CHUNK)))


def batch_sizes(
    model: Model,
    variables: Variables,
    rows: Mapping[str, np.ndarray],
    key: chex.PRNGKey,
    weights: chex.PRNGKey | None,
    num_samples: int,
    batch_size: int | None = None,
) -> tuple[int, int]:
    """The examples of a batch, and the samples of a chunk, of `evaluate`: at most those that the memory budget allows."""
    chunk = min(num_samples, _CHUNK)
    if batch_size is not None:
        return batch_size, chunk
    leaves, structure = jax.tree.flatten((variables, key, weights))
    shapes = tuple((name, leaf.shape[1:], leaf.dtype) for name, leaf in rows.items())
    return _batch_sizes(
        model, num_samples, chunk, shapes, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    )


@functools.lru_cache(maxsize=64)  # tracing a program takes half a second
def _batch_sizes(model, num_samples, chunk, shapes, structure, leaves) -> tuple[int, int]:
    variables, key, weights = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])

    def needed(batch: int, chunk: int) -> int:
        rows = {name: jax.ShapeDtypeStruct((batch, *shape), dtype) for name, shape, dtype in shapes}
        return live_bytes(_sums(model, num_samples, chunk), variables, rows, key, weights)

    batch = largest_batch(lambda batch: needed(batch, chunk), examples_per_batch(num_samples))
    if batch == 1:
        chunk = largest_batch(lambda chunk: needed(1, chunk), chunk)
    return batch, chunk


def local_devices() -> list[jax.Device]:
    """Devices of this process that training and evaluation use: all, or the first `DGMZOO_DEVICES` of them.

    >>> len(local_devices()) >= 1
    True

    Raises:
      ValueError: the environment variable `DGMZOO_DEVICES` is not a number from 1 to the number of devices.
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
    return Mesh(np.array(devices), ("batches",))


@functools.lru_cache(maxsize=16)
def _compiled(batch_sums: Callable, devices: tuple[jax.Device, ...]):
    """Compile `(variables, rows {name: [devices * B, ...]}, key, weights, starts [devices]) -> sums [devices * B, ...]`."""

    def on_device(variables, rows, key, weights, starts):
        return batch_sums(variables, rows, jax.random.fold_in(key, starts[0] + 1), weights)

    if len(devices) == 1:
        return jax.jit(on_device)
    sharded, replicated = PartitionSpec("batches"), PartitionSpec()
    specs = (replicated, sharded, replicated, replicated, sharded)
    return jax.jit(jax.shard_map(on_device, mesh=_mesh(devices), in_specs=specs, out_specs=sharded, check_vma=False))


@functools.lru_cache(maxsize=16)
def _sums(model: Model, num_samples: int, chunk: int):
    """Function of a batch of examples that returns sums over K samples, computed one chunk of samples at a time."""
    num_chunks, has_tail = -(-num_samples // chunk), tail_size(num_samples) > 0

    def chunk_evidence(variables, rows, key, weights, num):
        with jax.default_matmul_precision("highest"):  # the default of a TPU changes the numbers
            evidence, _ = model.evidence(variables, rows, key, Query(num_samples=num, weights=weights))
        return evidence

    def batch_sums(variables, rows, key, weights):
        def add_chunk(sums, inputs):
            log_sum, log_square, total, kl, aux = sums
            key, size = inputs
            evidence = chunk_evidence(variables, rows, key, weights, chunk)
            log_weight = jnp.broadcast_to(evidence.log_weight, (chunk, len(total)))  # [k, B], of a density [1, B]
            mask = (jnp.arange(chunk) < size)[:, None]
            masked = jnp.where(mask, log_weight, -jnp.inf)
            log_sum = jnp.logaddexp(log_sum, jax.nn.logsumexp(masked, 0))
            log_square = jnp.logaddexp(log_square, jax.nn.logsumexp(2 * masked, 0))
            total = total + jnp.where(mask, log_weight, 0).sum(0)
            aux = {name: aux[name] + term for name, term in evidence.aux.items()}
            means, codes = {}, {}
            for name, latent in evidence.latents.items():
                sample_kl = jnp.broadcast_to(latent.kl, (chunk, *latent.kl.shape[1:]))
                kl[name] = kl[name] + jnp.where(mask[..., None], sample_kl, 0).sum(0)
                if (classes := latent.q.get("class_probs")) is not None:
                    codes[name] = classes.mean(0).argmax(-1)
                elif latent.q.get("mean") is not None:
                    means[name] = latent.q["mean"].mean(0)
            tail = masked if has_tail else None
            return (log_sum, log_square, total, kl, aux), (means, codes, tail, jnp.asarray(evidence.weight_kl))

        shapes = jax.eval_shape(functools.partial(chunk_evidence, num=chunk), variables, rows, key, weights)
        zero = jnp.zeros(shapes.log_likelihood.shape[1:], shapes.log_likelihood.dtype)
        kl = {name: jnp.zeros(latent.kl.shape[1:], latent.kl.dtype) for name, latent in shapes.latents.items()}
        aux = {name: jnp.zeros(term.shape, term.dtype) for name, term in shapes.aux.items()}
        sizes = jnp.minimum(chunk, num_samples - chunk * jnp.arange(num_chunks))
        start = (zero - jnp.inf, zero - jnp.inf, zero, kl, aux)
        # On CPU, unroll by two so that independent chunks overlap on several cores. A chunk outside of the loop (the only
        # iteration, or the last of an odd number) would be fused with its surroundings and rounded differently. Unrolling
        # by four was 4 % faster, but rounded differently on one device than on several.
        on_cpu = jax.default_backend() == "cpu"
        unroll = 2 if on_cpu and num_chunks > 2 and num_chunks % 2 == 0 else 1
        keys = jax.random.split(fast_key(key, reused=on_cpu), num_chunks)
        sums, chunks = jax.lax.scan(add_chunk, start, (keys, sizes), unroll=unroll)
        (log_sum, log_square, total, kl, aux), (means, codes, log_weight, weight_kl) = sums, chunks
        log_weight = log_weight.reshape(-1, len(total)) if has_tail else None  # [num_chunks * chunk, B], -inf beyond K
        return {
            "log_sum": log_sum,
            "log_square": log_square,
            "total": total,
            "kl": jax.tree.map(lambda leaf: leaf / num_samples, kl),
            "means": jax.tree.map(lambda leaf: leaf.mean(0), means),
            "codes": jax.tree.map(lambda leaf: leaf[0], codes),
            "tail_shape": tail_shape(log_weight, num_samples) if has_tail else zero,
            "weight_kl": jnp.broadcast_to(weight_kl.mean(), zero.shape),
            "aux": jax.tree.map(lambda leaf: leaf / num_chunks, aux),
        }

    return batch_sums
