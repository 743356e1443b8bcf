"""`LogisticOnGrid`: the distribution of a logistic variable rounded to gray levels between 0 and 1."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive


class _Grid(constraints.ParameterFreeConstraint):
    """The interval [0, 1]. The number of levels is a field of the distribution and is not checked here."""

    is_discrete = True

    def __call__(self, x):
        return (x >= 0) & (x <= 1)

    def feasible_like(self, prototype):
        return jnp.zeros_like(prototype)


class LogisticOnGrid(dist.Distribution):
    """A logistic variable rounded to the nearest of the levels 0, 1/(L-1), ..., 1.

    With F the logistic CDF and h = 1 / (2 (L - 1)), `P(x) = F(x + h) - F(x - h)`. The first term is 1 for x = 1 and the
    second 0 for x = 0, so that the outer levels get the mass of the tails. Log-probabilities are in nats. `log_prob`
    rounds its argument to the nearest level.

    >>> d = LogisticOnGrid(loc=0.5, scale=0.1, levels=3)
    >>> [round(float(jnp.exp(d.log_prob(level))), 3) for level in (0.0, 0.5, 1.0)]
    [0.076, 0.848, 0.076]

    Raises:
      ValueError: fewer than two levels, or a scale that is not positive.
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = _Grid()
    pytree_aux_fields = ("levels",)

    def __init__(self, loc, scale, levels: int = 256, *, validate_args=None):
        check_levels(levels)
        require_positive("scale", scale)
        self.loc, self.scale = broadcast_floats(loc, scale)
        self.levels = levels
        super().__init__(batch_shape=jnp.shape(self.loc), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        noise = jax.random.logistic(key, (*sample_shape, *jnp.shape(self.loc)), self.loc.dtype)
        loc, scale, noise = broadcast_floats(self.loc, self.scale, noise)
        return self._level(loc + scale * noise) / (self.levels - 1)

    @validate_sample
    def log_prob(self, value):
        value, loc, scale = broadcast_floats(value, self.loc, self.scale)
        level = self._level(value)
        centre, rate = loc * (self.levels - 1), 1 / (scale * (self.levels - 1))
        # With b - a = rate, F(b) - F(a) = F(b) F(-a) (1 - e^-rate), which does not subtract nearly equal numbers.
        log_below = jax.nn.log_sigmoid((level + 0.5 - centre) * rate)
        log_above = jax.nn.log_sigmoid((centre - (level - 0.5)) * rate)
        inner = log_below + log_above + jnp.log(-jnp.expm1(-rate))
        return jnp.where(level == 0, log_below, jnp.where(level == self.levels - 1, log_above, inner))

    @property
    def mean(self):
        """Exact mean: the sum over the levels above 0 of P(x >= level), divided by L - 1."""
        edges = (jnp.arange(1, self.levels, dtype=self.loc.dtype) - 0.5) / (self.levels - 1)

        def add_level(total, edge):
            return total + jax.nn.sigmoid((self.loc - edge) / self.scale), None

        total, _ = jax.lax.scan(add_level, jnp.zeros_like(self.loc), edges)  # a loop, to keep only one level in memory
        return total / (self.levels - 1)

    def _level(self, value):
        return jnp.clip(jnp.round(value * (self.levels - 1)), 0, self.levels - 1)


def check_levels(levels: int) -> None:
    """Raise ValueError unless `levels` is an integer of at least 2.

    >>> check_levels(1)
    Traceback (most recent call last):
    ValueError: expected levels to be an integer >= 2, got 1
    """
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise ValueError(f"expected levels to be an integer >= 2, got {levels!r}")


def check_grid(x: np.ndarray, levels: int) -> None:
    """Raise ValueError unless all values of `x` lie on the grid 0, 1/(levels-1), ..., 1, to 1 % of its spacing.

    >>> check_grid(np.array([0.0, 0.5, 1.0]), levels=3)
    """
    level = np.asarray(x, np.float64) * (levels - 1)
    distance = np.abs(level - np.clip(np.round(level), 0, levels - 1)).max(initial=0)
    if not distance < 1e-2:
        raise ValueError(
            f"expected x at the {levels} levels 0, 1/{levels - 1}, ..., 1 for a discretized logistic, got values from "
            f"{np.min(x):g} to {np.max(x):g} that are up to {distance:g} levels away; set data.encoding gray or "
            "`levels`, or choose another likelihood (normal) for real numbers"
        )
