"""Statistics of latent codes, such as their sparsity and their mutual information with x."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Model, Query, Variables

_BATCH = 100  # examples in a batch; the aggregate posterior is evaluated at as many samples at a time


class Codes(NamedTuple):
    """One sample of every latent for each of N examples; divergences and log-densities are in nats."""

    values: dict[str, np.ndarray]  # layer -> [N, U]
    samples: dict[str, np.ndarray]  # layer -> [N, U, ...]  in the form that `Query.given` accepts
    kl: dict[str, np.ndarray]  # layer -> [N, U]
    log_q: np.ndarray  # [N]  log q(z | x), summed over layers
    log_likelihood: np.ndarray  # [N]  log p(x | z)
    mean: np.ndarray | None  # [N, ...]  of p(x | z); None if the entry does not report it


def sample_codes(
    model: Model,
    variables: Variables,
    rows: Mapping[str, Any],
    key: chex.PRNGKey,
    given: Mapping[str, np.ndarray] | None = None,
) -> Codes:
    """Sample one code for each of the rows `{"x": [N, ...]}`.

    Args:
      given: samples `{layer: [N, U, ...]}` that are scored under the rows instead of new ones.

    Raises:
      ValueError: there are no rows, or the entry ignores given samples.
    """
    if given and not model.takes_given:
        raise ValueError(
            "expected an entry that scores the samples in query.given under any row, got one that ignores them or gives noise"
        )
    num = len(rows["x"])
    if num == 0:
        raise ValueError("expected at least one example, got none")
    batches = []
    for start in range(0, num, _BATCH):
        index = np.arange(start, start + min(_BATCH, num)) % num  # the last batch is filled with the first rows
        batch = {name: np.asarray(leaf[index]) for name, leaf in rows.items()}
        batch_given = {name: np.asarray(leaf[index]) for name, leaf in (given or {}).items()}
        batches.append(_compiled_codes(model)(variables, batch, batch_given, jax.random.fold_in(key, start)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *jax.device_get(batches))


def mutual_information(
    model: Model, variables: Variables, rows: Mapping[str, Any], codes: Codes, key: chex.PRNGKey
) -> tuple[float, float]:
    """Mutual information `I(x; z)` under q(z | x) and the uniform distribution over N rows, in nats.

    `mean KL(q(z | x) || p(z)) - KL(q(z) || p(z)) = E[log q(z | x) - log q(z)]` with the aggregate posterior
    `q(z) = 1/N sum_n q(z | x_n)`, estimated by the mean over the codes. The expectation of the estimate is a lower bound of
    the information over the population, and the estimate is at most log N.

    Args:
      codes: one code for each of the first rows.

    Returns:
      The estimate and its Monte Carlo error.

    Raises:
      ValueError: the entry ignores given samples.

    Source: Hoffman & Johnson 2016, "ELBO surgery", section 2. The bound: Poole et al. 2019 (arXiv 1905.06922).
    """
    if not model.takes_given:
        raise ValueError(
            "expected an entry that scores the samples in query.given under any row, got one that ignores them or gives noise"
        )
    num = len(rows["x"])
    index = np.arange(-(-num // _BATCH) * _BATCH).reshape(-1, _BATCH)
    batches = {name: jnp.asarray(np.asarray(leaf)[index % num]) for name, leaf in rows.items()}
    log_sum = _compiled_log_sum(model)
    log_sums = []
    for start in range(0, len(codes.log_q), _BATCH):
        code_index = np.arange(start, start + _BATCH) % len(codes.log_q)
        samples = {name: leaf[code_index] for name, leaf in codes.samples.items()}
        log_sums.append(log_sum(variables, batches, jnp.asarray(index < num), samples, key))
    log_aggregate = np.concatenate(jax.device_get(log_sums))[: len(codes.log_q)] - math.log(num)
    terms = (codes.log_q - log_aggregate).astype(np.float64)
    return float(terms.mean()), float(terms.std() / math.sqrt(len(terms)))


def hoyer_sparsity(values: np.ndarray) -> float:
    """Mean sparsity of codes `[N, U]`: 0 if all units of a code are equally large, 1 if only one of them is not zero.

    `(sqrt U - |z|_1 / |z|_2) / (sqrt U - 1)`, after each unit was divided by its standard deviation. Normal codes have
    1 - sqrt(2 / pi) = 0.20, and slightly more if U is small. A code of zeros counts as 1. The result is NaN for a
    single unit.

    >>> hoyer_sparsity(np.array([[1.0, 0.0], [0.0, -1.0]]))
    1.0

    Source: Hoyer 2004, "Non-negative matrix factorization with sparseness constraints". Scaling of the units: Mathieu
    et al. 2019 (arXiv 1812.02833).
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


