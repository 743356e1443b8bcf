"""The gradient of every estimator of random weights is exact on average, by quadrature over its noise and over the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.weights.base import PiecewiseWeights, RectifiedWeights, VariationalWeights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.zoo.ddnn.regression import Regression
from tests.support.unconstrained_weights import KEY, unconstrained_of

NODES, HERMITE = np.polynomial.hermite_e.hermegauss(40)
KINDS = {
    "local": VariationalWeights(estimator="local"),
    "piecewise": PiecewiseWeights(pieces=3),
    "horseshoe": HorseshoeWeights(),
    "flipout": VariationalWeights(estimator="flipout"),
    "shared": VariationalWeights(estimator="shared"),
    "rectified": RectifiedWeights(),
}
THOROUGH = ("flipout", "shared", "rectified")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.thorough] * (name in THOROUGH)) for name in KINDS]
)
def test_the_gradient_of_every_estimator_is_exact_on_average(x64, monkeypatch, name):
    """A logistic regression on one input: the gradient of the loss, averaged over the noise by quadrature."""
    kind, num_data, context, x = KINDS[name], 7, 1.3, 1.0
    model = functional(Regression(likelihood=Bernoulli(weights=kind), shape=(1,)))
    batch = {"x": jnp.full((1, 1), x), "context": jnp.full((1, 1), context)}
    unconstrained, noise = unconstrained_of(kind, (1, 1), seed=2), []

    def next_noise(key, shape=(), dtype=float):  # the layer draws scales first, then weights
        return jnp.broadcast_to(jnp.asarray(noise.pop(0), dtype), shape)

    def loss(unconstrained, *values):
        noise[:] = values
        params = {"likelihood": {"VariationalDense_0": {**unconstrained, "bias": jnp.asarray([0.2])}}}
        return ELBO()(model, {"params": params}, batch, KEY, jnp.asarray(0), num_data)[0]

    monkeypatch.setattr(jax.random, "normal", next_noise)
    if name == "horseshoe":
        grid = [axis.ravel() for axis in np.meshgrid(*(3 * (NODES,)), indexing="ij")]
        weight = np.prod(np.meshgrid(*(3 * (HERMITE / HERMITE.sum(),)), indexing="ij"), 0).ravel()
        keep = weight > 1e-14
        grid, weight = [axis[keep] for axis in grid], weight[keep]
    else:
        axis, step = np.linspace(-9, 9, 40_001, retstep=True)
        grid, weight = [axis], stats.norm.pdf(axis) * step
    gradient = jax.jit(jax.vmap(jax.grad(loss), (None, *(0 for _ in grid))))(unconstrained, *map(jnp.asarray, grid))
    mean = jax.tree.map(lambda leaf: np.tensordot(weight, leaf, 1), gradient)

    def exact(unconstrained):
        expected = expected_likelihood(kind, unconstrained, lambda w: jax.nn.log_sigmoid(w * context + 0.2))
        return -expected + kind.kl(unconstrained, KEY) / num_data

    expected = jax.jit(jax.grad(exact))(unconstrained)
    for name in unconstrained:
        np.testing.assert_allclose(mean[name], expected[name], atol=3e-5, rtol=1e-4)
        assert np.abs(expected[name]).max() > 1e-3


def expected_likelihood(kind, unconstrained, of):
    """E_q of(w), over nodes that do not move with the parameters."""

    def gaussian(at, unconstrained):
        return jax.scipy.stats.norm.pdf(
            at, unconstrained[0], jax.nn.softplus(unconstrained[1] + jnp.log(jnp.expm1(1.0)))
        )

    grid, step = jnp.linspace(-25, 25, 60_001), 50 / 60_000
    if isinstance(kind, HorseshoeWeights):
        grid, step = jnp.linspace(-9, 9, 121), 0.15
        local, tau = gaussian(grid, unconstrained["local"][0]), gaussian(grid, unconstrained["tau"])
        unit = gaussian(grid, unconstrained["kernel"][0, 0])
        log_scale = grid[:, None] + grid[None]
        scale = jnp.exp(log_scale) / jnp.sqrt(1 + jnp.exp(2 * log_scale) / kind.slab**2)
        value = of(scale[..., None] * grid[None, None])
        return jnp.einsum("a,b,c,abc->", local, tau, unit, value) * step**3
    if isinstance(kind, PiecewiseWeights):
        loc, scales = unconstrained["kernel"][0, 0, 0], unconstrained["kernel"][0, 0, 1:]
        q = PiecewiseNormal(loc, jax.nn.softplus(scales + jnp.log(jnp.expm1(1.0))))
        # The density jumps at points that move with the parameters. F is continuous, so integrate by parts: E f = int f dF.
        value = of(grid)
        cdf = q.cdf(grid)
        return value[-1] - (cdf * jnp.gradient(value, step)).sum() * step
    density = gaussian(grid, unconstrained["kernel"][0, 0])
    return (density * of(jnp.maximum(grid, 0) if isinstance(kind, RectifiedWeights) else grid)).sum() * step
