"""A logistic distribution rounded to a grid of grey levels."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive


class _Grid(constraints.ParameterFreeConstraint):
    """Levels between 0 and 1; which, the distribution knows."""

    is_discrete = True

    def __call__(self, x):
        return (x >= 0) & (x <= 1)

    def feasible_like(self, prototype):
        return jnp.zeros_like(prototype)


class LogisticOnGrid(dist.Distribution):
    """A logistic rounded to the nearest of the levels 0, 1/(L-1), ..., 1, the outer two taking all that lies beyond.

    With F the logistic's CDF and h = 1 / (2 (L - 1)), `P(x) = F(x + h) - F(x - h)`, where the left term is 1 for x = 1
    and the right one 0 for x = 0. Log-probabilities in nats; a value counts as the level nearest to it.

    Raises ValueError for fewer than two levels or a scale that is not positive.
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
        # With b - a = rate, F(b) - F(a) = F(b) F(-a) (1 - e^-rate): no difference of near numbers is taken.
        log_below = jax.nn.log_sigmoid((level + 0.5 - centre) * rate)
        log_above = jax.nn.log_sigmoid((centre - (level - 0.5)) * rate)
        inner = log_below + log_above + jnp.log(-jnp.expm1(-rate))
        return jnp.where(level == 0, log_below, jnp.where(level == self.levels - 1, log_above, inner))

    @property
    def mean(self):
        """Exact: the sum over the levels above 0 of the probability to reach them, over L - 1."""
        edges = (jnp.arange(1, self.levels, dtype=self.loc.dtype) - 0.5) / (self.levels - 1)

        def reach(total, edge):
            return total + jax.nn.sigmoid((self.loc - edge) / self.scale), None

        total, _ = jax.lax.scan(reach, jnp.zeros_like(self.loc), edges)  # one level at a time: memory for one
        return total / (self.levels - 1)

    def _level(self, value):
        return jnp.clip(jnp.round(value * (self.levels - 1)), 0, self.levels - 1)


def check_levels(levels: int) -> None:
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise ValueError(f"expected levels to be an integer >= 2, got {levels!r}")


def check_grid(x: np.ndarray, levels: int) -> None:
    level = np.asarray(x, np.float64) * (levels - 1)
    off = np.abs(level - np.clip(np.round(level), 0, levels - 1)).max(initial=0)
    if not off < 1e-2:
        raise ValueError(
            f"expected x at the {levels} levels 0, 1/{levels - 1}, ..., 1 for a discretized logistic, got values from "
            f"{np.min(x):g} to {np.max(x):g} that are up to {off:g} levels away; set data.encoding gray or `levels`"
        )
