"""`Weights`: the base class of network weights; `PointWeights`: plain weights; `VariationalWeights`: Bayesian ones.

Dense and convolutional layers with these weights are in `layers/weights/linear.py`.

A `Weights` object is a config. It states the unconstrained parameters of a tensor of weights, and their meaning. Weights
of a tensor are independent given the variables that they share (the scales of a horseshoe). Biases are plain parameters.

How to choose weights (by the name that `--model.weights`, `--model.decoder.weights` and similar options accept):

- `point`: plain parameters, the usual choice.
- `normal` (`VariationalWeights`): a Bayesian network with a factorized posterior; also any other pair of families.
- `horseshoe`: removes inputs of a layer that do not matter.
- `rectified`: weights that are positive or exactly 0.
- `piecewise`: a posterior that is skewed or flat, or a prior whose form is learned.
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

from dgmzoo.reparam import families, pairs
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion

Unconstrained = Mapping[str, jax.Array]  # name -> unconstrained parameters of one tensor of weights
Init = Callable[[chex.PRNGKey, tuple[int, ...], jnp.dtype], jax.Array]
Estimator = Literal["auto", "local", "flipout", "shared"]

SYMMETRIC = (dist.Normal, dist.Laplace, dist.StudentT, dist.Logistic)  # about `loc`
_INITIAL_SCALE = 0.1  # of the posterior, relative to 1 / sqrt(number of inputs)


@dataclasses.dataclass(frozen=True)
class Weights:
    """Posterior and prior of a tensor of weights.

    >>> PointWeights().is_random, VariationalWeights().is_random
    (False, True)
    """

    is_random: ClassVar[bool] = True

    def parameters(self, shape: tuple[int, ...], init: Init) -> dict[str, Callable[[chex.PRNGKey], jax.Array]]:
        """Name -> initializer, for the learned parameters of weights of a shape `[..., inputs, outputs]`.

        Args:
          init: initializer of the posterior's locations.
        """
        raise NotImplementedError

    def posterior_given(self, unconstrained: Unconstrained, key: chex.PRNGKey) -> dist.Distribution:
        """The posterior of independent weights, given one sample by the key of the variables that they share."""
        raise NotImplementedError

    def mean(self, unconstrained: Unconstrained) -> jax.Array:
        """Mean of the posterior, `[..., inputs, outputs]`."""
        raise NotImplementedError

    def kl(self, unconstrained: Unconstrained, key: chex.PRNGKey) -> jax.Array:
        """KL(q || p) of all weights together, `[]`, in nats; at one sample by the key if it has no closed form."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class PointWeights(Weights):
    """Plain parameters without a distribution.

    >>> PointWeights()
    PointWeights()
    """

    is_random: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class VariationalWeights(Weights):
    """Independent weights with a posterior and a prior of any families.

    Every objective has exact gradients. A KL without a closed form is estimated from one sample in each step.

    >>> VariationalWeights(prior=dist.Laplace).estimator
    'auto'

    Raises:
      ValueError: the KL is infinite, its gradient would be biased, or the posterior has no mean, no location or no
        pathwise gradient.
    """

    posterior: type[dist.Distribution] = dist.Normal
    """Family of q(w)."""
    prior: type[dist.Distribution] = dist.Normal
    """Family of p(w)."""
    learned_prior: bool = True
    """Learn the parameters of the prior, which all weights of a layer share; otherwise the prior is its family's default."""
    estimator: Estimator = "auto"
    """Noise in training with one sample, where each example may have its own weights. local: local reparameterization
    (normal posteriors, layers used once a step); flipout (symmetric posteriors); shared: all examples share one sample of
    the weights; auto: the first of these that is exact."""

    def __post_init__(self):
        q, p = self._sized(self.posterior), self._sized(self.prior)
        for family in (q, p):
            if issubclass(family, Horseshoe):
                raise ValueError(
                    "expected families with plain densities, got Horseshoe; choose the weights `horseshoe`"
                )
        check_estimator(self.estimator, q)
        with jax.ensure_compile_time_eval():
            pairs.check_pair(q, p)
            defaults = [families.default(family, (1,), jnp.float32) for family in (q, p)]
            has_closed_kl = jax.eval_shape(lambda: closed_kl(*defaults)) is not None
            with relaxed_promotion():
                mean = defaults[0].mean
        if not jnp.isfinite(mean).all():
            raise ValueError(f"expected a posterior of weights with a mean, got {q.__name__}")
        if not pathwise.is_reparameterized(q):
            raise ValueError(f"expected a posterior of weights with a pathwise gradient, got {q.__name__}")
        is_positive = q.support is constraints.positive  # the `loc` of a log-normal is no location of its samples
        if is_positive or not any(name in q.arg_constraints for name in families.LOCATIONS):
            raise ValueError(f"expected a posterior of weights with a location, got {q.__name__}")
        has_jumps = issubclass(p, PiecewiseNormal | RectifiedNormal) or constraints.is_dependent(p.support)
        if has_jumps and not has_closed_kl:
            raise ValueError(
                "expected a prior whose density has no jumps, because the KL has no closed form, got "
                f"{p.__name__} for {q.__name__}: the gradient would be biased"
            )

    def parameters(self, shape, init):
        std = math.prod(shape[:-1]) ** -0.5
        q, p = self._sized(self.posterior), self._sized(self.prior)
        initializers = {
            "kernel": lambda key: families.unconstrained_at(q, init(key, shape, jnp.float32), _INITIAL_SCALE * std)
        }
        if self.learned_prior:
            initializers["prior"] = lambda key: families.unconstrained_at(
                p, jnp.zeros((1,) * len(shape), jnp.float32), std
            )
        return initializers

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
        kl = closed_kl(q, p)
        if kl is not None:
            return kl.sum()
        with relaxed_promotion():
            w = q.sample(key)
            return (q.log_prob(w) - p.log_prob(w)).sum()

    def _sized(self, family: type[dist.Distribution]) -> type[dist.Distribution]:
        """The family with the lengths of its vector parameters."""
        return family


@dataclasses.dataclass(frozen=True)
class RectifiedWeights(VariationalWeights):
    """Rectified normal weights w = max(0, y) of a normal y, which are positive or exactly 0.

    >>> RectifiedWeights().learned_prior
    True
    """

    posterior: type[dist.Distribution] = RectifiedNormal
    """Family of q(w)."""
    prior: type[dist.Distribution] = RectifiedNormal
    """Family of p(w)."""


@dataclasses.dataclass(frozen=True)
class PiecewiseWeights(VariationalWeights):
    """Weights with a piecewise normal posterior, prior, or both: w = T(n) with standard normal noise n.

    T is increasing, and linear between quantiles of n.

    >>> PiecewiseWeights(pieces=3).prior.__name__
    'Normal'

    Raises:
      ValueError: `pieces` is below 1, or a reason of `VariationalWeights`.
    """

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
    """Refuse an unknown estimator, or one that is not exact for the posterior.

    Raises:
      ValueError: with the estimators that are possible.

    >>> check_estimator("flipout", dist.Laplace)
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"expected estimator one of {', '.join(get_args(Estimator))}, got {estimator!r}")
    is_exact = {"local": posterior is dist.Normal, "flipout": posterior in SYMMETRIC}
    if not is_exact.get(estimator, True):
        raise ValueError(
            f"expected estimator shared (or auto) for a posterior {posterior.__name__}, got {estimator!r}: local "
            "reparameterization needs a normal, flipout a symmetric one"
        )
