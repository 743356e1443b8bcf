"""`PowerSpherical`: unit vectors concentrated around a direction; `UniformSphere`: uniform unit vectors."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive

_SHIFT = 16  # recurrence steps before the asymptotic series below, which then has an error of 1e-14


def log_sphere_area(dimension: int) -> float:
    """Logarithm of the surface area of the unit sphere in `dimension` dimensions.

    >>> round(math.exp(log_sphere_area(2)) / math.pi, 9)
    2.0
    """
    return math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2)


def log_gamma_ratio(alpha, twice_beta: int):
    """log Gamma(alpha + beta) - log Gamma(alpha) for beta = twice_beta / 2 >= 0 and alpha > 0, elementwise.

    The difference of two log-gammas would cancel. The result is a sum of logarithms instead. If beta is not an integer,
    its half step uses an asymptotic series (DLMF 5.11.13) far above alpha.

    >>> round(float(log_gamma_ratio(3.0, 2)), 5)  # log 3
    1.09861
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

    `direction` `[..., D]` must have length 1. `concentration` is `[...]`; as it goes to 0 the distribution becomes
    uniform. Log-densities are in nats with respect to the area of the sphere. Samples are exact, need no rejection, and
    are reparameterized in both parameters.

    Source: De Cao & Aziz 2020 (arXiv 2006.04437).

    >>> d = PowerSpherical(jnp.array([1.0, 0.0, 0.0]), 6.0)
    >>> d.mean.tolist()
    [0.75, 0.0, 0.0]

    Raises:
      ValueError: fewer than two dimensions, or a concentration <= 0.
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
        upper_key, lower_key, tangent_key = jax.random.split(key, 3)
        dtype = self.direction.dtype
        alpha = jnp.broadcast_to(beta + self.concentration, shape)
        # x . direction = 2 Beta(alpha, beta) - 1, computed from log-odds so that neither end is rounded to +-1.
        half_odds = (jax.random.loggamma(upper_key, alpha) - jax.random.loggamma(lower_key, beta, shape, dtype)) / 2
        along, across = jnp.tanh(half_odds), 1 / jnp.cosh(jnp.clip(half_odds, -40, 40))
        tangent = jax.random.normal(tangent_key, (*shape, self.event_shape[0] - 1), dtype)
        tangent = tangent / jnp.linalg.norm(tangent, axis=-1, keepdims=True)
        upright = jnp.concatenate([along[..., None], across[..., None] * tangent], -1)
        return self._reflect(upright)

    def _reflect(self, x):
        """Move x [..., D] from around the first axis to around the direction: the reflection in algorithm 1 of the paper."""
        direction = jnp.broadcast_to(self.direction, x.shape)
        along, rest = direction[..., :1], direction[..., 1:]
        # 1 - along is only rounding where the direction is near the first axis; for unit vectors it is |rest|^2 / (1 + along).
        is_near = along > 0
        lift = jnp.square(rest).sum(-1, keepdims=True) / (1 + jnp.where(is_near, along, 0))
        normal = jnp.concatenate([jnp.where(is_near, lift, 1 - along), -rest], -1)  # the first axis minus the direction
        square = jnp.square(normal).sum(-1, keepdims=True)
        differs = square > jnp.finfo(x.dtype).tiny  # otherwise the direction is the first axis
        factor = jnp.where(differs, 2 * (normal * x).sum(-1, keepdims=True) / jnp.where(differs, square, 1), 0)
        return x - factor * normal

    def log_prob(self, value):  # no `validate_sample`: lengths equal 1 up to rounding only
        value, direction = broadcast_floats(value, self.direction)
        near, far = (jnp.square(value + sign * direction).sum(-1) / 4 for sign in (-1, 1))
        is_near = near < 0.5  # (1 + cos) / 2 = 1 - near = far; use the form that is accurate
        tiny = jnp.finfo(value.dtype).tiny
        log_power = jnp.where(
            is_near, jnp.log1p(-jnp.where(is_near, near, 0)), jnp.log(jnp.maximum(jnp.where(is_near, 1, far), tiny))
        )
        concentration, peak, log_power = broadcast_floats(self.concentration, self._log_peak(), log_power)
        return concentration * log_power + peak

    def _log_peak(self):
        """Log-density at the direction itself: equation 6 without the factor 2^concentration."""
        twice_beta = self.event_shape[0] - 1
        alpha = twice_beta / 2 + self.concentration
        return log_gamma_ratio(alpha, twice_beta) - twice_beta / 2 * math.log(4 * math.pi)

    def entropy(self):
        """Entropy in nats (equation 14)."""
        return -self._log_peak() + self.concentration * self._slope()

    def _slope(self):
        """digamma(alpha + beta) - digamma(alpha) = -E log((1 + direction . x) / 2)."""
        twice_beta = self.event_shape[0] - 1
        alpha = twice_beta / 2 + self.concentration
        return jax.jvp(lambda a: log_gamma_ratio(a, twice_beta), (alpha,), (jnp.ones_like(alpha),))[1]

    @property
    def mean(self):
        """Mean vector [..., D]: the direction times concentration / (D - 1 + concentration)."""
        length = self.concentration / (self.event_shape[0] - 1 + self.concentration)
        return length[..., None] * self.direction


class UniformSphere(dist.Distribution):
    """The uniform distribution over unit vectors `[..., D]`. Log-densities are with respect to the area of the sphere.

    >>> round(float(UniformSphere(2).log_prob(jnp.array([1.0, 0.0]))), 5)  # -log 2 pi
    -1.83788
    """

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
