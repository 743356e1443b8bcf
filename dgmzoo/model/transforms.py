"""`with_extra_losses`: add loss terms to a model; `rematerialized`: recompute p(x | z) in order to save memory."""

import dataclasses
import inspect
import math
import zlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from dgmzoo.model.contract import Array, ExtraLoss, LossContext, Model, Query

_DEFAULT_QUERY = Query()


def with_extra_losses(
    model: Model,
    extra_losses: Mapping[str, ExtraLoss],
    num_data: int = 1,
    gather: Callable[[Array], Array] = lambda rows: rows,
    at_step: int | None = None,
) -> Model:
    """A model whose evidence in training holds extra loss terms `{name: f(evidence, batch) -> [B]}` in `aux`.

    A function with a third argument, `f(evidence, batch, context)`, is given a `LossContext`.

    Args:
      num_data: number of training rows.
      gather: function of an array `[B, ...]` that returns the rows of all devices.
      at_step: also outside of training, where `step` in the context is this one; None: in training alone.

    Raises:
      ValueError: when traced, a term is not one number per example, or the entry has a term of that name.

    >>> from dgmzoo.model.contract import Evidence
    >>> base = Model(None, lambda *arguments: (Evidence(jnp.zeros((1, 2))), {}), None, None, "exact")
    >>> model = with_extra_losses(base, {"mean": lambda evidence, batch: batch["x"].mean(-1)})
    >>> batch = {"x": jnp.array([[1.0, 3.0], [5.0, 7.0]])}
    >>> evidence, _ = model.evidence({}, batch, jax.random.key(0), Query(train=True))
    >>> evidence.aux["mean"].tolist()
    [2.0, 6.0]
    """
    if not extra_losses:
        return model

    def evidence(variables, batch, key, query=_DEFAULT_QUERY):
        evidence, updates = model.evidence(variables, batch, key, query)
        if not query.train and at_step is None:
            return evidence, updates
        query = query if query.train else dataclasses.replace(query, step=at_step)
        aux, expected = dict(evidence.aux), evidence.log_likelihood.shape[1:]
        for name, extra_loss in extra_losses.items():
            value = extra_loss(evidence, batch, *_context(name, extra_loss, key, query, num_data, gather))
            if name in aux:
                raise ValueError(f"expected a name for the term {name!r} that the entry does not use; choose another")
            if jnp.shape(value) != expected:
                raise ValueError(
                    f"expected the term {name!r} to give one number per example, shape {expected}, got shape "
                    f"{jnp.shape(value)}; average over samples and sum over units"
                )
            aux[name] = value.astype(evidence.log_likelihood.dtype)
        return evidence._replace(aux=aux), updates

    return model._replace(evidence=evidence)


def _context(name, extra_loss, key, query, num_data, gather) -> tuple[LossContext, ...]:
    """The context as the third argument of an extra loss; empty for a function of two arguments."""
    if not takes_context(extra_loss):
        return ()
    own_key = jax.random.fold_in(key, zlib.crc32(f"extra_loss/{name}".encode()))
    return (LossContext(own_key, query.step, num_data, gather),)


def takes_context(extra_loss: ExtraLoss) -> bool:
    """True if a function has a third positional argument that must be given, or that is named `context`.

    >>> takes_context(lambda evidence, batch, context: 0), takes_context(lambda evidence, batch, weight=0.1: 0)
    (True, False)
    """
    try:
        parameters = list(inspect.signature(extra_loss).parameters.values())
    except (TypeError, ValueError):  # built-in functions have no signature
        return False
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    third = positional[2] if len(positional) > 2 else None
    return third is not None and (third.name == "context" or third.default is third.empty)


def rematerialized(model: Model) -> Model:
    """A model that computes p(x | z) in training for a few of the K samples at a time, and again in the backward pass.

    The latents are sampled once. The likelihood is then computed for chunks of the K samples, whose size is the largest
    divisor of K up to sqrt(K), so only one chunk of activations is kept in memory. The numbers are the same unless
    p(x | z) has noise of its own other than that of its weights (dropout would repeat its mask). Random weights with a
    prime K are left as they are, because a single sample uses other noise.

    >>> model = Model(None, lambda *arguments: (None, {}), None, None, "exact")
    >>> rematerialized(model).bound
    'exact'
    """

    def evidence(variables, batch, key, query=_DEFAULT_QUERY):
        evidence, updates = model.evidence(variables, batch, key, query)
        num = query.num_samples
        chunk = max(size for size in range(1, math.isqrt(num) + 1) if num % size == 0)
        # A query for one sample may give each example weights of its own.
        changes_noise = chunk == 1 and model.bound in ("predictive", None)
        if not query.train or not evidence.latents or num == 1 or changes_noise:
            return evidence, updates

        @jax.checkpoint
        def chunk_log_likelihood(given):
            chunk_query = dataclasses.replace(query, num_samples=chunk, given=given)
            return model.evidence(variables, batch, key, chunk_query)[0].log_likelihood

        samples = {name: latent.sample for name, latent in evidence.latents.items()}
        chunks = jax.tree.map(lambda sample: sample.reshape(-1, chunk, *sample.shape[1:]), samples)
        return evidence._replace(log_likelihood=jax.lax.map(chunk_log_likelihood, chunks).reshape(num, -1)), updates

    return model._replace(evidence=evidence)
