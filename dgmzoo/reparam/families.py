"""`from_unconstrained`: make a NumPyro distribution from the unconstrained outputs of a network.

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

from dgmzoo.reparam.distributions.one_hot import OneHot
from dgmzoo.reparam.ops import relaxed_promotion

LOCATIONS = ("loc", "locs")
_SCALES = ("scale", "scales", "spike", "slab")
_STARTS = {dist.StudentT: {"df": 3.0}}
# Least values, below which draws collect at the end of the range of float32 numbers and their log-densities are wrong. A
# Gamma(1/4) draw is below 1e-38 once in 3e9 draws. Next to 1 numbers are 1e-7 apart: with Beta(a, 0.7) the error of
# E log q is 1e-5 nats at a = 1.3 and 2e-4 at a = 100.
_LEAST_NEAR_0, _LEAST_NEAR_1 = 0.25, 0.7
_LOWER_BOUNDS = {
    dist.StudentT: {"df": 2.0},  # it has no variance up to df = 2 and no mean up to df = 1
    dist.Beta: {"concentration1": _LEAST_NEAR_1, "concentration0": _LEAST_NEAR_1},
    dist.Kumaraswamy: {"concentration1": _LEAST_NEAR_0, "concentration0": _LEAST_NEAR_1},
    dist.Gamma: {"concentration": _LEAST_NEAR_0},
    dist.InverseGamma: {"concentration": _LEAST_NEAR_0},
    dist.Chi2: {"df": 2 * _LEAST_NEAR_0},
    dist.Weibull: {"concentration": _LEAST_NEAR_0},
    dist.Pareto: {"alpha": _LEAST_NEAR_0},
}
_MIN_SCALE = 1e-6  # keeps float32 log-densities finite; far below any scale a posterior needs


def check_class(family: type[Distribution]) -> None:
    """Refuse a family that is no class.

    Raises:
      ValueError: the family is one of NumPyro's functions (Bernoulli, Categorical and similar names).

    >>> check_class(dist.Normal)
    """
    if not isinstance(family, type):
        raise ValueError(
            f"expected a class of distributions, got {family!r}; use a class such as BernoulliLogits in place of "
            "NumPyro's functions that choose between probabilities and logits"
        )


def num_unconstrained(family: type[Distribution]) -> int:
    """Number of unconstrained parameters per unit of the family.

    >>> num_unconstrained(dist.Normal)
    2

    Raises:
      ValueError: a parameter is a vector or matrix, and the family does not state its size in `unconstrained_sizes`.
    """
    return sum(_sizes(family).values())


def from_unconstrained(family: type[Distribution], unconstrained: chex.Array) -> Distribution:
    """The distribution with parameters from `unconstrained [..., U, P]`; batch shape `[..., U]`, event shape `()`.

    Zeros give the family's default: real parameters are 0, positive ones 1, probabilities 1/2, unless the family states
    other values in `unconstrained_starts`. Concentrations have a least value, 1/4 (gamma, Weibull) or 0.7 (beta), since
    the draws of smaller ones are not numbers of float32.

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
            parameters[name] = lower + positive(piece, (_start(family, name) or 1.0) - lower)
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


def mean(distribution: Distribution) -> chex.Array:
    """The mean of a distribution.

    >>> float(mean(dist.Normal(2.0, 1.0)))
    2.0
    """
    with relaxed_promotion():
        return distribution.mean


def is_discrete(family: type[Distribution]) -> bool:
    """True if the family is discrete.

    >>> is_discrete(dist.BernoulliLogits), is_discrete(dist.Normal)
    (True, False)
    """
    return default(family, (1,), jnp.float32).support.is_discrete


def from_uniform(distribution: Distribution, uniform: chex.Array) -> chex.Array:
    """The sample that uniform numbers in (0, 1) give: a bit is 1 where the number is below its probability.

    Continuous families use their inverse distribution function, and one-hot classes the Gumbel-max trick with one number
    a class. Samples of discrete families carry no gradient.

    Raises:
      ValueError: the family has no such form.

    >>> from_uniform(dist.BernoulliLogits(jnp.zeros(2)), jnp.array([0.4, 0.6])).tolist()
    [1.0, 0.0]
    """
    with relaxed_promotion():
        if isinstance(distribution, dist.BernoulliLogits):
            return (uniform < jax.nn.sigmoid(distribution.logits)).astype(distribution.logits.dtype)
        if isinstance(distribution, OneHot):
            gumbel = -jnp.log(-jnp.log(uniform))
            classes = jnp.argmax(distribution.logits + gumbel, -1)
            return jax.nn.one_hot(classes, uniform.shape[-1], dtype=distribution.logits.dtype)
        try:
            return distribution.icdf(uniform)
        except NotImplementedError as error:
            raise ValueError(
                f"expected a family with an inverse distribution function for Query.noise, got "
                f"{type(distribution).__name__}"
            ) from error


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
