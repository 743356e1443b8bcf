"""`impute`: the mean of hidden elements given the observed ones, by self-normalised importance sampling."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.evaluation.log_likelihood import examples_per_batch
from dgmzoo.model.contract import Array, Model, Query, Variables

_CHUNK = 50  # samples at once


class Imputed(NamedTuple):
    """Rows with their hidden elements filled in."""

    x: np.ndarray
    """`[N, ...]`: observed elements as they were, hidden ones by their mean given the observed ones."""
    effective_samples: np.ndarray
    """`[N]`: effective number of importance samples of each row; where it is small the mean is not to be trusted."""


def impute(
    model: Model, variables: Variables, rows: Mapping[str, np.ndarray], key: chex.PRNGKey, num_samples: int = 1000
) -> Imputed:
    """E[x_hidden | x_observed] of rows `{"x": [N, ...], "mask": [N, ...]}`, mask True where x is observed.

    With z_k ~ q(z | x_observed) and weights w_k = p(x_observed, z_k) / q(z_k | x_observed), the mean is
    sum_k w_k E[x_hidden | z_k] / sum_k w_k. One sample of q alone, as in a reconstruction, is the mean under the
    approximate posterior, which has not seen what the weights know.

    Args:
      variables: as `prepared.prepare` returns them.
      num_samples: importance samples of a row (K).

    Raises:
      ValueError: the entry has no latents, does not report the mean of p(x | z), or `num_samples` is below 1.

    Source: Mattei & Frellsen 2019, "MIWAE" (arXiv 1812.02633), equation 15.
    """
    if num_samples < 1:
        raise ValueError(f"expected num_samples of at least 1, got {num_samples}")
    first = {name: leaf[:1] for name, leaf in rows.items()}
    evidence = jax.eval_shape(lambda: model.evidence(variables, first, key, Query()))[0]
    if not evidence.latents or evidence.parameters.get("mean") is None:
        raise ValueError(
            "expected an entry with latents that reports the mean of p(x | z), to impute by importance sampling, got "
            f"latents {', '.join(evidence.latents) or 'none'} and parameters {', '.join(evidence.parameters) or 'none'}"
        )
    num, size = len(rows["x"]), min(len(rows["x"]), examples_per_batch(num_samples))
    compiled, parts = _compiled(model, num_samples), []
    for i, start in enumerate(range(0, num, size)):
        index = np.arange(start, start + size) % num  # the last batch is filled with the first rows
        batch = {name: jnp.asarray(leaf[index]) for name, leaf in rows.items()}
        parts.append(jax.device_get(compiled(variables, batch, jax.random.fold_in(key, i))))
    mean, effective = (np.concatenate(leaves)[:num] for leaves in zip(*parts, strict=True))
    return Imputed(np.where(rows["mask"].astype(bool), rows["x"], mean.reshape(rows["x"].shape)), effective)


@functools.lru_cache(maxsize=16)
def _compiled(model: Model, num_samples: int) -> Any:
    """Compile `(variables, rows, key) -> mean [B, ...], effective samples [B]`."""
    chunk = min(num_samples, _CHUNK)
    num_chunks = -(-num_samples // chunk)

    def run(variables: Variables, rows: Mapping[str, Array], key: chex.PRNGKey) -> tuple[Array, Array]:
        def add_chunk(sums, inputs):
            largest, total, square, weighted = sums
            chunk_key, size = inputs
            with jax.default_matmul_precision("highest"):
                evidence, _ = model.evidence(variables, rows, chunk_key, Query(num_samples=chunk))
            log_weight = jnp.where((jnp.arange(chunk) < size)[:, None], evidence.log_weight, -jnp.inf)  # [k, B]
            new_largest = jnp.maximum(largest, log_weight.max(0))
            weight, shrink = jnp.exp(log_weight - new_largest[None]), jnp.exp(largest - new_largest)
            mean = evidence.parameters["mean"]
            spread = weight.reshape(*weight.shape, *(1,) * (mean.ndim - 2))
            weighted = weighted * shrink.reshape(-1, *(1,) * (mean.ndim - 2)) + (spread * mean).sum(0)
            return (
                new_largest,
                total * shrink + weight.sum(0),
                square * shrink**2 + (weight**2).sum(0),
                weighted,
            ), None

        def shapes():
            evidence, _ = model.evidence(variables, rows, key, Query(num_samples=chunk))
            return evidence.log_weight[0], evidence.parameters["mean"][0]

        zero, mean = (jnp.zeros(leaf.shape, leaf.dtype) for leaf in jax.eval_shape(shapes))
        sizes = jnp.minimum(chunk, num_samples - chunk * jnp.arange(num_chunks))
        start = (jnp.full_like(zero, -jnp.inf), zero, zero, mean)
        sums, _ = jax.lax.scan(add_chunk, start, (jax.random.split(key, num_chunks), sizes))
        _, total, square, weighted = sums
        return weighted / total.reshape(-1, *(1,) * (mean.ndim - 1)), total**2 / square

    return jax.jit(run)
