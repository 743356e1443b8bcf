"""`PiecewiseNormal`: the distribution of a standard normal variable after an increasing, piecewise linear map."""

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
    reach: np.ndarray  # [M - 1, M]  signed overlap of [0, interior edge] with each piece
    mean: np.ndarray  # [M]  expected signed overlap of [0, n] with each piece
    variance: np.ndarray  # [M]  of these overlaps
    rise: np.ndarray  # [M]  E of n clipped to the piece, minus the piece's low end if that is finite
    fall: np.ndarray  # [M]  high end minus that expectation; the covariance of overlaps i < j is fall[i] rise[j]


def _overlap(x, edges):
    return np.clip(x, edges[:-1], edges[1:]) - np.clip(0.0, edges[:-1], edges[1:])


@functools.cache
def _pieces(num):
    normal = statistics.NormalDist()
    inner = np.array([normal.inv_cdf(k / num) for k in range(1, num)])
    edges = np.array([-np.inf, *inner, np.inf])
    # Partial moments of n over each piece and the mass below each edge.
    density = np.array([0, *(normal.pdf(e) for e in inner), 0])
    moment = np.array([0, *(e * normal.pdf(e) for e in inner), 0])  # e N(e), 0 at the infinite ends
    below = np.arange(num + 1) / num
    finite = np.where(np.isfinite(edges), edges, 0)
    first = density[:-1] - density[1:]
    second = 1 / num + moment[:-1] - moment[1:]
    low, high, under, over = finite[:-1], finite[1:], below[:-1], 1 - below[1:]
    mean = low * under + first + high * over  # of n clipped to the piece
    square = low**2 * under + second + high**2 * over
    # Near any n at most one overlap of two pieces varies: n is above the lower piece or below the upper one.
    rise, fall = mean - low, high - mean
    reach = np.array([_overlap(e, edges) for e in inner]).reshape(num - 1, num)
    return _Pieces(edges, reach, mean - np.clip(0.0, edges[:-1], edges[1:]), square - mean**2, rise, fall)


def _bounds(edges):
    """Lower and upper ends [..., M] of the pieces separated by the interior `edges` [..., M - 1]."""
    end = jnp.full_like(edges, jnp.inf, shape=(*edges.shape[:-1], 1))
    return jnp.concatenate([-end, edges], -1), jnp.concatenate([edges, end], -1)


def _piecewise_linear(x, edges, slopes):
    """f(x) [...] with f(0) = 0 and slope `slopes` [..., M] between the interior `edges` [..., M - 1].

    f is a sum of one clipped segment per piece, which needs no search and no gather and has a gradient in every argument.
    A Python loop adds the pieces, since sums over a short last axis are slow.
    """
    (slopes,) = broadcast_floats(slopes)
    low, high = _bounds(edges)
    total = 0
    for piece in range(slopes.shape[-1]):
        point, slope, a, b = broadcast_floats(x, slopes[..., piece], low[..., piece], high[..., piece])
        total += slope * (jnp.clip(point, a, b) - jnp.clip(jnp.zeros_like(point), a, b))
    return total


class PiecewiseNormal(dist.Distribution):
    """z = T(n) with n ~ N(0, 1): T(0) = `loc`, and T has slope `scales` [..., M] between the k/M quantiles of n.

    Each of the M pieces has mass 1/M and is part of a normal with its own mean and scale. T is continuous. The density
    jumps where two pieces meet, unless their scales are equal. `loc` [...] broadcasts with the leading axes of `scales` to
    the batch shape. Log-densities are in nats. Samples are reparameterized in both parameters.

    >>> d = PiecewiseNormal(loc=0.0, scales=jnp.array([1.0, 3.0]))  # scale 1 below the median, 3 above
    >>> float(d.cdf(0.0)), round(float(d.icdf(0.8413447) / d.icdf(1 - 0.8413447)), 3)
    (0.5, -3.0)

    Raises:
      ValueError: `scales` is a single number or is not positive.
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real,
        "scales": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real
    reparametrized_params: ClassVar = ["loc", "scales"]
    unconstrained_sizes: ClassVar = {"scales": 5}  # pieces, for parameters from a network
    free_form: ClassVar = True  # as a prior it is always learned

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
        """Interior edges [M - 1] in n: the quantiles at which the scale changes."""
        return jnp.asarray(_pieces(self.scales.shape[-1]).edges[1:-1], self.scales.dtype)

    @property
    def steps(self):
        """Breakpoints minus `loc` [..., M - 1], computed without rounding by a large `loc`."""
        reach = jnp.asarray(_pieces(self.scales.shape[-1]).reach, self.scales.dtype)
        scales, reach = jnp.broadcast_arrays(self.scales[..., None, :], reach)
        return (scales * reach).sum(-1)

    @property
    def breakpoints(self):
        """Points in z [..., M - 1], in increasing order, at which the density jumps."""
        return self.loc[..., None] + self.steps

    def transform(self, noise):
        """T(noise): the sample for standard normal noise [...]."""
        noise, loc = broadcast_floats(noise, self.loc)
        return loc + _piecewise_linear(noise, self.edges, self.scales)

    def inverse(self, value):
        """The standard normal noise of the sample `value` [...]; the inverse of `transform`."""
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
        return self.loc + sum(weight * scale for weight, scale in zip(weights, self._scale_list(), strict=True))

    @property
    def variance(self):
        pieces = _pieces(self.scales.shape[-1])
        moments = (pieces.variance.tolist(), pieces.rise.tolist(), pieces.fall.tolist())
        total = below = jnp.zeros_like(self.scales[..., 0])
        for scale, variance, rise, fall in zip(self._scale_list(), *moments, strict=True):
            total += scale * (variance * scale + 2 * rise * below)
            below += fall * scale
        return total

    def mean_log_scale(self):
        """E log T'(n) [...], the mean logarithm of the scales."""
        return sum(jnp.log(scale) for scale in self._scale_list()) / self.scales.shape[-1]

    def _scale_list(self):
        """The scales [...] as a list of M arrays, since sums over a short last axis are slow."""
        return [self.scales[..., piece] for piece in range(self.scales.shape[-1])]


