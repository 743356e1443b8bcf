"""`check_pair`: refuse a posterior and a prior whose KL is infinite; `has_atom`: tell if a family has a point mass."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution, constraints

from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.one_hot import OneHot
from dgmzoo.reparam.ops import relaxed_promotion


@functools.cache
def check_pair(posterior: type[Distribution], prior: type[Distribution]) -> None:
    """Refuse a pair of families that has no unconstrained parameters or an infinite KL(posterior || prior).

    >>> import numpyro.distributions as dist
    >>> check_pair(dist.Normal, dist.Laplace)
    >>> check_pair(dist.Cauchy, dist.Laplace)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: expected a prior with tails as heavy as those of the posterior Cauchy, got Laplace...

    Raises:
      ValueError: with the reason.
    """
    for family in (posterior, prior):
        families.check_class(family)
        unconstrained = jax.ShapeDtypeStruct((1, 1, 1, families.num_unconstrained(family)), jnp.float32)
        try:
            outputs = jax.eval_shape(functools.partial(_zeros_and_sample, family), unconstrained)
        except Exception as error:
            raise ValueError(
                f"expected a family whose parameters can be learned one by one, got {family.__name__} "
                f"({type(error).__name__}: {error})"
            ) from error
        shape, sample_shape = (output.shape for output in outputs)
        if (shape != (1, 1, 1) and not issubclass(family, OneHot)) or sample_shape != shape:
            raise ValueError(f"expected a family of single numbers, got {family.__name__} with events {shape[3:]}")
    q, p = (families.default(family, (1,), jnp.float32) for family in (posterior, prior))
    if q.support.is_discrete != p.support.is_discrete:
        raise ValueError(
            "expected posterior and prior both discrete or both continuous, "
            f"got {posterior.__name__} and {prior.__name__}"
        )
    if has_atom(posterior) and not has_atom(prior):
        raise ValueError(
            f"expected a prior with a point mass where the posterior {posterior.__name__} has one, got "
            f"{prior.__name__}: their KL is infinite; use {posterior.__name__} for both"
        )
    if posterior is prior and q.support.is_discrete:
        return
    if not _covers_support(q, p) or constraints.is_dependent(prior.support):
        raise ValueError(
            f"expected a prior with density wherever the posterior {posterior.__name__} has some, got {prior.__name__}: "
            "their KL is infinite"
        )
    if posterior is not prior and not q.support.is_discrete and _tails_diverge(q, p):
        raise ValueError(
            f"expected a prior with tails as heavy as those of the posterior {posterior.__name__}, got "
            f"{prior.__name__}: their KL is infinite; use {posterior.__name__} for both"
        )


def _zeros_and_sample(family: type[Distribution], unconstrained: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Zeros of the distribution's batch and event shape, and one sample."""
    distribution = families.from_unconstrained(family, unconstrained)
    with relaxed_promotion():
        zeros = jnp.zeros(distribution.batch_shape + distribution.event_shape)
        return zeros, distribution.sample(jax.random.key(0))


def _covers_support(q: Distribution, p: Distribution) -> bool:
    """True if samples of q and the points +-1e4, as far as q's support has them, lie in the support of p."""
    if p.support is constraints.real:
        return True
    with relaxed_promotion():
        samples = q.sample(jax.random.key(0), (200,)).ravel().astype(jnp.float32)
        points = jnp.concatenate([samples, jnp.array([-1e4, 1e4], jnp.float32)])
        return bool(jnp.all(p.support(points) | ~q.support(points)))


def _tails_diverge(q: Distribution, p: Distribution) -> bool:
    """True if E_q log p is infinite: t q(t) |log p(t)| does not decay like a power of t towards an end of the support."""
    with relaxed_promotion():
        ends = jnp.array([[20.0, 80.0], [-20.0, -80.0], [1e-8, 1e-16]])
        supported = (p.support(ends) & q.support(ends)).all(-1)
        ends = jnp.where(supported[:, None], ends, q.sample(jax.random.key(0)))
        terms = jnp.log(jnp.abs(ends)) + q.log_prob(ends) + jnp.log1p(jnp.abs(p.log_prob(ends)))
        distance = jnp.abs(jnp.log(jnp.abs(ends[:, 1] / ends[:, 0])))
    return bool((supported & (terms[:, 1] - terms[:, 0] > -0.3 * distance)).any())


@functools.cache
def has_atom(family: type[Distribution]) -> bool:
    """True if a continuous family has a point mass: some of its samples are equal.

    >>> import numpyro.distributions as dist
    >>> has_atom(dist.Normal), has_atom(dist.HurdleLogNormal)
    (False, True)
    """
    if "has_atom" in vars(family):
        return family.has_atom
    with jax.ensure_compile_time_eval(), relaxed_promotion():
        default = families.default(family, (1,), jnp.float32)
        if default.support.is_discrete:
            return False
        samples = np.asarray(default.sample(jax.random.key(0), (200,)), np.float64)
    return len(np.unique(samples, axis=0)) < 180  # equal float32 numbers are rare without a point mass
