"""From network outputs to distributions: any NumPyro family whose parameters are constrained one by one."""

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
_LEAST = {dist.StudentT: {"df": 2.0}}  # fewer degrees of freedom have no variance, and 1 no mean
_MIN_SCALE = 1e-6  # keeps float32 log-densities finite; far below any scale a posterior needs


def num_unconstrained(family: type[Distribution]) -> int:
    """How many unconstrained parameters one unit of the family takes.

    Raises:
      ValueError: a parameter is itself a vector or matrix and the family does not say how long (`unconstrained_sizes`).
    """
    return sum(_sizes(family).values())


@functools.cache
def check_pair(posterior: type[Distribution], prior: type[Distribution]) -> None:
    """Refuse families that unconstrained parameters cannot give, and a prior without density where the posterior has some.

    Raises:
      ValueError: with the reason.
    """
    for family in (posterior, prior):
        if not isinstance(family, type):  # NumPyro's Bernoulli, Categorical and the like are functions
            raise ValueError(
                f"expected a class of distributions, got {family!r}; NumPyro's functions that choose between probabilities "
                "and logits have classes beside them, such as BernoulliLogits"
            )
        unconstrained = jax.ShapeDtypeStruct((1, 1, 1, num_unconstrained(family)), jnp.float32)
        try:
            shape, drawn = (each.shape for each in jax.eval_shape(functools.partial(_drawn, family), unconstrained))
        except Exception as error:
            raise ValueError(
                f"expected a family whose parameters can be learned one by one, got {family.__name__} "
                f"({type(error).__name__}: {error})"
            ) from error
        if shape != (1, 1, 1) or drawn != shape:
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
    if not _covers(q, p) or _moves(prior):
        raise ValueError(
            f"expected a prior with density wherever the posterior {posterior.__name__} has some, got {prior.__name__}: "
            "their KL is infinite"
        )
    if posterior is not prior and not q.support.is_discrete and _diverges(q, p):
        raise ValueError(
            f"expected a prior with tails as heavy as those of the posterior {posterior.__name__}, got "
            f"{prior.__name__}: their KL is infinite; use {posterior.__name__} for both"
        )


