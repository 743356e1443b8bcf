"""Distribution families with unconstrained parameters, for networks that output the parameters of a distribution.

A family is any NumPyro class whose parameters are constrained one by one. A parameter that is a vector needs its length
in the class attribute `unconstrained_sizes`.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import Distribution, biject_to, constraints

from dgmzoo.reparam.ops import relaxed_promotion

LOCATIONS = ("loc", "locs")
_SCALES = ("scale", "scales", "spike", "slab")
_STARTS = {dist.StudentT: {"df": 3.0}}
_LOWER_BOUNDS = {dist.StudentT: {"df": 2.0}}  # a Student t has no variance up to df = 2 and no mean up to df = 1
_MIN_SCALE = 1e-6  # keeps float32 log-densities finite; far below any scale a posterior needs


def num_unconstrained(family: type[Distribution]) -> int:
    """Number of unconstrained parameters per unit of the family.

    >>> num_unconstrained(dist.Normal)
    2

    Raises:
      ValueError: a parameter is a vector or matrix, and the family does not state its size in `unconstrained_sizes`.
    """
    return sum(_sizes(family).values())


@functools.cache
def check_pair(posterior: type[Distribution], prior: type[Distribution]) -> None:
    """Refuse a pair of families that has no unconstrained parameters or an infinite KL(posterior || prior).

    >>> check_pair(dist.Normal, dist.Laplace)
    >>> check_pair(dist.Cauchy, dist.Laplace)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: expected a prior with tails as heavy as those of the posterior Cauchy, got Laplace...

    Raises:
      ValueError: with the reason.
    """
    for family in (posterior, prior):
        if not isinstance(family, type):  # NumPyro's Bernoulli, Categorical and similar names are functions
            raise ValueError(
                f"expected a class of distributions, got {family!r}; use a class such as BernoulliLogits in place of "
                "NumPyro's functions that choose between probabilities and logits"
            )
        unconstrained = jax.ShapeDtypeStruct((1, 1, 1, num_unconstrained(family)), jnp.float32)
        try:
            outputs = jax.eval_shape(functools.partial(_zeros_and_sample, family), unconstrained)
        except Exception as error:
            raise ValueError(
                f"expected a family whose parameters can be learned one by one, got {family.__name__} "
                f"({type(error).__name__}: {error})"
            ) from error
        shape, sample_shape = (output.shape for output in outputs)
        if shape != (1, 1, 1) or sample_shape != shape:
            raise ValueError(f"expected a family of single numbers, got {family.__name__} with events {shape[3:]}")
    q, p = (default(family, (1,), jnp.float32) for family in (posterior, prior))
    if q.support.is_discrete != p.support.is_discrete:
        raise ValueError(
            "expected posterior and prior both discrete or both continuous, "
            f"got {posterior.__name__} and {prior.__name__}"
        )
    if getattr(posterior, "has_atom", False) and not getattr(prior, "has_atom", False):
        raise ValueError(
            f"expected a prior with a point mass where the posterior {posterior.__name__} has one, got "
            f"{prior.__name__}: their KL is infinite; use {posterior.__name__} for both"
        )
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
    distribution = from_unconstrained(family, unconstrained)
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


def from_unconstrained(family: type[Distribution], unconstrained: chex.Array) -> Distribution:
    """The distribution with parameters from `unconstrained [..., U, P]`; batch shape `[..., U]`, event shape `()`.

    Zeros give the family's default: real parameters are 0, positive ones 1, probabilities 1/2, unless the family states
    other values in `unconstrained_starts`.

    >>> d = from_unconstrained(dist.Normal, jnp.zeros((4, 2)))
    >>> d.batch_shape, float(d.scale[0])
    ((4,), 1.0)
    """
    sizes = _sizes(family)
    if unconstrained.shape[-1] != sum(sizes.values()):
        raise ValueError(
            f"expected {sum(sizes.values())} unconstrained parameters a unit, got shape {unconstrained.shape}"
        )
    unconstrained = at_least_float32(unconstrained)
    parameters, start = {}, 0
    for name, size in sizes.items():
        constraint = family.arg_constraints[name]
        piece = unconstrained[..., start] if constraint.event_dim == 0 else unconstrained[..., start : start + size]
        lower = _LOWER_BOUNDS.get(family, {}).get(name)
        if lower is None:
            parameters[name] = constrain(constraint, piece, _start(family, name))
        else:
            parameters[name] = lower + positive(piece, _start(family, name) - lower)
        start += size
    with relaxed_promotion():
        return family(**parameters)


def at_least_float32(unconstrained: chex.Array) -> chex.Array:
    """Cast bfloat16 and float16 to float32, which log-densities need; wider types are returned as they are.

    >>> at_least_float32(jnp.zeros(2, jnp.bfloat16)).dtype
    dtype('float32')
    """
    return unconstrained.astype(jnp.float32) if jnp.finfo(unconstrained.dtype).bits < 32 else unconstrained


@functools.cache
def with_sizes(family: type[Distribution], **sizes: int) -> type[Distribution]:
    """Subclass of the family with other `unconstrained_sizes`, the lengths of its vector parameters.

    >>> from dgmzoo.reparam.distributions import PiecewiseNormal
    >>> num_unconstrained(with_sizes(PiecewiseNormal, scales=3))
    4
    """
    return type(family.__name__, (family,), {"unconstrained_sizes": sizes})


def default(family: type[Distribution], batch_shape: tuple[int, ...], dtype: jnp.dtype) -> Distribution:
    """The family's default distribution: exactly the parameters that unconstrained zeros stand for.

    >>> default(dist.StudentT, (2,), jnp.float32).df.tolist()
    [3.0, 3.0]
    """
    parameters = {}
    for name, size in _sizes(family).items():
        constraint = family.arg_constraints[name]
        shape = batch_shape if constraint.event_dim == 0 else (*batch_shape, size)
        start = _start(family, name)
        if start is None:
            zero = jnp.zeros(shape, dtype)
            parameters[name] = jnp.ones(shape, dtype) if _is_positive(constraint) else constrain(constraint, zero)
        else:
            parameters[name] = jnp.broadcast_to(jnp.asarray(start, dtype), shape)
    with relaxed_promotion():
        return family(**parameters)


def unconstrained_at(family: type[Distribution], loc: chex.Array, scale: float) -> chex.Array:
    """Unconstrained parameters `[..., U, P]` of the default distribution scaled by `scale` and moved to `loc [..., U]`.

    Parameters that are neither locations nor scales (degrees of freedom, weights of components) keep their default.

    >>> d = from_unconstrained(dist.Normal, unconstrained_at(dist.Normal, jnp.array([2.0]), 0.5))
    >>> float(d.loc[0]), round(float(d.scale[0]), 5)
    (2.0, 0.5)
    """
    unconstrained = []
    for name, size in _sizes(family).items():
        start = _start(family, name)
        if name in _SCALES:
            start = 1.0 if start is None else start
            unconstrained += [jnp.full_like(loc, _inverse_softplus(scale * start) - _inverse_softplus(start))] * size
        elif name in LOCATIONS:
            starts = start if isinstance(start, tuple) else (start or 0.0,) * size
            unconstrained += [loc + (scale - 1) * centre for centre in starts]
        else:
            unconstrained += [jnp.zeros_like(loc)] * size
    return jnp.stack(unconstrained, -1)


def constrain(constraint: constraints.Constraint, unconstrained: chex.Array, start=None) -> chex.Array:
    """`biject_to` of NumPyro, but with a softplus for positive parameters, since an exponential overflows early.

    Args:
      start: the value at zeros. Default: 1 for a positive parameter, otherwise the value of `biject_to` at 0.

    >>> round(float(constrain(dist.constraints.positive, jnp.array(0.0), start=0.5)), 6)
    0.5
    """
    if _is_positive(constraint):
        return positive(unconstrained, 1.0 if start is None else start)
    with relaxed_promotion():
        to_parameter = biject_to(constraint)
        return to_parameter(
            unconstrained
            if start is None
            else unconstrained + to_parameter.inv(jnp.asarray(start, unconstrained.dtype))
        )


def parameters(distribution: Distribution) -> dict[str, chex.Array]:
    """The distribution's parameters and its mean, by name.

    >>> sorted(parameters(dist.Normal(0.0, 1.0)))
    ['loc', 'mean', 'scale']
    """
    arrays = {name: getattr(distribution, name) for name in distribution.arg_constraints}
    with relaxed_promotion():
        return {**arrays, "mean": distribution.mean}


def positive(unconstrained: chex.Array, start: float = 1.0) -> chex.Array:
    """Softplus shifted to give `start` at 0, and at least 1e-6.

    >>> float(positive(jnp.array(0.0))), float(positive(jnp.array(-1e4)))
    (1.0, 9.999999974752427e-07)
    """
    return jnp.maximum(jax.nn.softplus(unconstrained + _inverse_softplus(start)), _MIN_SCALE)


def _inverse_softplus(y: float) -> float:
    return math.log(math.expm1(y))


def _start(family: type[Distribution], name: str) -> float | tuple[float, ...] | None:
    """Value of a parameter at unconstrained zeros; None if it follows from the constraint."""
    return getattr(family, "unconstrained_starts", _STARTS.get(family, {})).get(name)


def _is_positive(constraint: constraints.Constraint) -> bool:
    base = getattr(constraint, "base_constraint", constraint)
    return base in (constraints.positive, constraints.softplus_positive)


def _sizes(family: type[Distribution]) -> dict[str, int]:
    """Number of unconstrained parameters per unit, by parameter."""
    stated = getattr(family, "unconstrained_sizes", {})
    sizes = {}
    for name, constraint in family.arg_constraints.items():
        try:
            is_scalar = constraint.event_dim == 0 and not constraints.is_dependent(constraint)
        except NotImplementedError:
            is_scalar = False
        if not is_scalar and name not in stated:
            raise ValueError(
                f"expected a family with one number per parameter and unit, got {family.__name__}, whose {name!r} is "
                "not; give the class an `unconstrained_sizes` mapping or use another family"
            )
        sizes[name] = stated.get(name, 1)
    return sizes
