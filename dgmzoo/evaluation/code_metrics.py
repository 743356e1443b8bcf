"""What a model's codes are worth: information, sparsity, robustness, and what single units do."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Model, Query, Variables

_BATCH = 100  # examples worked on at once; the same number of samples is held against them


class Codes(NamedTuple):
    """One draw of every latent for each of N examples; nats."""

    values: dict[str, np.ndarray]  # layer -> [N, U]
    samples: dict[str, np.ndarray]  # layer -> [N, U, ...]  as they go back through `Query.given`
    kl: dict[str, np.ndarray]  # layer -> [N, U]
    log_q: np.ndarray  # [N]  log q(z | x), all layers
    log_likelihood: np.ndarray  # [N]  log p(x | z)
    mean: np.ndarray | None  # [N, ...]  of p(x | z), where the entry tells it


def read(
    model: Model,
    variables: Variables,
    rows: Mapping[str, Any],
    key: chex.PRNGKey,
    given: Mapping[str, np.ndarray] | None = None,
) -> Codes:
    """Draw a code for each of the rows `{"x": [N, ...]}`, or score the `given` samples `{layer: [N, U, ...]}`."""
    num = len(rows["x"])
    if num == 0:
        raise ValueError("expected at least one example, got none")
    found = []
    for start in range(0, num, _BATCH):
        index = np.arange(start, start + min(_BATCH, num)) % num  # the last batch is filled up from the start
        part = {name: np.asarray(leaf[index]) for name, leaf in rows.items()}
        fixed = {name: np.asarray(leaf[index]) for name, leaf in (given or {}).items()}
        found.append(_read(model)(variables, part, fixed, jax.random.fold_in(key, start)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *jax.device_get(found))


def mutual_information(
    model: Model, variables: Variables, rows: Mapping[str, Any], codes: Codes, key: chex.PRNGKey
) -> tuple[float, float]:
    """`I(x; z)` under q(z | x) and the uniform distribution over N rows, in nats, and its Monte Carlo error.

    `mean KL(q(z | x) || p(z)) - KL(q(z) || p(z)) = E[log q(z | x) - log q(z)]` with the aggregate posterior
    `q(z) = 1/N sum_n q(z | x_n)`: the mean over the codes, one each for the first rows. Over the population the
    information is at least this much (its expectation), and what is seen is at most log N. Hoffman & Johnson 2016
    ("ELBO surgery"), section 2; the bound: Poole et al. 2019 (arXiv 1905.06922).

    Args:
      codes: of the first of the rows.
    """
    num = len(rows["x"])
    index = np.arange(-(-num // _BATCH) * _BATCH).reshape(-1, _BATCH)
    batches = {name: jnp.asarray(np.asarray(leaf)[index % num]) for name, leaf in rows.items()}
    score = _aggregate(model)
    found = []
    for start in range(0, len(codes.log_q), _BATCH):
        wanted = np.arange(start, start + _BATCH) % len(codes.log_q)
        samples = {name: leaf[wanted] for name, leaf in codes.samples.items()}
        found.append(score(variables, batches, jnp.asarray(index < num), samples, key))
    log_aggregate = np.concatenate(jax.device_get(found))[: len(codes.log_q)] - math.log(num)
    terms = (codes.log_q - log_aggregate).astype(np.float64)
    return float(terms.mean()), float(terms.std() / math.sqrt(len(terms)))


def hoyer(values: np.ndarray) -> float:
    """Sparsity of codes `[N, U]`: 0 where all units of a code are equally large, 1 where one alone is not zero.

    `(sqrt U - |z|_1 / |z|_2) / (sqrt U - 1)`, the mean over codes, after each unit was divided by its standard deviation
    (Hoyer 2004; so Mathieu et al. 2019, arXiv 1812.02833). Normal codes have 1 - sqrt(2 / pi) = 0.20 and a
    little more where U is small. A code of zeros alone counts as 1; NaN for a single unit.
    """
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    root = math.sqrt(values.shape[1])
    if root == 1:
        return math.nan
    scale = values.std(0)
    scaled = np.abs(values) / np.where(scale > 0, scale, 1)
    norm = np.sqrt(np.square(scaled).sum(1))
    ratio = np.where(norm > 0, scaled.sum(1) / np.where(norm > 0, norm, 1), 1)
    return float(((root - ratio) / (root - 1)).mean())


def flipped(x: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Binary `x [N, ...]` with that share of each example's elements, drawn by the seed, turned over.

    Raises:
      ValueError: x is not binary.
    """
    if not is_binary(x):
        raise ValueError("expected x in {0, 1} to flip its elements, got other values")
    flat = np.array(x).reshape(len(x), -1)
    count = round(share * flat.shape[1])
    places = np.random.default_rng(seed).random(flat.shape).argsort(1)[:, :count]
    np.put_along_axis(flat, places, 1 - np.take_along_axis(flat, places, 1), 1)
    return flat.reshape(x.shape)


