"""The power spherical distribution: a direction, and how closely the unit vectors crowd around it."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive

_SHIFT = 16  # steps up before the asymptotic series below, which is then right to 1e-14


def log_sphere_area(dimension: int) -> float:
    """log of the area of the unit sphere's surface in `dimension` dimensions."""
    return math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2)


def log_gamma_ratio(alpha, twice_beta: int):
    """log Gamma(alpha + beta) - log Gamma(alpha) for beta = twice_beta / 2 >= 0 and alpha > 0; elementwise.

    A sum of logarithms, and for a half an asymptotic series (DLMF 5.11.13) far above alpha: the two log-gammas would
    cancel.
    """
    alpha = jnp.asarray(alpha)
    whole, half = divmod(twice_beta, 2)
    total = jnp.zeros_like(alpha)
    if half:
        steps = alpha[..., None] + _constants(range(_SHIFT), alpha)
        total = -jnp.log1p(0.5 / steps).sum(-1)  # log of (a + i) / (a + i + 1/2)
        far = alpha + _SHIFT
        inverse = 1 / jnp.square(far)
        series = (-1 / 8 + inverse * (1 / 192 + inverse * (-1 / 640 + inverse * 17 / 14336))) / far
        total = total + jnp.log(far) / 2 + series
    return total + jnp.log(alpha[..., None] + half / 2 + _constants(range(whole), alpha)).sum(-1)


def _constants(values, like):
    return jnp.asarray(list(values), like.dtype).reshape(*[1] * like.ndim, -1)


class PowerSpherical(dist.Distribution):
    """p(x) proportional to (1 + direction . x)^concentration over unit vectors x `[..., D]`, D >= 2.

    De Cao & Aziz 2020 (arXiv 2006.04437). Samples are exact and reparameterized in both parameters: no rejection.
    Log-densities in nats with respect to the sphere's area. `direction` `[..., D]` must have length 1; `concentration`
    `[...]`; towards 0 it is the uniform distribution. Raises ValueError for fewer than two dimensions or a concentration <= 0.
    """

    arg_constraints: ClassVar = {"direction": constraints.sphere, "concentration": constraints.positive}
    support = constraints.sphere
    reparametrized_params: ClassVar = ["direction", "concentration"]

    def __init__(self, direction, concentration, *, validate_args=None):
        if jnp.ndim(direction) == 0 or jnp.shape(direction)[-1] < 2:
            raise ValueError(f"expected a direction of shape [..., 2 or more], got shape {jnp.shape(direction)}")
        require_positive("concentration", concentration)
        self.direction, concentration = broadcast_floats(direction, jnp.asarray(concentration)[..., None])
        self.concentration = concentration[..., 0]
        shape = jnp.shape(self.direction)
        super().__init__(batch_shape=shape[:-1], event_shape=shape[-1:], validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        beta, shape = (self.event_shape[0] - 1) / 2, (*sample_shape, *self.batch_shape)
        upper, lower, around = jax.random.split(key, 3)
        dtype = self.direction.dtype
        alpha = jnp.broadcast_to(beta + self.concentration, shape)
        # x . direction = 2 Beta(alpha, beta) - 1, from the log-odds: neither end is rounded away.
        half_odds = (jax.random.loggamma(upper, alpha) - jax.random.loggamma(lower, beta, shape, dtype)) / 2
        along, across = jnp.tanh(half_odds), 1 / jnp.cosh(jnp.clip(half_odds, -40, 40))
        tangent = jax.random.normal(around, (*shape, self.event_shape[0] - 1), dtype)
        tangent = tangent / jnp.linalg.norm(tangent, axis=-1, keepdims=True)
        upright = jnp.concatenate([along[..., None], across[..., None] * tangent], -1)
        return self._turned(upright)

    def _turned(self, x):
        """x [..., D], given around the first axis, around the direction: a reflection, algorithm 1 of the paper."""
        direction = jnp.broadcast_to(self.direction, x.shape)
        first = jnp.zeros_like(direction).at[..., 0].set(1)
        between = first - direction
        square = jnp.square(between).sum(-1, keepdims=True)
        there = square > jnp.finfo(x.dtype).tiny  # else the direction is the first axis
        factor = jnp.where(there, 2 * (between * x).sum(-1, keepdims=True) / jnp.where(there, square, 1), 0)
        return x - factor * between

    def log_prob(self, value):  # not checked: lengths are 1 to rounding only
        value, direction = broadcast_floats(value, self.direction)
        near, far = (jnp.square(value + sign * direction).sum(-1) / 4 for sign in (-1, 1))
        beside = near < 0.5  # (1 + cos) / 2 = 1 - near = far, each where it has its digits
        tiny = jnp.finfo(value.dtype).tiny
        log_power = jnp.where(
            beside, jnp.log1p(-jnp.where(beside, near, 0)), jnp.log(jnp.maximum(jnp.where(beside, 1, far), tiny))
        )
        concentration, peak, log_power = broadcast_floats(self.concentration, self._log_peak(), log_power)
        return concentration * log_power + peak

    def _log_peak(self):
        """The log-density at the direction itself: equation 6 with 2^concentration taken out."""
        twice_beta = self.event_shape[0] - 1
        alpha = twice_beta / 2 + self.concentration
        return log_gamma_ratio(alpha, twice_beta) - twice_beta / 2 * math.log(4 * math.pi)

    def entropy(self):
        """In nats (equation 14)."""
        return -self._log_peak() + self.concentration * self._slope()

    def _slope(self):
        """digamma(alpha + beta) - digamma(alpha) = -E log (1 + direction . x) / 2."""
        twice_beta = self.event_shape[0] - 1
        alpha = twice_beta / 2 + self.concentration
        return jax.jvp(lambda a: log_gamma_ratio(a, twice_beta), (alpha,), (jnp.ones_like(alpha),))[1]

    @property
    def mean(self):
        """Towards the direction, and shorter the wider the distribution."""
        length = self.concentration / (self.event_shape[0] - 1 + self.concentration)
        return length[..., None] * self.direction


class UniformSphere(dist.Distribution):
    """The uniform distribution over unit vectors `[..., D]`; log-densities with respect to the sphere's area."""

    arg_constraints: ClassVar = {}
    support = constraints.sphere
    reparametrized_params: ClassVar = []
    pytree_aux_fields = ("dtype",)

    def __init__(self, dimension: int, batch_shape=(), dtype=jnp.float32, *, validate_args=None):
        if dimension < 2:
            raise ValueError(f"expected a sphere in at least 2 dimensions, got {dimension}")
        self.dtype = dtype
        super().__init__(batch_shape=batch_shape, event_shape=(dimension,), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, (*sample_shape, *self.batch_shape, *self.event_shape), self.dtype)
        return noise / jnp.linalg.norm(noise, axis=-1, keepdims=True)

    def log_prob(self, value):
        shape = lax.broadcast_shapes(jnp.shape(value)[:-1], self.batch_shape)
        return jnp.full(shape, -log_sphere_area(self.event_shape[0]), jnp.result_type(value))

    @property
    def mean(self):
        return jnp.zeros((*self.batch_shape, *self.event_shape), self.dtype)


@kl_divergence.register(PowerSpherical, UniformSphere)
def _power_spherical_uniform(p, q):
    area = log_sphere_area(p.event_shape[0])
    return jnp.broadcast_to(area - p.entropy(), lax.broadcast_shapes(p.batch_shape, q.batch_shape))