@kl_divergence.register(PiecewiseNormal, dist.Normal)
def _piecewise_to_normal(p, q):
    """KL from the entropy of p (that of the noise plus E log T') and the quadratic log q, which needs p's moments only."""
    mean, variance, log_slope, loc, scale = broadcast_floats(p.mean, p.variance, p.mean_log_scale(), q.loc, q.scale)
    return jnp.log(scale) - log_slope + (variance / scale**2 + ((mean - loc) / scale) ** 2 - 1) / 2


@kl_divergence.register(PiecewiseNormal, PiecewiseNormal)
def _piecewise_to_piecewise(p, q):
    """E [log T_q' - log T_p'] + (E eta^2 - 1) / 2 over p's noise, where eta is q's noise for the same z.

    As a function of p's noise, eta is linear between p's edges, the preimages of q's breakpoints, and 0. (0 is added so
    that every segment lies on one side of it.) The second moment of eta is a sum over these segments. At q's breakpoints
    eta equals q's edges, which are constants and are not computed by inversion.
    """
    shape = lax.broadcast_shapes(jnp.shape(p.loc), jnp.shape(q.loc))
    p, q = (
        PiecewiseNormal(jnp.broadcast_to(d.loc, shape), jnp.broadcast_to(d.scales, (*shape, d.scales.shape[-1])))
        for d in (p, q)
    )
    gap, zero = (p.loc - q.loc)[..., None], jnp.zeros_like(p.loc)[..., None]
    if p.scales.shape[-1] == q.scales.shape[-1]:
        # The edges are the same, so that only the distance of the breakpoints counts. A difference of two breakpoints would
        # lose all digits where a piece lies beyond one that is 1e6 times as wide.
        reach = jnp.asarray(_pieces(p.scales.shape[-1]).reach, p.scales.dtype)
        shift = gap + ((p.scales - q.scales)[..., None, :] * _like_rows(reach, p.scales)).sum(-1)
        edges = jnp.broadcast_to(p.edges, shift.shape)
        preimages, images = edges + _walk(p, -shift), edges + _walk(q, shift)
    else:
        preimages, images = _inverse_at(p, q.steps - gap), _inverse_at(q, p.steps + gap)
    noise = _joined(p.edges, preimages, zero)
    eta = _joined(images, q.edges, _inverse_at(q, gap))
    noise, eta = lax.sort((noise, eta), num_keys=1)

    square = _segment_square(noise, eta).sum(-1)
    square += _tail_square(-noise[..., 0], -eta[..., 0], p.scales[..., 0] / q.scales[..., 0])
    square += _tail_square(noise[..., -1], eta[..., -1], p.scales[..., -1] / q.scales[..., -1])
    low, high = _bounds(preimages)
    log_slope = ((ndtr(high) - ndtr(low)) * jnp.log(q.scales)).sum(-1) - p.mean_log_scale()
    return log_slope + (square - 1) / 2


@kl_divergence.register(dist.Normal, PiecewiseNormal)
def _normal_to_piecewise(p, q):
    return _piecewise_to_piecewise(PiecewiseNormal(p.loc, jnp.asarray(p.scale)[..., None]), q)


def _inverse_at(d, steps):
    """Noise [..., S] of d at the points `d.loc + steps` [..., S]."""
    return _piecewise_linear(steps, d.steps[..., None, :], 1 / d.scales[..., None, :])


def _walk(d, shift):
    """Noise [..., M - 1] that d passes from each of its edges over the distance `shift` [..., M - 1] in z."""
    reach = _pieces(d.scales.shape[-1]).reach
    between = jnp.asarray(reach[None] - reach[:, None], d.scales.dtype)  # [from, to, piece]
    spans = (d.scales[..., None, None, :] * _like_rows(between, d.scales)).sum(-1)
    return _piecewise_linear(shift, spans, 1 / d.scales[..., None, :])


def _like_rows(constants, rows):
    """Constants with leading axes of size 1 in place of the batch axes of `rows` [..., M], for strict promotion."""
    return constants.reshape(*[1] * (rows.ndim - 1), *constants.shape)


def _joined(*parts):
    """Concatenate arrays [..., S_i] along the last axis after broadcasting their leading axes."""
    shape = lax.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return jnp.concatenate([jnp.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], -1)


def _segment_square(noise, eta):
    """int eta(x)^2 N(x) dx over each segment [..., S - 1] of the sorted `noise` [..., S]; no segment contains 0 inside.

    Wide segments use the partial moments of the normal about the end nearer to 0. In narrow segments these moments
    cancel while the slope may be huge; there Gauss-Legendre quadrature is exact to rounding for widths below 1.
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
    """The pair and the swapped pair."""
    return (left, right), (right, left)


def _tail_square(start, value, slope):
    """int_start^inf (value + slope (x - start))^2 N(x) dx."""
    mass, density = ndtr(-start), jnp.exp(log_normal_density(start))
    first = density - start * mass
    return value**2 * mass + 2 * value * slope * first + slope**2 * (mass - start * first)
