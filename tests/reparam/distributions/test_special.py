"""Special functions and their derivatives against mpmath and SciPy."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import special as scipy_special

from dgmzoo.reparam.distributions.special import erfcx, excess_moment, inverse_mills, log_ndtr, log_scaled_e1

LOG_U = np.concatenate([np.linspace(-690, -20, 30), np.linspace(-20, 8, 150), [0.0, np.log(2), 20, 80, 300, 690]])
X = np.concatenate([-np.logspace(10, -3, 50), [0.0], np.logspace(-3, 1.2, 30)])
ALPHA = np.concatenate([[0.0], np.logspace(-4, 9, 120), [1.9, 2.0, 2.1, 2.99, 3.0, 3.01]])


def derivatives(f, x):
    """f, f' and f'' at each element of x, as float64 arrays."""
    first = jax.grad(f)
    return [np.asarray(jax.jit(jax.vmap(g))(jnp.asarray(x)), float) for g in (f, first, jax.grad(first))]


def exact_scaled_e1(log_u):
    """h, h' and h'' at each element, from E1 with enough digits for the cancellation in 1 + h'."""

    def exact(log_u):
        with mp.workdps(120):
            u = mp.exp(mp.mpf(float(log_u)))
            if u > 1e40:  # here h = -log u, h' = -1 and h'' = 0 to all digits of a double
                return -mp.log(u), -1, 0
            scaled = mp.exp(u) * mp.e1(u) if u < 300 else mp.hyp2f0(1, 1, -1 / u) / u
            k = u - 1 / scaled
            return mp.log(scaled), k, u * (1 + k) - k**2

    return np.array([[float(v) for v in exact(x)] for x in log_u]).T


def exact_log_ndtr(x):
    """log_ndtr and its first two derivatives at each element."""

    def exact(x):
        with mp.workdps(60):
            x = mp.mpf(float(x))
            if x < -100:  # the continued fraction of the Mills ratio
                tail = mp.mpf(0)
                for n in range(60, 0, -1):
                    tail = n / (tail - x)
                mills = tail - x
                return -(x**2) / 2 - mp.log(2 * mp.pi) / 2 - mp.log(mills), mills, -mills * tail
            mills = mp.npdf(x) / mp.ncdf(x)
            return mp.log(mp.ncdf(x)), mills, -mills * (mills + x)

    return np.array([[float(v) for v in exact(v)] for v in x]).T


def assert_close(values, exact_values, tolerance):
    """Compare with an error relative to the size of values above 1."""
    for value, exact in zip(values, exact_values, strict=True):
        size = np.maximum(1, np.abs(exact))
        np.testing.assert_allclose(value / size, exact / size, atol=tolerance)


@pytest.mark.parametrize("f, exact, points", [(log_scaled_e1, exact_scaled_e1, LOG_U), (log_ndtr, exact_log_ndtr, X)])
def test_value_and_two_derivatives_equal_mpmath(f, exact, points):
    with jax.enable_x64(True):
        assert_close(derivatives(f, points), exact(points), 1e-12)
    single = points.astype(np.float32)
    assert_close(derivatives(f, single), exact(single), 2e-6)


@pytest.mark.thorough
def test_third_derivatives_equal_finite_differences(x64):
    for f, points in ((log_scaled_e1, LOG_U), (log_ndtr, X)):
        second = jax.grad(jax.grad(f))
        third, second = (jax.jit(jax.vmap(g)) for g in (jax.grad(second), second))
        assert np.isfinite(third(jnp.asarray(points))).all()
        inner, step = jnp.asarray(points[np.abs(points) < 20]), 1e-5
        slope = (second(inner + step) - second(inner - step)) / (2 * step)
        np.testing.assert_allclose(third(inner), slope, atol=2e-8)


def exact_moment(n, alpha):
    """E[(x - alpha)^n | x > alpha] by mpmath."""
    with mp.workdps(120):
        a = mp.mpf(float(alpha))
        lower, w = mp.mpf(1), mp.npdf(a) / mp.ncdf(-a) - a
        for m in range(1, n):
            lower, w = w, m * lower - a * w
        return float(w)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_excess_moments_and_their_slopes_equal_mpmath(n):
    small = ALPHA[ALPHA < 30]
    for double, tolerance in ((True, 1e-11), (False, 2e-5)):
        with jax.enable_x64(double):
            alpha = small.astype(np.float64 if double else np.float32)
            w = [np.array([exact_moment(m, a) for a in alpha]) for m in (1, n, n + 1)]
            f = lambda a: excess_moment(n, a)  # noqa: E731
            value, slope, _ = derivatives(f, alpha)
            np.testing.assert_allclose(value, w[1], rtol=tolerance)
            np.testing.assert_allclose(slope, w[0] * w[1] - w[2], rtol=10 * tolerance)
            far = ALPHA[ALPHA > 1e4].astype(alpha.dtype)  # w_n -> n! / alpha^n
            np.testing.assert_allclose(f(far) * far**n, np.full(far.shape, float(mp.factorial(n))), rtol=2e-6)


def test_erfcx_has_no_gap_at_any_size():
    for double, tolerance in ((True, 4e-15), (False, 2e-6)):
        with jax.enable_x64(double):
            x = np.concatenate([np.logspace(-5, 8, 2000), np.linspace(9, 10, 500), np.linspace(26, 27, 500)])
            x = x.astype(np.float64 if double else np.float32)
            value, slope, curvature = derivatives(erfcx, x)
            exact = scipy_special.erfcx(x.astype(float))
            np.testing.assert_allclose(value, exact, rtol=tolerance)
            near = x < 20  # where the formula for the slope is accurate
            exact_slope = 2 * x.astype(float) * exact - 2 / np.sqrt(np.pi)
            np.testing.assert_allclose(slope[near], exact_slope[near], atol=1e3 * tolerance)
            assert np.isfinite(curvature).all()


def test_inverse_mills_is_the_derivative(x64):
    np.testing.assert_allclose(inverse_mills(jnp.asarray(X)), exact_log_ndtr(X)[1], rtol=1e-13)
