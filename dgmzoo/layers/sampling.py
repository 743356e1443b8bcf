"""`ancestral`: sample elements one after another; `over_time`: scan a model with latents over time steps."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core.scope import DenyList

from dgmzoo.model.contract import Latent, Query

_SHARED = {
    "variable_broadcast": DenyList("intermediates"),
    "variable_axes": {"intermediates": 0},
    "split_rngs": {"params": False, "sample": True, "dropout": True, "weights": False},
}


def ancestral(
    module: nn.Module, step: Callable[[nn.Module, Any, jax.Array], tuple[Any, Any]], start: Any, order: jax.Array | int
) -> tuple[Any, Any]:
    """Sample elements one after another, each given the elements before it.

    All steps share their parameters, and each has random numbers of its own. The carry may hold caches, so that a step
    costs no more than one element (the keys and values of an attention, the rows of a causal convolution).

    Args:
      module: the Linen module whose submodules `step` calls.
      step: `(module, carry, index) -> (carry, output)`.
      start: the first carry.
      order: indices `[T]` in the order of sampling, or T for 0, 1, ..., T - 1.

    Returns:
      The last carry, and the outputs of all steps, stacked on a new first axis.

    >>> class Walk(nn.Module):
    ...     @nn.compact
    ...     def __call__(self):
    ...         def step(module, x, index):
    ...             x = x + jax.random.normal(module.make_rng("sample"))
    ...             return x, x
    ...         return ancestral(self, step, jnp.zeros(()), 5)[1]
    >>> Walk().apply({}, rngs={"sample": jax.random.key(0)}).shape
    (5,)
    """
    order = jnp.arange(order) if isinstance(order, int) else order
    return nn.scan(step, **_SHARED)(module, start, order)


class OverTime(NamedTuple):
    """The evidence of a scan over T steps."""

    log_likelihood: jax.Array  # [K, B]
    latents: dict[str, Latent]  # sample and value [K, B, T, U], kl [K or 1, B, T * U], q [K or 1, B, T, ...]
    carry: Any  # the last carry
    outputs: Any  # outputs of all steps, [T, ...]


def over_time(
    module: nn.Module,
    step: Callable[[nn.Module, Any, Any, Query], tuple[Any, Latent, jax.Array, Any]],
    start: Any,
    inputs: Any,
    query: Query,
    name: str,
    length: jax.Array | None = None,
) -> OverTime:
    """Scan a model with one latent a step: parameters are shared, noise is split, and `query.given` is given in steps.

    With `query.resample` and K > 1 the K samples are particles: after every step but the last, particles are resampled in
    proportion to their weights. The log-mean-exp of `log_weight` over K is then the bound of FIVO, if `step` computes all
    of the likelihood and the evidence takes `log_likelihood` from here. The ancestors are a latent `<name>_ancestors`,
    which `query.given` takes back. Resampling has no gradient, so the gradient is biased.

    Args:
      module: the Linen module whose submodules `step` calls.
      step: `(module, carry, input, query) -> (carry, latent, log_likelihood [K, B], output)`; the query holds the given
        sample of this step, `[K, B, U]`. Leaves of the carry have leading axes `[K, B]`.
      start: the first carry.
      inputs: arrays with a leading axis of T steps.
      name: of the latent.
      length: `[B]`, number of steps of each example; steps beyond it count as nothing.

    Source: Maddison et al. 2017, "Filtering variational objectives" (arXiv 1705.09279), algorithm 1.
    """
    num_steps, num = jax.tree.leaves(inputs)[0].shape[0], query.num_samples
    resamples = query.resample and num > 1
    given = {key: jnp.moveaxis(query.given[key], 2, 0) for key in (name, f"{name}_ancestors") if key in query.given}
    noise = {name: jnp.moveaxis(query.noise[name], 2, 0)} if name in query.noise else {}

    def body(module, carry, xs):
        inner, log_p, log_q, weight = carry
        i, inputs, given, noise = xs
        own = {name: given[name]} if name in given else {}
        own_query = dataclasses.replace(query, given=own, noise=noise, resample=False)
        is_step = jnp.ones((1, 1), bool) if length is None else (i < length)[None]  # [1, B]
        if length is not None:  # padding may be NaN, which would reach the gradient
            inputs = jax.tree.map(lambda leaf: _masked(leaf[None], is_step)[0], inputs)
        inner, latent, log_likelihood, output = step(module, inner, inputs, own_query)
        masked = jax.tree.map(lambda leaf: _masked(leaf, is_step), latent)
        latent = masked._replace(sample=given[name]) if name in given else masked
        log_p, log_q = log_p + latent.log_p, log_q + latent.log_q
        weight = weight + jnp.where(is_step, log_likelihood, 0) + latent.log_p - latent.log_q
        ancestors = jnp.broadcast_to(jnp.arange(num)[:, None], weight.shape)
        if resamples:
            last = num_steps - 1 if length is None else (length - 1)[None]
            goes_on = jnp.broadcast_to(i < last, is_step.shape)  # [1, B]  nothing is resampled after the last step
            drawn = _multinomial(module.make_rng("sample"), weight)
            drawn = given.get(f"{name}_ancestors", drawn).astype(jnp.int32)
            ancestors = jnp.where(goes_on, drawn, ancestors)
            inner, log_p, log_q = jax.tree.map(lambda leaf: _take(leaf, ancestors), (inner, log_p, log_q))
            mean = jax.nn.logsumexp(weight, 0, keepdims=True) - math.log(num)
            weight = jnp.where(goes_on, mean, weight)
        return (inner, log_p, log_q, weight), (latent, ancestors, output)

    zero = jnp.zeros((num, _num_examples(inputs)))
    xs = (jnp.arange(num_steps), inputs, given, noise)
    (carry, log_p, log_q, weight), (steps, ancestors, outputs) = nn.scan(body, **_SHARED)(
        module, (start, zero, zero, zero), xs
    )
    per_step = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 2), steps)  # [K, B, T, ...]
    kl = per_step.kl.reshape(*per_step.kl.shape[:2], -1)
    latents = {name: Latent(per_step.value, per_step.sample, log_p, log_q, kl, per_step.q)}
    if resamples:
        sample = jnp.moveaxis(ancestors, 0, 2).astype(log_p.dtype)
        nothing = jnp.zeros_like(log_p)
        latents[f"{name}_ancestors"] = Latent(sample, sample, nothing, nothing, nothing[..., None], {})
    return OverTime(weight - log_p + log_q, latents, carry, outputs)


def _num_examples(inputs: Any) -> int:
    return jax.tree.leaves(inputs)[0].shape[1]


def _masked(leaf: jax.Array, is_step: jax.Array) -> jax.Array:
    """`[K or 1, B, ...]` with zeros where the example has no such step."""
    shape = is_step.shape + (1,) * (leaf.ndim - 2)
    return jnp.where(is_step.reshape(shape), leaf, jnp.zeros((), leaf.dtype))


def _multinomial(key: chex.PRNGKey, log_weight: jax.Array) -> jax.Array:
    """K indices for each example, drawn in proportion to the weights `[K, B]`, by the inverse of their cumulative sum."""
    cumulative = jnp.cumsum(jax.nn.softmax(jax.lax.stop_gradient(log_weight), 0), 0)
    uniform = jax.random.uniform(key, log_weight.shape) * cumulative[-1:]
    drawn = jax.vmap(lambda c, u: jnp.searchsorted(c, u, side="right"), 1, 1)(cumulative, uniform)
    return jnp.minimum(drawn, len(log_weight) - 1)


def _take(leaf: jax.Array, ancestors: jax.Array) -> jax.Array:
    """Rows `[K, B, ...]` of the ancestors `[K, B]`."""
    index = ancestors.reshape(ancestors.shape + (1,) * (leaf.ndim - 2))
    return jnp.take_along_axis(leaf, index, 0)


def from_rows(module: nn.Module, name: str, num: int, query: Query | None) -> jax.Array:
    """Parameters `[num, ...]` that start at training rows (the pseudo-inputs of a VampPrior).

    Args:
      name: of the parameter.
      query: of the evidence, whose `rows` initialize the parameter.

    Raises:
      ValueError: there are fewer than `num` rows, when the parameter is initialized.
    """

    if module.has_variable("params", name):  # `param` would call `start` again, to compare shapes
        return module.get_variable("params", name)

    def start(key):
        rows = {} if query is None or query.rows is None else query.rows
        if (count := len(rows.get("x", ()))) < num:
            raise ValueError(
                f"expected at least {num} training rows for the parameters {name!r}, got {count}; use fewer"
            )
        index = jnp.linspace(0, count - 1, num).astype(jnp.int32)
        x = rows["x"][index].astype(jnp.float32)
        return jnp.where(rows["mask"][index], x, jnp.zeros(())) if "mask" in rows else x

    return module.param(name, start)
