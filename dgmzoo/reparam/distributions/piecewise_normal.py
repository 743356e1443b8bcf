"""The piecewise normal: a standard normal through an increasing map, linear between fixed quantiles."""

import functools
import statistics
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax
from jax.scipy.special import ndtri
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence
from numpyro.distributions.util import validate_sample

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive
from dgmzoo.reparam.distributions.special import log_normal_density, ndtr


class _Pieces(NamedTuple):
    """Constants of a standard normal cut into M pieces of equal mass; float64 NumPy arrays."""

    edges: np.ndarray  # [M + 1]  quantiles, the outer two infinite
    reach: np.ndarray  # [M - 1, M]  overlap, with sign, of [0, interior edge] with each piece
    mean: np.ndarray  # [M]  expected overlap, with sign, of [0, n] with each piece
    variance: np.ndarray  # [M]  of those overlaps
    rise: np.ndarray  # [M]  how far n clipped to the piece is expected above its low end, where that is finite
    fall: np.ndarray  # [M]  and below its high end; the covariance of overlaps i < j is fall[i] rise[j]


def _overlap(x, edges):
    return np.clip(x, edges[:-1], edges[1:]) - np.clip(0.0, edges[:-1], edges[1:])


@functools.cache
def _pieces(num):
    normal = statistics.NormalDist()
    inner = np.array([normal.inv_cdf(k / num) for k in range(1, num)])
    edges = np.array([-np.inf, *inner, np.inf])
    # For a piece [a, b]: E (n - a)_+ and its square over the piece, and how far n stays below b.
    density = np.array([0, *(normal.pdf(e) for e in inner), 0])
    moment = np.array([0, *(e * normal.pdf(e) for e in inner), 0])  # e N(e), 0 at the infinite ends
    below = np.arange(num + 1) / num
    finite = np.where(np.isfinite(edges), edges, 0)
    first = density[:-1] - density[1:]
    second = 1 / num + moment[:-1] - moment[1:]
    low, high, under, over = finite[:-1], finite[1:], below[:-1], 1 - below[1:]
    mean = low * under + first + high * over  # of n clipped to the piece
    square = low**2 * under + second + high**2 * over
    # Two pieces never move together: the upper one is at its low end, or the lower one at its high end.
    rise, fall = mean - low, high - mean
    reach = np.array([_overlap(e, edges) for e in inner]).reshape(num - 1, num)
    return _Pieces(edges, reach, mean - np.clip(0.0, edges[:-1], edges[1:]), square - mean**2, rise, fall)


def _bounds(edges):
    """Lower and upper ends [..., M] of the pieces between interior `edges` [..., M - 1]."""
    end = jnp.full_like(edges, jnp.inf, shape=(*edges.shape[:-1], 1))
    return jnp.concatenate([-end, edges], -1), jnp.concatenate([edges, end], -1)


def _piecewise_linear(x, edges, slopes):
    """f(x) [...] with f(0) = 0 and slope `slopes` [..., M] between the interior `edges` [..., M - 1].

    A sum of one clipped stretch per piece: no search, no gather, and a gradient in every argument. Piece by piece, since
    sums over a short last axis are slow.
    """
    (slopes,) = broadcast_floats(slopes)
    low, high = _bounds(edges)
    total = 0
    for piece in range(slopes.shape[-1]):
        point, slope, a, b = broadcast_floats(x, slopes[..., piece], low[..., piece], high[..., piece])
        total += slope * (jnp.clip(point, a, b) - jnp.clip(jnp.zeros_like(point), a, b))
    return total