def is_binary(x: np.ndarray) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(x, (0, 1)).all())


def traverse(
    model: Model, variables: Variables, rows: Mapping[str, Any], codes: Codes, layer: str, units: np.ndarray, steps: int
) -> np.ndarray | None:
    """Means of p(x | z), `[units * steps, ...]`, as one unit after the other takes the values it has on other examples.

    The code is that of the first row; a unit goes through its aggregate posterior from the 2nd to the 98th percentile.
    Where codes lie on the unit sphere, the other units shrink or grow together so that it stays there.
    """
    values, samples = codes.values[layer], codes.samples
    on_sphere = values.ndim == 2 and np.allclose(np.linalg.norm(values, axis=1), 1, atol=1e-4)
    ranks = np.linspace(0.02, 0.98, steps) * (len(values) - 1)
    moved = {name: np.repeat(leaf[:1], len(units) * steps, 0) for name, leaf in samples.items()}
    for i, unit in enumerate(units):
        place = np.unravel_index(unit, values.shape[1:])
        order = np.argsort(values[(slice(None), *place)], kind="stable")
        taken = samples[layer][(order[ranks.round().astype(int)], *place)]
        block = moved[layer][i * steps : (i + 1) * steps]
        if on_sphere:
            left, had = 1 - np.square(taken), 1 - np.square(block[:, unit])
            block *= np.sqrt(np.maximum(left, 0) / np.maximum(had, 1e-12))[:, None]
        block[(slice(None), *place)] = taken
    first = {name: np.repeat(np.asarray(leaf[:1]), len(units) * steps, 0) for name, leaf in rows.items()}
    return read(model, variables, first, jax.random.key(0), moved).mean


@functools.lru_cache(maxsize=16)
def _read(model: Model):
    def run(variables, rows, given, key):
        given = {name: leaf[None] for name, leaf in given.items()}
        evidence, _ = model.evidence(variables, rows, key, Query(given=given))
        latents = evidence.latents
        found = Codes(
            values={name: latent.value for name, latent in latents.items()},
            samples={name: latent.sample for name, latent in latents.items()},
            kl={name: latent.kl for name, latent in latents.items()},
            log_q=evidence.log_q,
            log_likelihood=evidence.log_likelihood,
            mean=evidence.parameters.get("mean"),
        )
        return jax.tree.map(lambda leaf: leaf[0], found)

    return jax.jit(run)


@functools.lru_cache(maxsize=16)
def _aggregate(model: Model):
    """A program for `log sum_n q(z_k | x_n)`, `[k]`: a batch of rows at a time, each under all the samples."""

    def run(variables, batches, counts, samples, key):
        size = counts.shape[1]

        def under(batch):
            rows, counted = batch
            given = {name: jnp.broadcast_to(z[:, None], (len(z), size, *z.shape[1:])) for name, z in samples.items()}
            evidence, _ = model.evidence(variables, rows, key, Query(num_samples=size, given=given))
            return jax.nn.logsumexp(jnp.where(counted[None], evidence.log_q, -jnp.inf), 1)  # [k]

        return jax.nn.logsumexp(jax.lax.map(under, (batches, counts)), 0)

    return jax.jit(run)
