"""Probes of the sockets: priors, posteriors, likelihoods, networks and scans over time, as a user would write them.

Each is short. They exist for the battery and are not models to be used.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.latents.hierarchy import infer_top_down, sample_top_down
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.tokens import Tokens
from dgmzoo.layers.networks.mlp import MLP, check_shape, flat
from dgmzoo.layers.posteriors.base import Posterior
from dgmzoo.layers.priors.base import Prior
from dgmzoo.layers.sampling import ancestral, over_time
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Draw, Evidence, Query
from dgmzoo.reparam.collectives import DEVICES, has_device_axis
from dgmzoo.reparam.distributions import NormalMixture


def log_normal(x, loc=0.0, log_scale=0.0):
    """Log-density of a normal."""
    return -0.5 * jnp.square((x - loc) * jnp.exp(-log_scale)) - log_scale - 0.5 * jnp.log(2 * jnp.pi)


class FlowPrior(Prior):
    """An affine coupling of two units: z_2 = s(z_1) e_2 + m(z_1), with standard normal noise e."""

    @nn.compact
    def __call__(self, above=None, query=None):
        loc, log_scale = nn.Dense(1, name="loc"), nn.Dense(1, name="log_scale")

        def log_prob(z):
            first, second = z[..., :1], z[..., 1:]
            own = log_normal(second, loc(first), jnp.tanh(log_scale(first)))
            return jnp.concatenate([log_normal(first), own], -1).sum(-1, keepdims=True)

        def sample(key, leading):
            noise = jax.random.normal(key, (*leading, 2))
            first = noise[..., :1]
            return jnp.concatenate([first, loc(first) + jnp.exp(jnp.tanh(log_scale(first))) * noise[..., 1:]], -1)

        log_prob(jnp.zeros((1, 1, 2)))  # the parameters exist before a scan uses them
        return Conditional(log_prob, sample)


class AutoregressivePrior(Prior):
    """Each unit is normal around a linear function of the units before it."""

    @nn.compact
    def __call__(self, above=None, query=None):
        weights = self.param("weights", nn.initializers.normal(0.3), (self.units, self.units))
        below = jnp.tril(weights, -1)

        def sample(key, leading):
            noise = jax.random.normal(key, (*leading, self.units))

            def step(module, z, unit):
                value = (z @ below.T + noise)[..., unit]
                return z.at[..., unit].set(value), None

            return ancestral(self, step, jnp.zeros((*leading, self.units)), self.units)[0]

        return Conditional(lambda z: log_normal(z, z @ below.T), sample)


class InverseAutoregressive(Posterior):
    """z = m(e_<u, h) + s(e_<u, h) e: the sample is the noise e, and the value z has a triangular Jacobian."""

    @nn.compact
    def __call__(self, features):
        weights = self.param("weights", nn.initializers.normal(0.3), (2, self.units, self.units))
        loc, log_scale = jnp.split(nn.Dense(2 * self.units)(features), 2, -1)  # [K or 1, B, U]
        mean, scale = (jnp.tril(each, -1).T for each in weights)

        def transform(noise):
            log_s = jnp.tanh(log_scale + noise @ scale)
            return loc + noise @ mean + jnp.exp(log_s) * noise, log_s

        def sample(key, leading):
            return jax.random.normal(key, (*leading, self.units))

        parameters = {"loc": loc, "log_scale": log_scale}
        return Conditional(log_normal, sample, features.shape[1], None, loc, parameters, transform=transform)

    def facts(self):
        return Facts(posterior="InverseAutoregressive", samples_noise=True)


class TopDown(nn.Module):
    """Two layers that are inferred from the top down: q(z_2 | x) q(z_1 | x, z_2)."""

    latent: VariationalLayer = VariationalLayer()
    likelihood: Likelihood = Bernoulli()
    shape: tuple[int, ...] = (2, 2)

    def setup(self):
        self.layers = [self.latent.clone(units=1), self.latent.clone(units=1)]
        self.encoders, self.decoders = [MLP((8,)), MLP((8,))], [MLP((8,)), MLP((4,))]

    def evidence(self, batch, query):
        inputs = flat(batch["x"], self.shape)
        features = [encoder(inputs) for encoder in self.encoders]
        latents, h = infer_top_down(self.layers, features, self.decoders, query)
        p = self.likelihood(h, self.shape, batch)
        return Evidence(p.log_prob(batch["x"]), latents, parameters=p.parameters())

    def generate(self, num, context=None):
        latents, h = sample_top_down(self.layers, self.decoders, num)
        return self.likelihood(h, self.shape).draw(self.make_rng("sample"), latents)


class MixtureLikelihood(Likelihood):
    """A mixture of two normals for each element of x."""

    family = NormalMixture
    discrete = False


class NormalizedEncoder(nn.Module):
    """A network with batch statistics and dropout, which is told whether it trains."""

    @nn.compact
    def __call__(self, x, train: bool):
        axis = DEVICES if has_device_axis() else None
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, axis_name=axis)(nn.Dense(8)(x))
        return nn.Dropout(0.1, deterministic=not train)(nn.tanh(x))


class SequenceVAE(nn.Module):
    """Tokens with lengths, and one latent a step: z_t given z_{t-1}, x_t given z_t."""

    end: int = 0
    shape: tuple[int, ...] = (3,)
    likelihood: Likelihood = Tokens(vocabulary=3)

    def setup(self):
        self.z = VariationalLayer(units=1, posterior=dist.Laplace)  # heavy tails bound the importance weights
        self.encoder, self.transition = nn.Dense(4), nn.Dense(4)

    def evidence(self, batch, query: Query) -> Evidence:
        x, length = batch["x"], batch["length"]
        check_shape(x, self.shape)
        code = jax.nn.one_hot(x.T, 3)  # [T, B, V]

        def step(module, state, code, query):
            inputs = jnp.broadcast_to(code[None], (query.num_samples, *code.shape))
            h = nn.tanh(module.encoder(jnp.concatenate([inputs, state], -1)))
            z = module.z(h, query, "z", above=nn.tanh(module.transition(state)))
            return z.value, z, jnp.zeros(z.log_p.shape), None

        start = jnp.zeros((query.num_samples, len(x), 1))
        scan = over_time(self, step, start, code, query, "z", length)
        p = self.likelihood(scan.latents["z"].value, self.shape)
        return Evidence(p.log_prob(x, length=length), scan.latents)

    def generate(self, num, context=None) -> Draw:
        def step(module, state, index):
            state = module.z.draw(num, nn.tanh(module.transition(state)))
            return state, state[0]

        _, values = ancestral(self, step, jnp.zeros((1, num, 1)), 3)
        draw = self.likelihood(jnp.moveaxis(values, 0, 1)[None], self.shape).draw(self.make_rng("sample"))
        is_end = draw.x == self.end
        length = jnp.where(is_end.any(1), is_end.argmax(1) + 1, 3)
        return draw._replace(x=jnp.where(jnp.arange(3)[None] < length[:, None], draw.x, 0), length=length)
