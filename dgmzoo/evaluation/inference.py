"""`sample`: sample from a trained model; `encode`: infer the latents of data; `reconstruct`: reconstruct the data."""

import functools
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Draw, Model, Query, Variables

_BATCH = 500  # examples in a batch


def sample(
    model: Model, variables: Variables, key: chex.PRNGKey, num: int, context: Mapping[str, Any] | None = None
) -> Draw:
    """Sample `num` examples from the model.

    Args:
      context: inputs of a conditional model, such as `{"label": [num]}`.

    Raises:
      ValueError: the entry has no `generate`, or `num` is below 1.
    """
    if model.generate is None:
        raise ValueError("expected an entry that generates, got one without `generate`")
    if num < 1:
        raise ValueError(f"expected to draw at least 1 example, got {num}")
    size = min(num, _BATCH)
    batches = []
    for i, batch_key in enumerate(jax.random.split(key, -(-num // size))):
        index = (np.arange(size) + i * size) % num  # the last batch is filled with the first rows
        batch_context = context and {name: np.asarray(leaf)[index] for name, leaf in context.items()}
        batches.append(jax.device_get(_compiled_generate(model, size)(variables, batch_key, batch_context)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *batches)


def encode(model: Model, variables: Variables, rows: Mapping[str, Any], key: chex.PRNGKey) -> dict[str, dict]:
    """Layer -> parameters of q(z | x) and its mean, `[N, ...]`.

    A layer that is inferred from another layer's sample has the parameters given one such sample.
    """
    return encode_and_reconstruct(model, variables, rows, key)[0]


def reconstruct(model: Model, variables: Variables, rows: Mapping[str, Any], key: chex.PRNGKey) -> np.ndarray | None:
    """Mean of p(x | z), `[N, ...]`, at one sample of q(z | x); None if the entry does not report the mean."""
    return encode_and_reconstruct(model, variables, rows, key)[1]


def encode_and_reconstruct(
    model: Model, variables: Variables, rows: Mapping[str, Any], key: chex.PRNGKey
) -> tuple[dict[str, dict], np.ndarray | None]:
    """The results of `encode` and `reconstruct` from the same samples.

    Raises:
      ValueError: there are no rows.
    """
    num = len(rows["x"])
    if num == 0:
        raise ValueError("expected at least one example, got none")
    batches = []
    for i, start in enumerate(range(0, num, _BATCH)):
        batch = {name: jnp.asarray(leaf[start : start + _BATCH]) for name, leaf in rows.items()}
        batches.append(jax.device_get(_compiled_evidence(model)(variables, batch, jax.random.fold_in(key, i))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


@functools.lru_cache(maxsize=16)
def _compiled_evidence(model: Model):
    def run(variables, rows, key):
        evidence, _ = model.evidence(variables, rows, key, Query())
        codes = {name: latent.q for name, latent in evidence.latents.items()}
        return jax.tree.map(lambda leaf: leaf[0], (codes, evidence.parameters.get("mean")))

    return jax.jit(run)


@functools.lru_cache(maxsize=16)
def _compiled_generate(model: Model, num: int):
    return jax.jit(lambda variables, key, context: model.generate(variables, key, num, context))