def flip_pixels(x: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Flip a share of the elements of each example of binary `x [N, ...]`, chosen at random by the seed.

    >>> flip_pixels(np.zeros((1, 4)), share=0.5, seed=0).sum()
    np.float64(2.0)

    Raises:
      ValueError: x is not binary.
    """
    if not is_binary(x):
        raise ValueError("expected x in {0, 1} to flip its elements, got other values")
    flat = np.array(x).reshape(len(x), -1)
    count = round(share * flat.shape[1])
    positions = np.random.default_rng(seed).random(flat.shape).argsort(1)[:, :count]
    np.put_along_axis(flat, positions, 1 - np.take_along_axis(flat, positions, 1), 1)
    return flat.reshape(x.shape)


def is_binary(x: np.ndarray) -> bool:
    """True if all values are 0 or 1.

    >>> is_binary(np.array([0.0, 1.0])), is_binary(np.array([0.5]))
    (True, False)
    """
    return bool(np.isin(x, (0, 1)).all())


def latent_traversal(
    model: Model, variables: Variables, rows: Mapping[str, Any], codes: Codes, layer: str, units: np.ndarray, steps: int
) -> np.ndarray | None:
    """Means of p(x | z), `[units * steps, ...]`, while one unit at a time moves through its aggregate posterior.

    The other units keep the code of the first row. The moving unit takes values of other examples, from the 2nd to the
    98th percentile. If codes lie on the unit sphere, the other units are rescaled to keep the code on the sphere.

    Returns:
      The means; None if the entry does not report them, or ignores given samples.
    """
    if not model.takes_given:
        return None
    values, samples = codes.values[layer], codes.samples
    if samples[layer].shape[: values.ndim] != values.shape:  # one-hot classes do not move continuously
        return None
    on_sphere = values.ndim == 2 and np.allclose(np.linalg.norm(values, axis=1), 1, atol=1e-4)
    ranks = np.linspace(0.02, 0.98, steps) * (len(values) - 1)
    moved = {name: np.repeat(leaf[:1], len(units) * steps, 0) for name, leaf in samples.items()}
    for i, unit in enumerate(units):
        position = np.unravel_index(unit, values.shape[1:])
        order = np.argsort(values[(slice(None), *position)], kind="stable")
        new_values = samples[layer][(order[ranks.round().astype(int)], *position)]
        block = moved[layer][i * steps : (i + 1) * steps]
        if on_sphere:
            new_rest, old_rest = 1 - np.square(new_values), 1 - np.square(block[:, unit])
            block *= np.sqrt(np.maximum(new_rest, 0) / np.maximum(old_rest, 1e-12))[:, None]
        block[(slice(None), *position)] = new_values
    first_row = {name: np.repeat(np.asarray(leaf[:1]), len(units) * steps, 0) for name, leaf in rows.items()}
    return sample_codes(model, variables, first_row, jax.random.key(0), moved).mean


@functools.lru_cache(maxsize=16)
def _compiled_codes(model: Model):
    """Compiled function of `(variables, rows, given, key)` that returns the `Codes` of a batch."""

    def run(variables, rows, given, key):
        given = {name: leaf[None] for name, leaf in given.items()}
        evidence, _ = model.evidence(variables, rows, key, Query(given=given))
        latents = evidence.latents
        codes = Codes(
            values={name: latent.value for name, latent in latents.items()},
            samples={name: latent.sample for name, latent in latents.items()},
            kl={name: latent.kl for name, latent in latents.items()},
            log_q=evidence.log_q,
            log_likelihood=evidence.log_likelihood,
            mean=evidence.parameters.get("mean"),
        )
        return jax.tree.map(lambda leaf: leaf[0], codes)

    return jax.jit(run)


@functools.lru_cache(maxsize=16)
def _compiled_log_sum(model: Model):
    """Compiled function that returns `log sum_n q(z_k | x_n)`, `[k]`. A loop scores all samples under a batch of rows."""

    def run(variables, batches, is_row, samples, key):
        size = is_row.shape[1]

        def log_sum(batch):
            rows, mask = batch
            given = {name: jnp.broadcast_to(z[:, None], (len(z), size, *z.shape[1:])) for name, z in samples.items()}
            evidence, _ = model.evidence(variables, rows, key, Query(num_samples=size, given=given))
            return jax.nn.logsumexp(jnp.where(mask[None], evidence.log_q, -jnp.inf), 1)  # [k]

        return jax.nn.logsumexp(jax.lax.map(log_sum, (batches, is_row)), 0)

    return jax.jit(run)
