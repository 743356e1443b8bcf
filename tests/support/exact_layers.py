"""Layers of one unit, in double precision, under quadrature: of their densities, and of their noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from dgmzoo.layers.latents import base
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.zoo.vae.vae import VAE
from tests.support.noise_quadrature import NODES, WEIGHTS

PIECEWISE = PiecewiseNormal
LAYERS = {
    "normal": VariationalLayer(learned_prior=True),
    "horseshoe": HorseshoeLayer(),
    "horseshoe without slab": HorseshoeLayer(slab=None),
    "rectified": RectifiedLayer(),
    "smooth": RectifiedLayer(smooth=True),
    "piecewise": PiecewiseLayer(pieces=3),
    "piecewise prior": VariationalLayer(prior=PIECEWISE),
    "piecewise both": PiecewiseLayer(prior=PIECEWISE, pieces=4),
    "piecewise centred": PiecewiseLayer(prior=PIECEWISE, pieces=3, centred=True),
    "normal, piecewise centred": PiecewiseLayer(posterior=dist.Normal, prior=PIECEWISE, centred=True),
}
DOUBLE = {"horseshoe", "horseshoe without slab"}  # layers with two variables a unit
WIDE = ((0.25, 12.0), (0.1, 7.0))  # step and reach of their grids: all there is
NARROW = ((0.15, 4.8), (0.07, 2.1))  # where the posterior is
X = np.array([[0.8]])


def softplus(unconstrained):
    return np.logaddexp(0, unconstrained + np.log(np.expm1(1)))


class Subject:
    """A VAE with one unit between linear networks, x in one dimension, and parameters of some size."""

    def __init__(self, name):
        self.name, self.layer = name, LAYERS[name]
        self.model = functional(
            VAE(1, latent=self.layer, encoder=MLP(()), decoder=MLP(()), likelihood=Normal(), shape=(1,))
        )
        born = jax.jit(self.model.init)(jax.random.key(0), {"x": jnp.asarray(X, jnp.float32)})["params"]
        leaves, structure = jax.tree.flatten(born)
        sizes = np.cumsum([leaf.size for leaf in leaves])
        random = np.random.default_rng(len(name))
        self.split = lambda vector: jax.tree.unflatten(
            structure,
            [part.reshape(leaf.shape) for part, leaf in zip(jnp.split(vector, sizes[:-1]), leaves, strict=True)],
        )
        params = jax.tree.map(lambda leaf: random.uniform(-0.7, 0.7, leaf.shape), born)
        params["likelihood"]["Dense_0"]["kernel"][:, 1] = 0  # the scale of x is the same for all z
        if name in DOUBLE:  # a posterior that is smooth on a coarse grid
            head = params["z"]["posterior_head"]
            head["kernel"], head["bias"] = 0.3 * head["kernel"], np.array([0.3, -1.0, 0.2, -1.6])
        self.start = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])

    @property
    def params(self):
        return self.split(jnp.asarray(self.start))

    def ask(self, vector, num, train, given=None):
        """The evidence of x at samples `given` `[N, 1, 1, ...]`, or at any."""
        return jax.device_get(self._compiled(jnp.asarray(vector), given, num, train))

    @functools.cached_property
    def _compiled(self):
        def asked(vector, given, num, train):
            query = Query(num, train=train, given={} if given is None else {"z": given})
            variables = {"params": self.split(vector)}
            return self.model.evidence(variables, {"x": jnp.asarray(X)}, jax.random.key(0), query)[0]

        return jax.jit(asked, static_argnums=(2, 3))

    def drawn(self, vector, noise, train):
        """The evidence of x at the samples that `noise` `[N, 1, 1, ...]` makes, along their path."""
        sample = base.pathwise.sample
        base.pathwise.sample = functools.partial(_from_noise, noise)
        try:
            variables, query = {"params": self.split(vector)}, Query(len(noise), train=train)
            return self.model.evidence(variables, {"x": jnp.asarray(X)}, jax.random.key(0), query)[0]
        finally:
            base.pathwise.sample = sample

    def posterior(self, vector):
        """The distribution of the sample, by the parameters that the layer reports."""
        q = self._compiled(vector, None, 1, True).latents["z"].q
        if "scales" in q:
            return PiecewiseNormal(q["loc"][0, 0, 0], q["scales"][0, 0, 0])
        return dist.Normal(q["loc"][0, 0, 0], q["scale"][0, 0, 0])

    def prior(self, vector):
        """The learned piecewise prior."""
        unconstrained = self.split(vector)["z"]["prior_parameters"]["unconstrained"][0]
        return PiecewiseNormal(unconstrained[0], jnp.logaddexp(0.0, unconstrained[1:] + np.log(np.expm1(1))))

    def jumps(self, vector):
        """Where densities or slopes jump, in the sample."""
        return jax.device_get(self._jumps(jnp.asarray(vector))[0])

    def noise_jumps(self, vector):
        """The same in the posterior's noise."""
        return jax.device_get(self._jumps(jnp.asarray(vector))[1])

    @functools.cached_property
    def _jumps(self):
        def both(vector):
            q, found = self.posterior(vector), [jnp.zeros(0)]
            if self.name == "rectified":
                found.append(jnp.zeros(1))
            elif getattr(self.layer, "posterior", None) is PIECEWISE:
                found.append(q.breakpoints)
            if getattr(self.layer, "prior", None) is PIECEWISE:
                p = self.prior(vector)
                found.append(p.breakpoints if getattr(self.layer, "centred", False) else p.edges)
            jumps = jnp.concatenate(found)
            return jumps, q.inverse(jumps) if isinstance(q, PiecewiseNormal) else (jumps - q.loc) / q.scale

        return jax.jit(both)

    def samples(self, vector, steps=None):
        """Nodes `[N, 1, 1, ...]` and weights `[N]` over the sample, which do not move with the posterior."""
        if self.name in DOUBLE:
            (step, reach), (other, other_reach) = steps or WIDE
            return _grid(step, reach, other, other_reach)
        x, w = panels(self.jumps(vector), reach=14.0)
        return x[:, None, None], w

    def noise(self):
        """Nodes and weights `[N]` over the posterior's noise."""
        if self.name in DOUBLE:
            x, w = _grid(0.3, 7.5, 0.3, 7.5)
            return x, w * jnp.exp(-jnp.square(x).sum((1, 2, 3)) / 2) / (2 * np.pi)
        x, w = panels(self.noise_jumps(self.start), reach=10.0)
        return x[:, None, None], w * jnp.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


subject_of = functools.cache(Subject)  # its programs are shared by the tests of a file


def panels(splits, reach, width=1.0):
    """Gauss-Legendre nodes and weights over [-reach, reach] in panels that end at `splits`."""
    inner = [float(split) for split in np.ravel(splits) if abs(split) < reach]
    edges = np.array(sorted({*np.arange(-reach, reach + width / 2, width), *inner}))
    half = np.diff(edges)[:, None] / 2
    nodes = edges[:-1, None] + half * (1 + NODES[None])
    return jnp.asarray(nodes.ravel()), jnp.asarray((half * WEIGHTS[None]).ravel())


def _grid(step, reach, other_step, other_reach):
    """The trapezoid rule in two dimensions: exact to rounding for what is smooth and gone at the ends."""
    a, b = np.arange(-reach, reach, step), np.arange(-other_reach, other_reach, other_step)
    pairs = np.stack([each.ravel() for each in np.meshgrid(a, b)], -1)
    return jnp.asarray(pairs[:, None, None]), jnp.full(len(pairs), step * other_step)


def _from_noise(noise, q, key, num):
    if isinstance(q, PiecewiseNormal):
        return q.transform(noise)
    return q.loc + q.scale * noise