class PiecewiseNormal(dist.Distribution):
    """z = T(n), n ~ N(0, 1): T(0) = `loc`, and T has slope `scales` [..., M] between the k/M quantiles of n.

    Each of the M pieces, of mass 1/M, is a stretch of a normal with its own mean and scale, and they join
    in z; the density jumps where they meet unless neighbours have equal scales. `loc` [...] broadcasts with
    the leading axes of `scales` to the batch shape. Log-densities in nats; samples are reparameterized.
    Raises ValueError unless `scales` has a last axis and is positive.
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real,
        "scales": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real
    reparametrized_params: ClassVar = ["loc", "scales"]
    unconstrained_sizes: ClassVar = {"scales": 5}  # pieces, where a network makes them
    free_form: ClassVar = True  # a shape to be learned

    def __init__(self, loc, scales, *, validate_args=None):
        if jnp.ndim(scales) == 0 or jnp.shape(scales)[-1] == 0:
            raise ValueError(
                f"expected scales of shape [..., pieces], got shape {jnp.shape(scales)}; put the pieces last"
            )
        require_positive("scales", scales)
        loc, self.scales = broadcast_floats(jnp.asarray(loc)[..., None], scales)
        self.loc = loc[..., 0]
        super().__init__(batch_shape=jnp.shape(self.loc), validate_args=validate_args)

    @property
    def edges(self):
        """Interior quantiles [M - 1] of the standard normal at which the scale changes."""
        return jnp.asarray(_pieces(self.scales.shape[-1]).edges[1:-1], self.scales.dtype)

    @property
    def steps(self):
        """The points in z at which the density jumps, less `loc` [..., M - 1]: without its rounding."""
        reach = jnp.asarray(_pieces(self.scales.shape[-1]).reach, self.scales.dtype)
        scales, reach = jnp.broadcast_arrays(self.scales[..., None, :], reach)
        return (scales * reach).sum(-1)

    @property
    def breakpoints(self):
        """The points in z [..., M - 1] at which the density jumps, increasing."""
        return self.loc[..., None] + self.steps

    def transform(self, noise):
        """T(noise): the sample whose standard normal noise is `noise`."""
        noise, loc = broadcast_floats(noise, self.loc)
        return loc + _piecewise_linear(noise, self.edges, self.scales)

    def inverse(self, value):
        """The standard normal noise of the sample `value`."""
        value, loc = broadcast_floats(value, self.loc)
        return _piecewise_linear(value - loc, self.steps, 1 / self.scales)

    def sample(self, key, sample_shape=()):
        shape = (*sample_shape, *jnp.shape(self.loc))
        return self.transform(jax.random.normal(key, shape, self.scales.dtype))

    @validate_sample
    def log_prob(self, value):
        value, loc = broadcast_floats(value, self.loc)
        step, log_scales = broadcast_floats((value - loc)[..., None], jnp.log(self.scales))
        low, high = (jnp.broadcast_to(bound, step.shape) for bound in _bounds(self.steps))
        log_slope = jnp.where((low <= step) & (step < high), log_scales, 0).sum(-1)
        return log_normal_density(self.inverse(value)) - log_slope

    def cdf(self, value):
        return ndtr(self.inverse(value))

    def icdf(self, q):
        return self.transform(ndtri(jnp.asarray(q)))

    @property
    def mean(self):
        weights = _pieces(self.scales.shape[-1]).mean.tolist()
        return self.loc + sum(weight * scale for weight, scale in zip(weights, self._each_scale(), strict=True))

    @property
    def variance(self):
        pieces = _pieces(self.scales.shape[-1])
        moments = (pieces.variance.tolist(), pieces.rise.tolist(), pieces.fall.tolist())
        total = below = jnp.zeros_like(self.scales[..., 0])
        for scale, own, rise, fall in zip(self._each_scale(), *moments, strict=True):
            total += scale * (own * scale + 2 * rise * below)
            below += fall * scale
        return total

    def mean_log_scale(self):
        """E log T'(n)."""
        return sum(jnp.log(scale) for scale in self._each_scale()) / self.scales.shape[-1]

    def _each_scale(self):
        """The scales [...] piece by piece: sums over a short last axis are slow."""
        return [self.scales[..., piece] for piece in range(self.scales.shape[-1])]


@kl_divergence.register(PiecewiseNormal, dist.Normal)
def _piecewise_to_normal(p, q):
    """The entropy is the noise's plus E log T'; log q is a quadratic and needs p's mean and variance only."""
    mean, variance, log_slope, loc, scale = broadcast_floats(p.mean, p.variance, p.mean_log_scale(), q.loc, q.scale)
    return jnp.log(scale) - log_slope + (variance / scale**2 + ((mean - loc) / scale) ** 2 - 1) / 2


