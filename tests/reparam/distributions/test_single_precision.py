"""Float32 against exact values where the textbook formulas cancel: concentrations of 1e6, scales 1e6 apart, far tails."""

import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, PowerSpherical
from dgmzoo.reparam.distributions.concentrated import bessel_gap, log_gamma_excess, ratio_gap, stirling_rest
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.ops import relaxed_promotion

# pairs of a family with NumPyro's parameters, from small to large concentrations
CASES = [
    (dist.Gamma, (1e4, 1e4), dist.Gamma, (9.9e3, 9.8e3)),
    (dist.Gamma, (1e6, 1e3), dist.Gamma, (1.001e6, 1.0005e3)),
    (dist.Gamma, (0.25, 1e4), dist.Gamma, (1e3, 1.0)),
    (dist.InverseGamma, (1e5, 2.0), dist.InverseGamma, (1.01e5, 2.02)),
    (dist.Gamma, (1e6, 1e6), dist.HalfNormal, (1.0,)),
    (dist.Gamma, (0.25, 2.0), dist.HalfNormal, (1.0,)),
    (dist.Gamma, (30.0, 10.0), dist.Exponential, (0.3,)),
    (dist.Beta, (1e5, 3e5), dist.Beta, (1.01e5, 3.02e5)),
    (dist.Beta, (0.7, 1e4), dist.Beta, (2.0, 9e3)),
    (dist.Weibull, (1.0, 80.0), dist.Gamma, (5e3, 5e3)),
    (dist.Weibull, (2.0, 0.25), dist.Gamma, (0.5, 1.0)),
    (dist.LogNormal, (0.0, 0.01), dist.Gamma, (1e4, 1e4)),
    (dist.LogNormal, (-100.0, 1.0), dist.Gamma, (2.0, 1.0)),
    (dist.VonMises, (0.1, 1e5), dist.VonMises, (0.1001, 1.01e5)),
    (dist.Poisson, (1e6,), dist.Poisson, (1.002e6,)),
    (dist.Exponential, (1.0001,), dist.Exponential, (1.0,)),
    (dist.Normal, (1e3, 1e-3), dist.Normal, (1e3, 2e-3)),
]


def exact(q_family, q, p_family, p):
    """The KL by formulas with 60 digits."""
    with mp.workdps(60):
        q, p = [mp.mpf(x) for x in q], [mp.mpf(x) for x in p]
        psi, ln, lng, e = mp.digamma, mp.log, mp.loggamma, mp.euler
        if q_family is dist.Exponential:
            q_family, q = dist.Gamma, [1, *q]
        if p_family is dist.Exponential:
            p_family, p = dist.Gamma, [1, *p]
        if {q_family, p_family} <= {dist.Gamma, dist.InverseGamma}:
            (a, b), (c, d) = q, p
            return (a - c) * psi(a) - lng(a) + lng(c) - c * ln(d / b) + a * (d / b - 1)
        if q_family is dist.Gamma:
            (a, b), (s,) = q, p
            return (
                ln(s) + ln(mp.pi / 2) / 2 - (a - ln(b) + lng(a) + (1 - a) * psi(a)) + a * (a + 1) / (2 * (b * s) ** 2)
            )
        if q_family is dist.Beta:
            (a, b), (c, d) = q, p
            means = (a - c) * psi(a) + (b - d) * psi(b) - (a + b - c - d) * psi(a + b)
            return ln(mp.beta(c, d)) - ln(mp.beta(a, b)) + means
        if q_family is dist.Weibull:
            (s, k), (c, d) = q, p
            return ln(k) + lng(c) + c * (e / k - ln(s * d)) + s * d * mp.gamma(1 + 1 / k) - e - 1
        if q_family is dist.LogNormal:
            (m, s), (c, d) = q, p
            return -ln(s) - ln(2 * mp.pi * mp.e) / 2 + lng(c) - c * (m + ln(d)) + d * mp.exp(m + s**2 / 2)
        if q_family is dist.VonMises:
            (m, k), (n, c) = q, p
            mean = mp.besseli(1, k) / mp.besseli(0, k)
            return ln(mp.besseli(0, c)) - ln(mp.besseli(0, k)) + mean * (k - c * mp.cos(m - n))
        if q_family is dist.Poisson:
            return q[0] * ln(q[0] / p[0]) + p[0] - q[0]
        (m, s), (n, t) = q, p
        return ln(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - mp.mpf(1) / 2


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0].__name__}{c[1]}-{c[2].__name__}{c[3]}")
def test_f72_closed_divergences_keep_float32(case):
    """Parameters are rounded to float32 first, since the divergence of large concentrations depends on every digit."""
    q_family, q, p_family, p = case
    q, p = np.float32(q), np.float32(p)
    value, gradient = jax.value_and_grad(lambda q: closed_kl(q_family(*q), p_family(*map(jnp.asarray, p))))(
        tuple(map(jnp.asarray, q))
    )
    expected = float(exact(q_family, q.tolist(), p_family, p.tolist()))
    assert float(value) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert np.isfinite(gradient).all()


