"""Distributions of a layer's weights: parameters, posterior, prior, KL. How they are used: `layers/linear.py`.

A kind of weights is a config: it says which parameters a tensor of weights takes, and what they mean. The weights of a
tensor are independent, given what all of them share (a horseshoe's scales); biases are plain parameters.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, get_args

import chex
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion

Unconstrained = Mapping[str, jax.Array]  # a tensor's parameters by name
Init = Callable[[chex.PRNGKey, tuple[int, ...], jnp.dtype], jax.Array]
Estimator = Literal["auto", "local", "flipout", "shared"]

SYMMETRIC = (dist.Normal, dist.Laplace, dist.StudentT, dist.Logistic)  # about `loc`
_NARROW = 0.1  # a posterior's scale at the start, of the standard deviation of glorot's weights


@dataclasses.dataclass(frozen=True)
class Weights:
    """How a tensor of weights is distributed. Kinds differ in what the methods below give."""

    is_random: ClassVar[bool] = True

    def parameters(self, shape: tuple[int, ...], init: Init) -> dict[str, Callable[[chex.PRNGKey], jax.Array]]:
        """Name -> initial value, of what is learned for weights of a shape `[..., inputs, outputs]`."""
        raise NotImplementedError

    def posterior_given(self, unconstrained: Unconstrained, key: chex.PRNGKey) -> dist.Distribution:
        """The weights' distribution given a draw, by the key, of what all of them share."""
        raise NotImplementedError

    def mean(self, unconstrained: Unconstrained) -> jax.Array:
        """The posterior's mean."""
        raise NotImplementedError

    def kl(self, unconstrained: Unconstrained, key: chex.PRNGKey) -> jax.Array:
        """KL(q || p) of all weights together, nats, `[]`; where there is no closed form, at a draw by the key."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class PointWeights(Weights):
    """Plain parameters."""

    is_random: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class VariationalWeights(Weights):
    """Independent weights with a posterior and a prior of any families.

    With a closed form of the KL every objective has exact gradients; without, it is taken at one draw a step.
    """

    posterior: type[dist.Distribution] = dist.Normal
    """Family of q(w)."""
    prior: type[dist.Distribution] = dist.Normal
    """Family of p(w)."""
    learned_prior: bool = True
    """Learn the prior's parameters, the same for all weights of a layer, instead of keeping its standard form."""
    estimator: Estimator = "auto"
    """How noise enters where each example may have a draw of its own (training with one sample): local
    reparameterization (normal posteriors, one use a step), flipout (symmetric posteriors), one shared draw; auto: the
    first of these that is exact."""

    def __post_init__(self):
        q, p = self._sized(self.posterior), self._sized(self.prior)
        for family in (q, p):
            if issubclass(family, Horseshoe):
                raise ValueError(
                    "expected families with plain densities, got Horseshoe; choose the weights `horseshoe`"
                )
        check_estimator(self.estimator, q)
        with jax.ensure_compile_time_eval():
            families.check_pair(q, p)
            standard = [families.default(family, (1,), jnp.float32) for family in (q, p)]
            closed = jax.eval_shape(lambda: closed_kl(*standard)) is not None
            with relaxed_promotion():
                mean = standard[0].mean
        if not jnp.isfinite(mean).all():
            raise ValueError(f"expected a posterior of weights with a mean, got {q.__name__}")
        if not pathwise.is_reparameterized(q):
            raise ValueError(f"expected a posterior of weights with a pathwise gradient, got {q.__name__}")
        elsewhere = q.support is constraints.positive  # such as of a log-normal, whose `loc` is a logarithm
        if elsewhere or not any(name in q.arg_constraints for name in families.LOCATIONS):
            raise ValueError(f"expected a posterior of weights with a location, got {q.__name__}")
        jumps = issubclass(p, PiecewiseNormal | RectifiedNormal) or constraints.is_dependent(p.support)
        if jumps and not closed:
            raise ValueError(
                f"expected a prior without jumps where the KL has no closed form, got {p.__name__} for {q.__name__}: "
                "the gradient would be biased"
            )

    def parameters(self, shape, init):
        std = math.prod(shape[:-1]) ** -0.5
        q, p = self._sized(self.posterior), self._sized(self.prior)
        found = {"kernel": lambda key: families.unconstrained_at(q, init(key, shape, jnp.float32), _NARROW * std)}
        if self.learned_prior:
            found["prior"] = lambda key: families.unconstrained_at(p, jnp.zeros((1,) * len(shape), jnp.float32), std)
        return found

    def posterior_given(self, unconstrained, key):
        return families.from_unconstrained(self._sized(self.posterior), unconstrained["kernel"])

    def mean(self, unconstrained):
        with relaxed_promotion():
            return self.posterior_given(unconstrained, None).mean

    def kl(self, unconstrained, key):
        q = self.posterior_given(unconstrained, None)
        if self.learned_prior:
            p = families.from_unconstrained(self._sized(self.prior), unconstrained["prior"])
        else:
            p = families.default(self._sized(self.prior), (1,) * len(q.batch_shape), jnp.float32)
        closed = closed_kl(q, p)
        if closed is not None:
            return closed.sum()
        with relaxed_promotion():
            w = q.sample(key)
            return (q.log_prob(w) - p.log_prob(w)).sum()

    def _sized(self, family: type[dist.Distribution]) -> type[dist.Distribution]:
        return family


@dataclasses.dataclass(frozen=True)
class RectifiedWeights(VariationalWeights):
    """w = max(0, y), y normal: weights that are positive or exactly zero."""

    posterior: type[dist.Distribution] = RectifiedNormal
    """Family of q(w)."""
    prior: type[dist.Distribution] = RectifiedNormal
    """Family of p(w)."""


@dataclasses.dataclass(frozen=True)
class PiecewiseWeights(VariationalWeights):
    """w = T(n), n standard normal, T increasing and linear between quantiles: in the posterior, the prior, or both."""

    posterior: type[dist.Distribution] = PiecewiseNormal
    """Family of q(w)."""
    pieces: int = 5
    """Number of pieces, of equal mass."""

    def __post_init__(self):
        if isinstance(self.pieces, bool) or not isinstance(self.pieces, int) or self.pieces < 1:
            raise ValueError(f"expected pieces to be an integer >= 1, got {self.pieces!r}")
        super().__post_init__()

    def _sized(self, family):
        return families.with_sizes(family, scales=self.pieces) if family is PiecewiseNormal else family


def check_estimator(estimator: str, posterior: type[dist.Distribution]) -> None:
    """Refuse an estimator that is not exact for a posterior."""
    if estimator not in get_args(Estimator):
        raise ValueError(f"expected estimator one of {', '.join(get_args(Estimator))}, got {estimator!r}")
    fits = {"local": posterior is dist.Normal, "flipout": posterior in SYMMETRIC}
    if not fits.get(estimator, True):
        raise ValueError(
            f"expected estimator shared (or auto) for a posterior {posterior.__name__}, got {estimator!r}: local "
            "reparameterization needs a normal, flipout a symmetric one"
        )
