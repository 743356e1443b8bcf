"""`check_pair`: refuse a posterior and a prior whose KL is infinite; `has_atom`: tell if a family has a point mass."""

import functools
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution, constraints

from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.one_hot import OneHot
from dgmzoo.reparam.ops import relaxed_promotion

_KNOWN_TO_BE_FINITE = frozenset(
    {
        *(dist.Normal, dist.Laplace, dist.StudentT, dist.Cauchy, dist.Logistic, dist.Gumbel, dist.SoftLaplace),
        *(dist.LogNormal, dist.HalfNormal, dist.HalfCauchy, dist.Exponential, dist.Gamma, dist.InverseGamma),
        *(dist.Chi2, dist.Weibull, dist.Beta, dist.Kumaraswamy),
        *(dist.Poisson, dist.BernoulliLogits, dist.BernoulliProbs, dist.GeometricLogits, dist.GeometricProbs),
    }
)


@functools.cache
def check_pair(posterior: type[Distribution], prior: type[Distribution]) -> None:
    """Refuse a pair of families that has no unconstrained parameters or an infinite KL(posterior || prior).

    >>> import numpyro.distributions as dist
    >>> check_pair(dist.Normal, dist.Laplace)
    >>> check_pair(dist.Cauchy, dist.Laplace)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: expected a prior with tails as heavy as those of the posterior Cauchy, got Laplace...

    Raises:
      ValueError: with the reason. A family is also refused if NumPyro has no mean for it, or if its draws or log-densities
        are not finite in float32.
    """
    if posterior is prior and posterior in _KNOWN_TO_BE_FINITE:
        return  # every experiment is built with such a pair, and the checks below compile for more than a second
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
    for family in (posterior, prior):
        _check_usable(family)
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
        _check_finite(posterior)
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
    for family in {posterior, prior}:
        _check_finite(family)


def _check_usable(family: type[Distribution]) -> None:
    """Refuse a family without a mean, which reports and plots of codes need, or without a least concentration."""
    if issubclass(family, dist.BetaProportion):
        raise ValueError(
            "expected a family whose draws keep a distance from 0 and 1, got BetaProportion, whose concentrations have no "
            "least value; use Beta"
        )
    unconstrained = jax.ShapeDtypeStruct((1, 1, families.num_unconstrained(family)), jnp.float32)
    try:
        jax.eval_shape(lambda array: families.mean(families.from_unconstrained(family, array)), unconstrained)
    except Exception as error:
        raise ValueError(
            f"expected a family whose mean NumPyro computes, got {family.__name__} ({type(error).__name__}"
            f"{f': {error}' if str(error) else ''}); use another family, or a subclass of it with a `mean`"
        ) from error


@functools.cache
def _check_finite(family: type[Distribution]) -> None:
    """Refuse a family whose draws or log-densities are not finite in float32 over a wide range of parameters.

    The families that the tests know to be finite are not tried, because compiling their draws takes seconds.
    """
    if family in _KNOWN_TO_BE_FINITE or family.__module__.startswith(__name__.partition(".")[0]):
        return
    random = np.random.default_rng(0).normal(0, 4, (20, 1, families.num_unconstrained(family)))
    with jax.ensure_compile_time_eval(), relaxed_promotion(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPyro warns of the values that are refused below
        distribution = families.from_unconstrained(family, jnp.asarray(random, jnp.float32))
        samples = distribution.sample(jax.random.key(0), (50,)).astype(jnp.float32)
        is_finite = jnp.isfinite(samples) & jnp.isfinite(distribution.log_prob(samples))
    if not (share := float(np.mean(is_finite))) == 1:
        raise ValueError(
            f"expected a family with finite draws and log-densities in float32, got {family.__name__}, for which "
            f"{1 - share:.1%} are not at unconstrained parameters of standard deviation 4; use another family"
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