def _drawn(family: type[Distribution], unconstrained: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Something of a member's shape, events included, and a draw."""
    member = from_unconstrained(family, unconstrained)
    with relaxed_promotion():
        return jnp.zeros(member.batch_shape + member.event_shape), member.sample(jax.random.key(0))


def _covers(q: Distribution, p: Distribution) -> bool:
    """Whether p has density where q has some, so far as draws and far points tell."""
    if p.support is constraints.real:
        return True
    with relaxed_promotion():
        drawn = q.sample(jax.random.key(0), (200,)).ravel().astype(jnp.float32)
        points = jnp.concatenate([drawn, jnp.array([-1e4, 1e4], jnp.float32)])
        return bool(jnp.all(p.support(points) | ~q.support(points)))


def _moves(family: type[Distribution]) -> bool:
    """Whether parameters move the support."""
    return constraints.is_dependent(family.support)


def _diverges(q: Distribution, p: Distribution) -> bool:
    """Whether t q(t) |log p(t)| does not fall like a power of t towards an end: E_q log p is then infinite."""
    with relaxed_promotion():
        ends = jnp.array([[20.0, 80.0], [-20.0, -80.0], [1e-8, 1e-16]])
        supported = (p.support(ends) & q.support(ends)).all(-1)
        ends = jnp.where(supported[:, None], ends, q.sample(jax.random.key(0)))
        terms = jnp.log(jnp.abs(ends)) + q.log_prob(ends) + jnp.log1p(jnp.abs(p.log_prob(ends)))
        distance = jnp.abs(jnp.log(jnp.abs(ends[:, 1] / ends[:, 0])))
    return bool((supported & (terms[:, 1] - terms[:, 0] > -0.3 * distance)).any())


def from_unconstrained(family: type[Distribution], unconstrained: chex.Array) -> Distribution:
    """The distribution with parameters from `unconstrained [..., U, P]`: batch shape `[..., U]`, event shape `()`.

    Zeros are the family's standard member: real parameters 0, positive ones 1, probabilities 1/2, but where the
    family says otherwise (`unconstrained_starts`).
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
        least = _LEAST.get(family, {}).get(name)
        if least is None:
            parameters[name] = constrain(constraint, piece, _start(family, name))
        else:
            parameters[name] = least + positive(piece, _start(family, name) - least)
        start += size
    with relaxed_promotion():
        return family(**parameters)


def at_least_float32(unconstrained: chex.Array) -> chex.Array:
    """At least single precision: densities are not for bfloat16."""
    return unconstrained.astype(jnp.float32) if jnp.finfo(unconstrained.dtype).bits < 32 else unconstrained


@functools.cache
def with_sizes(family: type[Distribution], **sizes: int) -> type[Distribution]:
    """The family with other `unconstrained_sizes`: how many numbers a parameter that is a vector takes."""
    return type(family.__name__, (family,), {"unconstrained_sizes": sizes})


def default(family: type[Distribution], batch_shape: tuple[int, ...], dtype: jnp.dtype) -> Distribution:
    """The family's standard member, exactly: what zeros give."""
    parameters = {}
    for name, size in _sizes(family).items():
        constraint = family.arg_constraints[name]
        shape = batch_shape if constraint.event_dim == 0 else (*batch_shape, size)
        start = _start(family, name)
        if start is None:
            zero = jnp.zeros(shape, dtype)
            parameters[name] = jnp.ones(shape, dtype) if _positive(constraint) else constrain(constraint, zero)
        else:
            parameters[name] = jnp.broadcast_to(jnp.asarray(start, dtype), shape)
    with relaxed_promotion():
        return family(**parameters)


def unconstrained_at(family: type[Distribution], loc: chex.Array, scale: float) -> chex.Array:
    """Unconstrained parameters `[..., U, P]` of the standard member shrunk by `scale` and moved to `loc [..., U]`.

    What is neither a location nor a scale (degrees of freedom, weights of components) stays standard.
    """
    unconstrained = []
    for name, size in _sizes(family).items():
        start = _start(family, name)
        if name in _SCALES:
            start = 1.0 if start is None else start
            unconstrained += [jnp.full_like(loc, _inverse_softplus(scale * start) - _inverse_softplus(start))] * size
        elif name in LOCATIONS:
            starts = start if isinstance(start, tuple) else (start or 0.0,) * size
            unconstrained += [loc + (scale - 1) * each for each in starts]
        else:
            unconstrained += [jnp.zeros_like(loc)] * size
    return jnp.stack(unconstrained, -1)


def constrain(constraint: constraints.Constraint, unconstrained: chex.Array, start=None) -> chex.Array:
    """`biject_to`, but positive parameters through a softplus (an exponential overflows early).

    Args:
      start: what zeros give: by default 1 where positive, else what `biject_to` makes of 0.
    """
    if _positive(constraint):
        return positive(unconstrained, 1.0 if start is None else start)
    with relaxed_promotion():
        to_parameter = biject_to(constraint)
        return to_parameter(
            unconstrained
            if start is None
            else unconstrained + to_parameter.inv(jnp.asarray(start, unconstrained.dtype))
        )


def parameters(distribution: Distribution) -> dict[str, chex.Array]:
    """The distribution's parameters and its mean, by name."""
    found = {name: getattr(distribution, name) for name in distribution.arg_constraints}
    with relaxed_promotion():
        return {**found, "mean": distribution.mean}


def positive(unconstrained: chex.Array, start: float = 1.0) -> chex.Array:
    """A positive number, `start` where the unconstrained value is 0."""
    return jnp.maximum(jax.nn.softplus(unconstrained + _inverse_softplus(start)), _MIN_SCALE)


def _inverse_softplus(y: float) -> float:
    return math.log(math.expm1(y))


def _start(family: type[Distribution], name: str) -> float | tuple[float, ...] | None:
    return getattr(family, "unconstrained_starts", _STARTS.get(family, {})).get(name)


def _positive(constraint: constraints.Constraint) -> bool:
    base = getattr(constraint, "base_constraint", constraint)
    return base in (constraints.positive, constraints.softplus_positive)


def _sizes(family: type[Distribution]) -> dict[str, int]:
    named = getattr(family, "unconstrained_sizes", {})
    sizes = {}
    for name, constraint in family.arg_constraints.items():
        try:
            single = constraint.event_dim == 0 and not constraints.is_dependent(constraint)
        except NotImplementedError:
            single = False
        if not single and name not in named:
            raise ValueError(
                f"expected a family with one number per parameter and unit, got {family.__name__}, whose {name!r} is "
                "not; give the class a `unconstrained_sizes` mapping or use another family"
            )
        sizes[name] = named.get(name, 1)
    return sizes