def test_f72_the_divergence_of_equal_distributions_is_zero():
    for family, sizes in ((dist.Gamma, 2), (dist.Beta, 2), (dist.InverseGamma, 2)):
        for parameters in itertools.product((0.3, 1.0, 9.7, 1e3, 1e6), repeat=sizes):
            d = family(*map(jnp.float32, parameters))
            assert abs(float(closed_kl(d, d))) < 1e-6, (family, parameters)


def test_f72_terms_equal_their_definitions(x64):
    for x in (1e-8, 1e-3, 0.3, 0.49, 0.51, 0.9999999, 1.5, 7.0, 9.99, 10.01, 1e5):
        with mp.workdps(60):
            t = mp.mpf(x)
            gap = t - 1 - mp.log(t)
            stirling = (t - mp.mpf(1) / 2) * mp.log(t) - t + mp.log(2 * mp.pi) / 2
            rest, excess = mp.loggamma(t) - stirling, mp.loggamma(1 + t) + mp.euler * t
            bessel = 1 - mp.besseli(1, t) / mp.besseli(0, t)
        np.testing.assert_allclose(ratio_gap(jnp.float64(x), jnp.float64(1)), float(gap), rtol=1e-9)
        np.testing.assert_allclose(stirling_rest(jnp.float64(x))[0], float(rest), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(log_gamma_excess(jnp.float64(x)), float(excess), rtol=1e-10)
        np.testing.assert_allclose(bessel_gap(jnp.float64(x)), float(bessel), rtol=1e-10)


@pytest.mark.parametrize("low, high", [(1e-3, 1e3), (1e-6, 1e4)])
def test_f72_the_divergence_of_a_piecewise_normal_from_itself_is_zero(low, high):
    for scales in ([low, high, low, high, low], [high, low, high, low, high], [low, low, high, high, low]):
        d = PiecewiseNormal(jnp.float32(0.7), jnp.array(scales, jnp.float32))
        assert abs(float(closed_kl(d, d))) < 1e-5


@pytest.mark.parametrize("ratio", [1e3, 1e6])
def test_f72_the_divergence_of_piecewise_normals_is_that_in_float64(ratio):
    """Narrow pieces lie beyond wide ones, and all scales differ by a few parts in a hundred thousand."""
    scales = np.float32([1, ratio, 1, ratio, 1])
    others = np.float32(scales * (1 + 1e-7 * np.array([1e2, 3, -2e2, 2, 1e2])))

    def divergence(dtype):
        q, p = (PiecewiseNormal(jnp.zeros((), dtype), jnp.asarray(each, dtype)) for each in (scales, others))
        return float(closed_kl(q, p))

    with jax.enable_x64(True):
        expected = divergence(jnp.float64)
    assert divergence(jnp.float32) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("q", [1e-9, 1e-6, 1e-3, 0.2])
def test_f72_quantiles_of_the_horseshoe_in_the_far_tail(q):
    quantile = float(Horseshoe(jnp.float32(1.0)).icdf(jnp.float32(q)))
    # P(Z < -z) = E P(lambda > z / |n|) / 2, which for large z is a mean over a normal
    tail = integrate.quad(lambda n: stats.norm.pdf(n) * 2 / np.pi * np.arctan(n / -quantile), 0, np.inf)[0]
    assert tail == pytest.approx(q, rel=1e-3)
    upper = float(Horseshoe(jnp.float32(1.0)).icdf(jnp.float32(1 - q)))
    tail = integrate.quad(lambda n: stats.norm.pdf(n) * 2 / np.pi * np.arctan(n / upper), 0, np.inf)[0]
    assert tail == pytest.approx(1 - float(np.float32(1 - q)), rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("rest", [1e-8, 1e-6, 3e-4, 0.0])
def test_f70_draws_lie_around_a_direction_next_to_the_first_axis(rest):
    for along in (0.99999994, 1.0):
        direction = jnp.array([along, rest], jnp.float32)
        d = PowerSpherical(direction, jnp.float32(20.0))
        cosine = d.sample(jax.random.key(0), (2000,)) @ direction
        assert float(cosine.mean()) == pytest.approx(20 / 21, abs=0.02)


def test_f66_closed_forms_belong_to_their_own_densities():
    class Tilted(dist.Normal):
        def log_prob(self, value):
            return super().log_prob(value) + jnp.tanh(value)

    assert closed_kl(dist.Kumaraswamy(1.0, 1.0), dist.Beta(2.0, 2.0)) is None
    assert closed_kl(Tilted(0.0, 1.0), dist.Normal(0.0, 1.0)) is None
    with relaxed_promotion():
        assert closed_kl(dist.Chi2(3.0), dist.Gamma(1.5, 0.5)) == pytest.approx(0, abs=1e-6)
