"""Asking a trained model: samples, codes, reconstructions."""

import functools
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Draw, Model, Query, Variables

_BATCH = 500  # examples worked on at once


def sample(
    model: Model, variables: Variables, key: chex.PRNGKey, num: int, context: Mapping[str, Any] | None = None
) -> Draw:
    """`num` draws from the model, on the host.

    Args:
      context: what a conditional model is given, `{"label": [num], ...}`.

    Raises:
      ValueError: the entry does not generate.
    """
    if model.generate is None:
        raise ValueError("expected an entry that generates, got one without `generate`")
    if num < 1:
        raise ValueError(f"expected to draw at least 1 example, got {num}")
    size = min(num, _BATCH)
    keys = jax.random.split(key, -(-num // size))
    draws = []
    for i, each in enumerate(keys):
        rows = (np.arange(size) + i * size) % num  # the last part is filled up from the start
        given = context and {name: np.asarray(leaf)[rows] for name, leaf in context.items()}
        draws.append(jax.device_get(_generate(model, size)(variables, each, given)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *draws)


def encode(model: Model, variables: Variables, rows: Mapping[str, Any], key: chex.PRNGKey) -> dict[str, dict]:
    """Layer -> the parameters of q and its mean, `[N, ...]`; one sample's where a layer sees another's samples."""
    return encode_and_reconstruct(model, variables, rows, key)[0]


def reconstruct(model: Model, variables: Variables, rows: Mapping[str, Any], key: chex.PRNGKey) -> np.ndarray | None:
    """The mean of p(x | z), `[N, ...]`, at one sample of q(z | x); None where the entry does not give it."""
    return encode_and_reconstruct(model, variables, rows, key)[1]


def encode_and_reconstruct(
    model: Model, variables: Variables, rows: Mapping[str, Any], key: chex.PRNGKey
) -> tuple[dict[str, dict], np.ndarray | None]:
    """Both, of the same samples.

    Raises:
      ValueError: there are no rows.
    """
    num = len(rows["x"])
    if num == 0:
        raise ValueError("expected at least one example, got none")
    found = []
    for i, start in enumerate(range(0, num, _BATCH)):
        part = {name: jnp.asarray(leaf[start : start + _BATCH]) for name, leaf in rows.items()}
        found.append(jax.device_get(_evidence(model)(variables, part, jax.random.fold_in(key, i))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


@functools.lru_cache(maxsize=16)
def _evidence(model: Model):
    def run(variables, rows, key):
        evidence, _ = model.evidence(variables, rows, key, Query())
        codes = {name: latent.q for name, latent in evidence.latents.items()}
        return jax.tree.map(lambda leaf: leaf[0], (codes, evidence.parameters.get("mean")))

    return jax.jit(run)


@functools.lru_cache(maxsize=16)
def _generate(model: Model, num: int):
    return jax.jit(lambda variables, key, context: model.generate(variables, key, num, context))
