"""Bijections in double precision: log-determinants, inverses, allowed dependences, gradients at a spline's boundary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.layers.flows.base import Flow, Inverse
from dgmzoo.layers.flows.elements import Affine, Spline
from dgmzoo.layers.flows.maps import ActNorm, Autoregressive, Coupling, LULinear, Permutation, steps
from dgmzoo.testing import check_autoregressive, check_bijection

KEY = jax.random.key(0)
SPLINE = Spline(bins=3, bound=2.0)
D = 3
# Points inside, at and beyond the boundary of the splines.
POINTS = np.concatenate(
    [np.random.default_rng(0).normal(size=(20, D)), np.full((1, D), 2.0), np.full((1, D), -2.0), [[-7.0, 0.5, 9.0]]]
)
MAPS = {
    "coupling": Coupling(hidden=(8,), dims=D),
    "flipped coupling": Coupling(Affine(limit=2.0), hidden=(8,), flip=True, dims=D),
    "spline coupling": Coupling(SPLINE, hidden=(8,), activation="tanh", dims=D),
    "autoregressive": Autoregressive(hidden=(20, 20), dims=D),
    "spline autoregressive": Autoregressive(SPLINE, hidden=(20,), activation="tanh", dims=D),
    "inverse autoregressive": Inverse(Autoregressive(hidden=(20,)), dims=D),
    "reverse": Permutation(dims=D),
    "permutation": Permutation(seed=1, dims=D),
    "linear": LULinear(dims=D),
    "normalization": ActNorm(dims=D),
    "flow": Flow(steps(Coupling(SPLINE, hidden=(8,)), 2, mix="linear"), dims=D),
}


def random_variables(module, x, context=None, scale=0.6):
    """Variables in double precision, with random parameters."""
    x, context = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (x, context))  # parameters are created in float32
    variables = jax.jit(lambda: module.init(KEY, x, context, method="forward"))()
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, scale, leaf.shape)), variables)


def applied(module, variables, context=None):
    """The two directions as functions of x `[N, D]`, with a context `[H]` for all rows."""

    def direction(name):
        def function(x):
            features = None if context is None else jnp.broadcast_to(context[None], (len(x), len(context)))
            return module.apply(variables, x, features, method=name)

        return function

    return direction("forward"), direction("inverse")


@pytest.mark.parametrize("name", MAPS)
def test_log_determinant_and_inverse(x64, name):
    module, x = MAPS[name], jnp.asarray(POINTS)
    context = None if name in ("coupling", "flow") else jnp.array([0.3, -1.0])
    features = None if context is None else jnp.zeros((len(x), 2))
    forward, inverse = applied(module, random_variables(module, x, features), context)
    z, _ = jax.jit(forward)(x)
    assert z.dtype == jnp.float64
    check_bijection(forward, jax.jit(inverse), x, tolerance=1e-8)
    gradients = jax.jit(jax.grad(lambda z: sum(part.sum() for part in inverse(z))))(z)
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize("element", [Affine(), Spline(bins=5, bound=2.0), Spline(bins=1)], ids=str)
def test_maps_of_elements_start_as_the_identity_and_keep_order_and_gradients(x64, element):
    x = jnp.concatenate([jnp.linspace(-3, 3, 61), jnp.array([-2.0, 2.0, -1e6, 1e6])])
    unconstrained = jnp.asarray(np.random.default_rng(0).normal(0, 2, (len(x), element.size)))

    @jax.jit
    def everything(unconstrained):
        z, log_derivative = element.forward(x, unconstrained)
        slope = jax.vmap(jax.grad(lambda x, u: element.forward(x[None], u[None])[0][0]))(x, unconstrained)
        back = element.inverse(z, unconstrained)
        gradients = [
            jax.grad(lambda x, u, d=d: sum(p.sum() for p in d(x, u)), (0, 1))(x, unconstrained)
            for d in (element.forward, element.inverse)
        ]
        return z, log_derivative, slope, back, gradients

    z, log_derivative, slope, (back, inverse_log_derivative), gradients = everything(unconstrained)
    np.testing.assert_allclose(np.log(slope), log_derivative, atol=1e-10)
    np.testing.assert_allclose(back, x, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(inverse_log_derivative, -log_derivative, atol=1e-9)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    z, log_derivative, *_ = everything(jnp.zeros_like(unconstrained))
    np.testing.assert_allclose(z, x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_derivative, 0, atol=1e-12)
    z = element.forward(x[:61], jnp.broadcast_to(unconstrained[:1], (61, element.size)))[0]
    assert (np.diff(z) > 0).all()


def test_a_spline_is_the_quadratic_of_its_knots(x64):
    """Two bins with known knots: width shares 1/4, height shares 3/4, slope 2 at the inner knot (paper, equation 4)."""
    unconstrained = jnp.array([[0.0, np.log(3.0), np.log(3.0), 0.0, np.log(np.expm1(2.0)) - np.log(np.expm1(1.0))]])
    z, _ = Spline(bins=2, bound=1.0).forward(jnp.array([-0.75]), unconstrained)
    width, height = 0.5, 1.5  # of the first bin, from (-1, -1)
    s, xi, d0, d1 = height / width, 0.5, 1.0, 2.0
    expected = -1 + height * (s * xi**2 + d0 * xi * (1 - xi)) / (s + (d0 + d1 - 2 * s) * xi * (1 - xi))
    assert float(z[0]) == pytest.approx(expected, abs=6e-3)  # bins and slopes have least sizes of 1e-3


@pytest.mark.parametrize("name", ["autoregressive", "spline autoregressive", "inverse autoregressive"])
def test_an_autoregressive_map_is_triangular(x64, name):
    x = jnp.asarray(POINTS[:20])
    forward, inverse = applied(MAPS[name], random_variables(MAPS[name], x))
    for direction in (forward, inverse):
        check_autoregressive(lambda row, d=direction: d(row[None])[0][0], x, strict=False)


@pytest.mark.parametrize("name", ["coupling", "autoregressive", "inverse autoregressive"])
def test_one_element_follows_its_context(x64, name):
    module, x = MAPS[name].clone(dims=1), jnp.asarray(POINTS[:, :1])
    variables = random_variables(module, x, jnp.zeros((len(x), 2)))
    outputs = [applied(module, variables, jnp.array(c))[0](x) for c in ([0.0, 1.0], [2.0, 0.0])]
    for one, two in zip(*outputs, strict=True):
        assert np.abs(one - two).min() > 1e-3
    slope = outputs[0][0] / x  # affine, with parameters that do not depend on x
    assert np.ptp(np.diff(outputs[0][0][:, 0]) / np.diff(x[:, 0])) < 1e-8, slope


def test_normalization_starts_at_the_moments_of_the_first_rows():
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (50, 2)), jnp.float32)
    flow = Flow((ActNorm(), Coupling(hidden=(4,)), ActNorm()), dims=2)
    variables = flow.init(KEY, x, method="forward")
    z, log_det = flow.apply(variables, x, method="forward")
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(log_det, -np.log(x.std(0)).sum(), rtol=1e-5)
    of_one_row = flow.init(KEY, x[:1], method="forward")["params"]["bijections_0"]
    np.testing.assert_allclose(of_one_row["log_scale"], 0)
    of_noise = flow.init(KEY, x, method="inverse")["params"]["bijections_0"]
    np.testing.assert_allclose(of_noise["loc"], 0)


def test_samples_of_a_conditional_follow_features_and_score_as_their_noise():
    flow = Flow(steps(Autoregressive(hidden=(8,)), 2), dims=2)
    features = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 3)), jnp.float32)
    variables = random_variables(flow, jnp.zeros((1, 4, 2)), features, 0.3)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), variables)

    @jax.jit
    def draw(variables):
        def body(module):
            p = module(features)
            x = p.sample(KEY, (5, 4))
            return x, p.log_prob(x), module.forward(x, features)

        return flow.apply(variables, method=body)

    x, log_p, (z, log_det) = draw(variables)
    assert x.shape == (5, 4, 2) and log_p.shape == (5, 4, 1)
    expected = -0.5 * np.square(z).sum(-1) - np.log(2 * np.pi) + log_det
    np.testing.assert_allclose(log_p[..., 0], expected, rtol=1e-4, atol=1e-5)
    unconditional = flow.apply(random_variables(flow, jnp.zeros((1, 1, 2))), method=lambda module: module())
    assert unconditional.num_examples == 1 and unconditional.shape == (2,)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="expected bins to be an integer from 1 to 500, got 0"):
        Spline(bins=0)
    with pytest.raises(ValueError, match="expected bound > 0, got -1"):
        Spline(bound=-1)
    with pytest.raises(ValueError, match="expected a flow of at least 1 element, got 0"):
        Flow(()).init(KEY, jnp.zeros((1, 1)), method="forward")
