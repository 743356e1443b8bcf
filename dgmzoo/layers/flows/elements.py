"""`Affine`, `Spline`: invertible maps of single elements, whose parameters a network computes."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from dgmzoo.reparam.families import at_least_float32

_MIN_SHARE, _MIN_SLOPE = 1e-3, 1e-3  # of a bin's width and height, and of the derivative at a knot


@dataclasses.dataclass(frozen=True)
class ElementMap:
    """An increasing map of one element, from data x to noise z.

    A subclass states the number of unconstrained parameters of an element (`size`); zeros give the identity.

    >>> Affine().size, Spline(bins=4).size
    (2, 11)
    """

    @property
    def size(self) -> int:
        """Number of unconstrained parameters of an element (P)."""
        raise NotImplementedError

    def forward(self, x: jax.Array, unconstrained: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x `[..., D]` with parameters `[..., D, P]` to z and `log dz/dx`, each `[..., D]`."""
        raise NotImplementedError

    def inverse(self, z: jax.Array, unconstrained: jax.Array) -> tuple[jax.Array, jax.Array]:
        """z `[..., D]` with parameters `[..., D, P]` to x and `log dx/dz`, each `[..., D]`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Affine(ElementMap):
    """z = (x - m) exp(-s), with s within (-limit, limit).

    Source: Papamakarios, Pavlakou & Murray 2017 (arXiv 1705.07057), equation 4; Dinh, Sohl-Dickstein & Bengio 2017 (arXiv
    1605.08803), equation 8. Deviation: s is bounded by a scaled tanh.

    >>> x, log_derivative = Affine().inverse(jnp.ones((1, 3)), jnp.zeros((1, 3, 2)))
    >>> x.tolist(), log_derivative.tolist()
    ([[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]])
    """

    limit: float = 5.0
    """Largest magnitude of the log-scale s."""

    @property
    def size(self) -> int:
        return 2

    def forward(self, x, unconstrained):
        m, s = self._shift_and_log_scale(unconstrained)
        return (x - m) * jnp.exp(-s), -s

    def inverse(self, z, unconstrained):
        m, s = self._shift_and_log_scale(unconstrained)
        return z * jnp.exp(s) + m, s

    def _shift_and_log_scale(self, unconstrained):
        unconstrained = at_least_float32(unconstrained)
        return unconstrained[..., 0], self.limit * jnp.tanh(unconstrained[..., 1] / self.limit)


@dataclasses.dataclass(frozen=True)
class Spline(ElementMap):
    """A monotonic rational-quadratic spline on [-bound, bound] with the identity outside.

    Source: Durkan, Bekasov, Murray & Papamakarios 2019 (arXiv 1906.04032), section 3.1, equations 4 to 8.

    >>> z, log_derivative = Spline(bound=3.0).forward(jnp.array([[-3.0, 0.5, 9.0]]), jnp.zeros((1, 3, 23)))
    >>> z.round(5).tolist(), bool(abs(log_derivative).max() < 1e-5)
    ([[-3.0, 0.5, 9.0]], True)

    Raises:
      ValueError: there are fewer than 1 or more than 500 bins, or the bound is not positive.
    """

    bins: int = 8
    """Number of bins."""
    bound: float = 4.0
    """Half the width of the interval that the spline bends."""

    def __post_init__(self):
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or not 1 <= self.bins <= 500:
            raise ValueError(f"expected bins to be an integer from 1 to 500, got {self.bins!r}")
        if not 0 < self.bound < math.inf:
            raise ValueError(f"expected bound > 0, got {self.bound}")

    @property
    def size(self) -> int:
        return 3 * self.bins - 1

    def forward(self, x, unconstrained):
        knots = self._knots(unconstrained)
        # A gradient of the branch that `where` drops must be finite too, so the input is clamped first.
        (left, width), (low, height), (slope, next_slope) = self._bin(self._clamp(x), knots, 0)
        s = height / width
        xi = (self._clamp(x) - left) / width
        rest = xi * (1 - xi)
        denominator = s + (next_slope + slope - 2 * s) * rest
        z = low + height * (s * xi**2 + slope * rest) / denominator
        return self._or_identity(x, z, _log_derivative(xi, s, slope, next_slope))

    def inverse(self, z, unconstrained):
        knots = self._knots(unconstrained)
        (left, width), (low, height), (slope, next_slope) = self._bin(self._clamp(z), knots, 1)
        s, above = height / width, self._clamp(z) - low
        curvature = above * (next_slope + slope - 2 * s)
        a, b, c = height * (s - slope) + curvature, height * slope - curvature, -s * above
        xi = 2 * c / (-b - jnp.sqrt(b**2 - 4 * a * c))
        return self._or_identity(z, left + width * xi, -_log_derivative(xi, s, slope, next_slope))

    def _clamp(self, x):
        return jnp.clip(x, -self.bound, self.bound)

    def _or_identity(self, x, inside, log_derivative):
        is_inside = jnp.abs(x) < self.bound
        return jnp.where(is_inside, inside, x), jnp.where(is_inside, log_derivative, jnp.zeros_like(log_derivative))

    def _knots(self, unconstrained):
        """Positions of the knots in x and z, and slopes at them, `[bins + 1, ..., D]` each."""
        # The short axis goes first, because arithmetic with short last axes is slow when compiled for CPU.
        unconstrained = jnp.moveaxis(at_least_float32(unconstrained), -1, 0)
        widths, heights, slopes = jnp.split(unconstrained, [self.bins, 2 * self.bins])
        slope = _MIN_SLOPE + jax.nn.softplus(slopes + math.log(math.expm1(1 - _MIN_SLOPE)))
        ends = jnp.ones_like(widths[:1])
        return self._positions(widths), self._positions(heights), jnp.concatenate([ends, slope, ends])

    def _positions(self, sizes):
        share = _MIN_SHARE + (1 - _MIN_SHARE * self.bins) * jax.nn.softmax(sizes, 0)
        inner = self.bound * (2 * jnp.cumsum(share, 0)[:-1] - 1)
        end = jnp.full_like(sizes[:1], self.bound)
        return jnp.concatenate([-end, inner, end])

    def _bin(self, value, knots, axis):
        """(left end, length) in x and in z of the bin that holds the value, and (slope, slope at the right end)."""
        is_above = value[None] >= knots[axis][1:-1]  # [bins - 1, ..., D]
        always = jnp.ones_like(value[None], bool)
        is_bin = jnp.concatenate([always, is_above]) & ~jnp.concatenate([is_above, ~always])

        def pick(array):
            return jnp.where(is_bin, array, jnp.zeros((), array.dtype)).sum(0)

        x, z, slope = knots
        of_x, of_z = ((pick(each[:-1]), pick(each[1:] - each[:-1])) for each in (x, z))
        return of_x, of_z, (pick(slope[:-1]), pick(slope[1:]))


def _log_derivative(xi, s, slope, next_slope):
    """log dz/dx (equation 5 of the paper)."""
    rest = xi * (1 - xi)
    numerator = next_slope * xi**2 + 2 * s * rest + slope * (1 - xi) ** 2
    return 2 * jnp.log(s) + jnp.log(numerator) - 2 * jnp.log(s + (next_slope + slope - 2 * s) * rest)
