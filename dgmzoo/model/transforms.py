"""Models made of models: with a user's further loss terms, and with less memory for p(x | z)."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dgmzoo.model.contract import ExtraLoss, Model, Query

_QUERY = Query()  # what a model is asked by default


def with_extra_losses(model: Model, extra_losses: Mapping[str, ExtraLoss]) -> Model:
    """The model whose training evidence holds a user's further loss terms `{name: f(evidence, batch) -> [B]}`.

    Raises (when traced):
      ValueError: a term is not one number per example, or the entry has a term of that name.
    """
    if not extra_losses:
        return model

    def evidence(variables, batch, key, query=_QUERY):
        found, updates = model.evidence(variables, batch, key, query)
        if not query.train:
            return found, updates
        aux, expected = dict(found.aux), found.log_likelihood.shape[1:]
        for name, term in extra_losses.items():
            value = term(found, batch)
            if name in aux:
                raise ValueError(f"expected a name for the term {name!r} that the entry does not use; choose another")
            if jnp.shape(value) != expected:
                raise ValueError(
                    f"expected the term {name!r} to give one number per example, shape {expected}, got shape "
                    f"{jnp.shape(value)}; average over samples and sum over units"
                )
            aux[name] = value.astype(found.log_likelihood.dtype)
        return found._replace(aux=aux), updates

    return model._replace(evidence=evidence)


def rematerialized(model: Model) -> Model:
    """The model that keeps the forward pass of p(x | z) for a few of the K samples at a time, in training.

    Samples are drawn once; then the likelihood is computed for as many of them at a time as the largest divisor of K up to
    sqrt(K), and again on the way back. The numbers are the same where p(x | z) has no noise of its own but its weights'
    (dropout would repeat its mask). Random weights and a prime K are left alone: a single sample has other noise.
    """

    def evidence(variables, batch, key, query=_QUERY):
        found, updates = model.evidence(variables, batch, key, query)
        num = query.num_samples
        part = max(size for size in range(1, math.isqrt(num) + 1) if num % size == 0)
        alone = part == 1 and model.bound in ("predictive", None)  # may have weights of its own for each example
        if not query.train or not found.latents or num == 1 or alone:
            return found, updates

        @jax.checkpoint
        def of_part(given):
            asked = dataclasses.replace(query, num_samples=part, given=given)
            return model.evidence(variables, batch, key, asked)[0].log_likelihood

        samples = {name: latent.sample for name, latent in found.latents.items()}
        parts = jax.tree.map(lambda sample: sample.reshape(-1, part, *sample.shape[1:]), samples)
        return found._replace(log_likelihood=jax.lax.map(of_part, parts).reshape(num, -1)), updates

    return model._replace(evidence=evidence)
