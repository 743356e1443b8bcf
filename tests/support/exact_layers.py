"""Variational layers of one unit in double precision, under quadrature over their samples or over their noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.layers.latents import base
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.priors.base import LearnedPrior
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.zoo.vae.vae import VAE
from tests.support.noise_quadrature import NODES, WEIGHTS

PIECEWISE = PiecewiseNormal
LAYERS = {
    "normal": VariationalLayer(prior=LearnedPrior()),
    "horseshoe": HorseshoeLayer(),
    "rectified": RectifiedLayer(),
    "piecewise": PiecewiseLayer(pieces=3),
    "piecewise centred": PiecewiseLayer(prior=PIECEWISE, pieces=3, centred=True),
}
VARIANTS = {
    "horseshoe without slab": HorseshoeLayer(slab=None),
    "smooth": RectifiedLayer(smooth=True),
    "piecewise prior": VariationalLayer(prior=PIECEWISE),
    "piecewise both": PiecewiseLayer(prior=PIECEWISE, pieces=4),
    "normal, piecewise centred": PiecewiseLayer(posterior=dist.Normal, prior=PIECEWISE, centred=True),
}
NAMES = [*LAYERS, *(pytest.param(name, marks=pytest.mark.thorough) for name in VARIANTS)]
"""Names of all layers, as parameters of tests; variants are thorough."""
WITH_LOCAL_SCALE = {"horseshoe", "horseshoe without slab"}  # two variables a unit: z and the logarithm of its scale
WIDE = ((0.25, 12.0), (0.1, 7.0))  # step and reach of the grids of both variables, over all of the density
NARROW = ((0.15, 4.8), (0.07, 2.1))  # and over what the posterior covers
X = np.array([[0.8]])


def softplus(unconstrained):
    """The positive parameter of an unconstrained one, shifted so that 0 gives 1."""
    return np.logaddexp(0, unconstrained + np.log(np.expm1(1)))


class Subject:
    """A VAE with one latent unit between linear networks, x in one dimension, and parameters of order one.

    Parameters of the VAE pass as one vector `[P]`, `start` by default.
    """

    def __init__(self, name):
        self.name, self.layer = name, (LAYERS | VARIANTS)[name]
        self.model = functional(
            VAE(1, latent=self.layer, encoder=MLP(()), decoder=MLP(()), likelihood=Normal(), shape=(1,))
        )
        initial = jax.jit(self.model.init)(jax.random.key(0), {"x": jnp.asarray(X, jnp.float32)})["params"]
        leaves, structure = jax.tree.flatten(initial)
        ends = np.cumsum([leaf.size for leaf in leaves])
        random = np.random.default_rng(len(name))
        self.unflatten = lambda vector: jax.tree.unflatten(
            structure,
            [part.reshape(leaf.shape) for part, leaf in zip(jnp.split(vector, ends[:-1]), leaves, strict=True)],
        )
        params = jax.tree.map(lambda leaf: random.uniform(-0.7, 0.7, leaf.shape), initial)
        params["likelihood"]["Dense_0"]["kernel"][:, 1] = 0  # the scale of x is the same for all z
        if name in WITH_LOCAL_SCALE:  # a posterior that is smooth on a coarse grid
            head = params["z"]["posterior_head"]
            head["kernel"], head["bias"] = 0.3 * head["kernel"], np.array([0.3, -1.0, 0.2, -1.6])
        self.start = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])

    @property
    def params(self):
        return self.unflatten(jnp.asarray(self.start))

    def evidence_at(self, vector, given, train):
        """Evidence of x at given samples `[N, 1, 1, ...]`."""
        return jax.device_get(self._evidence(jnp.asarray(vector), given, len(given), train))

    @functools.cached_property
    def _evidence(self):
        def evidence(vector, given, num, train):
            query = Query(num, train=train, given={} if given is None else {"z": given})
            variables = {"params": self.unflatten(vector)}
            return self.model.evidence(variables, {"x": jnp.asarray(X)}, jax.random.key(0), query)[0]

        return jax.jit(evidence, static_argnums=(2, 3))

    def evidence_along_path(self, vector, noise, train):
        """Evidence of x at the samples that noise `[N, 1, 1, ...]` is transformed to, differentiable along that path."""
        original = base.pathwise.sample
        base.pathwise.sample = functools.partial(_from_noise, noise)
        try:
            variables, query = {"params": self.unflatten(vector)}, Query(len(noise), train=train)
            return self.model.evidence(variables, {"x": jnp.asarray(X)}, jax.random.key(0), query)[0]
        finally:
            base.pathwise.sample = original

    def posterior(self, vector):
        """The distribution of the sample, from the parameters that the layer reports."""
        q = self._evidence(vector, None, 1, True).latents["z"].q
        if "scales" in q:
            return PiecewiseNormal(q["loc"][0, 0, 0], q["scales"][0, 0, 0])
        return dist.Normal(q["loc"][0, 0, 0], q["scale"][0, 0, 0])

    def prior(self, vector):
        """The learned piecewise prior."""
        unconstrained = self.unflatten(vector)["z"]["p"]["free"]["unconstrained"][0]
        return PiecewiseNormal(unconstrained[0], jnp.logaddexp(0.0, unconstrained[1:] + np.log(np.expm1(1))))

    def jumps(self, vector):
        """Points of the sample space at which a density or its slope jumps."""
        return jax.device_get(self._jumps(jnp.asarray(vector))[0])

    def noise_jumps(self, vector):
        """The same points in the posterior's noise."""
        return jax.device_get(self._jumps(jnp.asarray(vector))[1])

    @functools.cached_property
    def _jumps(self):
        def jumps(vector):
            q, points = self.posterior(vector), [jnp.zeros(0)]
            if self.name == "rectified":
                points.append(jnp.zeros(1))
            elif getattr(getattr(self.layer, "posterior", None), "family", None) is PIECEWISE:
                points.append(q.breakpoints)
            if getattr(getattr(self.layer, "prior", None), "family", None) is PIECEWISE:
                p = self.prior(vector)
                points.append(p.breakpoints if getattr(self.layer, "centred", False) else p.edges)
            points = jnp.concatenate(points)
            return points, q.inverse(points) if isinstance(q, PiecewiseNormal) else (points - q.loc) / q.scale

        return jax.jit(jumps)

    def samples(self, vector, steps=None):
        """Nodes `[N, 1, 1, ...]` and weights `[N]` over the sample; nodes do not move with smooth posteriors."""
        if self.name in WITH_LOCAL_SCALE:
            (step, reach), (other, other_reach) = steps or WIDE
            return _grid(step, reach, other, other_reach)
        x, w = panels(self.jumps(vector), reach=14.0)
        return x[:, None, None], w

    def noise(self):
        """Nodes `[N, 1, 1, ...]` and weights `[N]` of an expectation over the posterior's noise."""
        if self.name in WITH_LOCAL_SCALE:
            x, w = _grid(0.3, 7.5, 0.3, 7.5)
            return x, w * jnp.exp(-jnp.square(x).sum((1, 2, 3)) / 2) / (2 * np.pi)
        x, w = panels(self.noise_jumps(self.start), reach=10.0)
        return x[:, None, None], w * jnp.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    def densities(self, train, vector=None, steps=WIDE):
        """Weights `[N]` of a quadrature over the sample, a point mass included, and the evidence at its nodes."""
        vector = self.start if vector is None else vector
        nodes, weights = self.samples(vector, steps)
        if self.name == "rectified" and not train:  # all y below 0 are the same z
            weights = jnp.where(nodes[:, 0, 0] > 0, weights, 0)
            nodes, weights = jnp.concatenate([nodes, jnp.full((1, 1, 1), -1.0)]), jnp.append(weights, 1.0)
        evidence = self.evidence_at(vector, nodes, train)
        if self.name in WITH_LOCAL_SCALE and not train:  # densities are those of z alone: keep one value of its scale
            one = jnp.isclose(nodes[:, 0, 0, 1], nodes[0, 0, 0, 1])
            weights = jnp.where(one, steps[0][0], 0)
        return weights, evidence


subject_of = functools.cache(Subject)  # the tests of a file share its programs


def panels(splits, reach, width=1.0):
    """Gauss-Legendre nodes and weights over [-reach, reach] in panels that end at `splits`."""
    inner = [float(split) for split in np.ravel(splits) if abs(split) < reach]
    edges = np.array(sorted({*np.arange(-reach, reach + width / 2, width), *inner}))
    half = np.diff(edges)[:, None] / 2
    nodes = edges[:-1, None] + half * (1 + NODES[None])
    return jnp.asarray(nodes.ravel()), jnp.asarray((half * WEIGHTS[None]).ravel())


def _grid(step, reach, other_step, other_reach):
    """The trapezoid rule in two dimensions, exact to rounding for smooth functions that vanish at the ends."""
    a, b = np.arange(-reach, reach, step), np.arange(-other_reach, other_reach, other_step)
    pairs = np.stack([axis.ravel() for axis in np.meshgrid(a, b)], -1)
    return jnp.asarray(pairs[:, None, None]), jnp.full(len(pairs), step * other_step)


def _from_noise(noise, q, key, num):
    if isinstance(q, PiecewiseNormal):
        return q.transform(noise)
    return q.loc + q.scale * noise