@kl_divergence.register(PiecewiseNormal, PiecewiseNormal)
def _piecewise_to_piecewise(p, q):
    """E [log q' - log p'] + (E eta^2 - 1) / 2 over p's noise, with eta q's noise for the same z.

    eta is linear between p's edges, the preimages of q's breakpoints, and 0 (put in so that each stretch
    has a side): its second moment is a sum over stretches. At q's breakpoints eta is q's own edges, known
    and not computed back.
    """
    shape = lax.broadcast_shapes(jnp.shape(p.loc), jnp.shape(q.loc))
    p, q = (
        PiecewiseNormal(jnp.broadcast_to(d.loc, shape), jnp.broadcast_to(d.scales, (*shape, d.scales.shape[-1])))
        for d in (p, q)
    )
    gap, zero = (p.loc - q.loc)[..., None], jnp.zeros_like(p.loc)[..., None]
    preimages = _inverse_at(p, q.steps - gap)
    noise = _joined(p.edges, preimages, zero)
    eta = _joined(_inverse_at(q, p.steps + gap), q.edges, _inverse_at(q, gap))
    noise, eta = lax.sort((noise, eta), num_keys=1)

    square = _stretch_square(noise, eta).sum(-1)
    square += _tail_square(-noise[..., 0], -eta[..., 0], p.scales[..., 0] / q.scales[..., 0])
    square += _tail_square(noise[..., -1], eta[..., -1], p.scales[..., -1] / q.scales[..., -1])
    low, high = _bounds(preimages)
    log_slope = ((ndtr(high) - ndtr(low)) * jnp.log(q.scales)).sum(-1) - p.mean_log_scale()
    return log_slope + (square - 1) / 2


@kl_divergence.register(dist.Normal, PiecewiseNormal)
def _normal_to_piecewise(p, q):
    return _piecewise_to_piecewise(PiecewiseNormal(p.loc, jnp.asarray(p.scale)[..., None]), q)


def _inverse_at(d, steps):
    """d's noise [..., S] at the points `steps` [..., S] away from its location."""
    return _piecewise_linear(steps, d.steps[..., None, :], 1 / d.scales[..., None, :])


def _joined(*parts):
    shape = lax.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return jnp.concatenate([jnp.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], -1)


def _stretch_square(noise, eta):
    """int eta(x)^2 N(x) dx over each stretch [..., S - 1] of the sorted `noise` [..., S], none across 0.

    Wide stretches by the normal's partial moments about the end nearer to 0; narrow ones, where those
    cancel while the slope may be huge, by Gauss-Legendre, exact to rounding for widths below 1.
    """
    positive = noise[..., :-1] >= 0
    near, far = (jnp.where(positive, x, -y) for x, y in _both(noise[..., :-1], noise[..., 1:]))
    at_near, at_far = (jnp.where(positive, x, -y) for x, y in _both(eta[..., :-1], eta[..., 1:]))
    wide = far - near >= 1

    slope = (at_far - at_near) / jnp.where(wide, far - near, 1)
    mass, start, end = (
        ndtr(-near) - ndtr(-far),
        jnp.exp(log_normal_density(near)),
        jnp.exp(log_normal_density(far)),
    )
    first = start - end - near * mass
    second = (1 + near**2) * mass - near * start - (far - 2 * near) * end
    by_moments = at_near**2 * mass + 2 * at_near * slope * first + slope**2 * second

    width = jnp.where(wide, 0, far - near)
    by_nodes = jnp.zeros_like(width)
    nodes, weights = np.polynomial.legendre.leggauss(8 if width.dtype == jnp.float64 else 4)
    for v, weight in zip(((1 + nodes) / 2).tolist(), (weights / 2).tolist(), strict=True):
        density = jnp.exp(log_normal_density(near + v * width))
        by_nodes += weight * (at_near + v * (at_far - at_near)) ** 2 * density
    return jnp.where(wide, by_moments, width * by_nodes)


def _both(left, right):
    return (left, right), (right, left)


def _tail_square(start, value, slope):
    """int_start^inf (value + slope (x - start))^2 N(x) dx."""
    mass, density = ndtr(-start), jnp.exp(log_normal_density(start))
    first = density - start * mass
    return value**2 * mass + 2 * value * slope * first + slope**2 * (mass - start * first)
