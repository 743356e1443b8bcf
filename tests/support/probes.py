"""Probes: small modules and objectives that need more of the contract than the zoo's entries do.

They exist for the battery and are not models to be used.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import log_likelihood, parameters, sample
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import MLP, flat
from dgmzoo.model.compatibility import Needs
from dgmzoo.model.contract import Draw, Evidence, Latent, Query
from dgmzoo.objectives.base import Objective
from dgmzoo.reparam.collectives import batch_sum


def all_codes(units: int) -> jax.Array:
    """Every binary code, `[2^U, U]`."""
    numbers = jnp.arange(2**units)[:, None]
    return ((numbers >> jnp.arange(units)[None]) & 1).astype(jnp.float32)


class MovingCodebook(nn.Module):
    """State: codes that are moving averages of the features nearest to them (van den Oord et al. 2017, appendix A.1)."""

    num_codes: int = 6
    width: int = 2
    decay: float = 0.9
    shape: tuple[int, ...] = (2, 2)

    bound = None
    collections = {"codebook": "equal"}

    @nn.compact
    def evidence(self, batch, query: Query) -> Evidence:
        x = batch["x"]
        count = self.variable("codebook", "count", jnp.ones, (self.num_codes, 1))
        total = self.variable("codebook", "total", lambda: self._start())
        features = nn.Dense(self.width)(2 * flat(x, self.shape) - 1)  # [B, W]
        codes = total.value / (count.value + 1e-6)  # [C, W]
        nearest = jnp.square(features[:, None] - codes[None]).sum(-1).argmin(-1)
        chosen = jax.nn.one_hot(nearest, self.num_codes)  # [B, C]
        code = chosen @ codes
        if query.train and not self.is_initializing():
            keep, fresh = self.decay, 1 - self.decay
            count.value = keep * count.value + fresh * batch_sum(chosen)[:, None]
            total.value = keep * total.value + fresh * batch_sum(chosen[..., None] * features[:, None])
        passed = features + jax.lax.stop_gradient(code - features)
        p = Bernoulli()(MLP((16,))(passed)[None], self.shape)
        loglik = jnp.repeat(log_likelihood(p, x), query.num_samples, 0)
        commitment = 0.25 * jnp.square(features - jax.lax.stop_gradient(code)).sum(-1)
        return Evidence(loglik, aux={"commitment": commitment}, parameters=parameters(p))

    def _start(self):
        return jax.random.normal(self.make_rng("params"), (self.num_codes, self.width))


class BoltzmannPrior(nn.Module):
    """A fully connected Boltzmann machine as prior of bits: chains on each device, and a log Z that `prepare` computes."""

    units: int = 3
    chains: int = 16
    shape: tuple[int, ...] = (2, 2)

    bound = "elbo"

    def setup(self):
        bits = dist.BernoulliLogits
        self.layer = VariationalLayer(units=self.units, posterior=bits, prior=bits)
        self.encoder, self.decoder, self.likelihood = MLP((16,)), MLP((16,)), Bernoulli()
        self.weights = self.param("weights", nn.initializers.normal(0.1), (self.units, self.units))
        self.bias = self.param("bias", nn.initializers.zeros, (self.units,))
        self.state = self.variable("local", "chains", lambda: self._noise() < 0.5)
        self.log_z = self.variable("prepared", "log_z", lambda: jnp.asarray(jnp.nan, jnp.float32))

    def evidence(self, batch, query: Query) -> Evidence:
        inferred = self.layer.infer(self.encoder(flat(batch["x"], self.shape)), query, "z")
        q, z = inferred.q, inferred.sample
        log_z = self.log_z.value
        if query.train:
            # The gradient of log Z is that of the mean potential of samples from the model; training does not need its value.
            log_z = self.potential(self._sweep()).mean()
        log_p = self.potential(z) - log_z
        log_q = q.log_prob(z).sum(-1)
        kl = (log_q - log_p)[..., None]  # dependent units count as one
        latent = Latent(z, z, log_p, log_q, kl, dict(q.parameters))
        p = self.likelihood(self.decoder(z), self.shape)
        return Evidence(log_likelihood(p, batch["x"]), {"z": latent}, parameters=parameters(p))

    def generate(self, num, context=None) -> Draw:
        codes = all_codes(self.units)
        chosen = jax.random.categorical(self.make_rng("sample"), self.potential(codes), shape=(num,))
        return sample(self.likelihood(self.decoder(codes[chosen][None]), self.shape), self.make_rng("sample"))

    def prepare(self):
        self.log_z.value = jax.nn.logsumexp(self.potential(all_codes(self.units)))

    def potential(self, z):
        return jnp.einsum("...i,ij,...j->...", z, self.weights, z) + jnp.einsum("...i,i->...", z, self.bias)

    def _noise(self):
        return jax.random.uniform(self.make_rng("sample"), (self.chains, self.units))

    def _sweep(self):
        """One round of Gibbs sampling of the chains `[C, U]`."""
        z, noise = self.state.value.astype(jnp.float32), self._noise()
        for unit in range(self.units):
            field = self.potential(z.at[:, unit].set(1.0)) - self.potential(z.at[:, unit].set(0.0))
            z = z.at[:, unit].set((noise[:, unit] < jax.nn.sigmoid(field)).astype(jnp.float32))
        z = jax.lax.stop_gradient(z)
        if not self.is_initializing():
            self.state.value = z > 0.5
        return z


class Labelled(nn.Module):
    """A context: a VAE of `p(x | label)`."""

    num_classes: int = 2
    shape: tuple[int, ...] = (2, 2)

    def setup(self):
        self.z = VariationalLayer(units=2)
        self.encoder, self.decoder, self.likelihood = MLP((16,)), MLP((16,)), Bernoulli()

    def evidence(self, batch, query: Query) -> Evidence:
        label = jax.nn.one_hot(batch["label"], self.num_classes)  # [B, C]
        features = jnp.concatenate([flat(batch["x"], self.shape), label], -1)
        z = self.z(self.encoder(features), query, "z")
        p = self._given(z.value, label)
        return Evidence(log_likelihood(p, batch["x"]), {"z": z}, parameters=parameters(p))

    def generate(self, num, context=None) -> Draw:
        if context is None or context["label"].shape != (num,):
            raise ValueError(f"expected context with a label for each of {num} draws, got {context}")
        label = jax.nn.one_hot(context["label"], self.num_classes)
        return sample(self._given(self.z.draw(num), label), self.make_rng("sample"))

    def _given(self, z, label):
        label = jnp.broadcast_to(label[None], (*z.shape[:2], self.num_classes))
        return self.likelihood(self.decoder(jnp.concatenate([z, label], -1)), self.shape)


class BayesianWeights(nn.Module):
    """Variational weights of its own: a logistic regression of each element on the elements before it.

    In training the K samples share one draw of the weights; evaluation uses the means of the weights.
    """

    shape: tuple[int, ...] = (2, 2)

    bound = "predictive"

    def setup(self):
        dims = self.shape[0] * self.shape[1]
        self.loc = self.param("loc", nn.initializers.normal(0.1), (dims, dims))
        self.unconstrained = self.param("unconstrained", nn.initializers.constant(-3.0), (dims, dims))
        self.bias = self.param("bias", nn.initializers.zeros, (dims,))

    def evidence(self, batch, query: Query) -> Evidence:
        below = jnp.tril(jnp.ones_like(self.loc), -1)
        scale = jax.nn.softplus(self.unconstrained)
        noise = jax.random.normal(self.make_rng("weights"), scale.shape) if query.train else jnp.zeros_like(scale)
        kl = 0.5 * (jnp.square(self.loc) + jnp.square(scale) - 1) - jnp.log(scale)
        p = self._conditionals(batch["x"], self.loc + scale * noise)
        loglik = jnp.repeat(log_likelihood(p, batch["x"]), query.num_samples, 0)
        return Evidence(loglik, weight_kl=(kl * below).sum(), parameters=parameters(p))

    def generate(self, num, context=None) -> Draw:
        x = jnp.zeros((num, *self.shape))
        for element in range(self.loc.shape[0]):
            fresh = sample(self._conditionals(x, self.loc), self.make_rng("sample")).x
            x = jnp.where((jnp.arange(self.loc.shape[0]) == element).reshape(1, *self.shape), fresh, x)
        return Draw(x, parameters(self._conditionals(x, self.loc))["mean"][0])

    def _conditionals(self, x, weights):
        logits = flat(x, self.shape) @ jnp.tril(weights, -1).T + self.bias[None]
        return dist.BernoulliLogits(logits.reshape(1, -1, *self.shape))


class LinearGaussian(nn.Module):
    """Probabilistic PCA with an amortized posterior: `x ~ N(W z + b, s^2 I)`, `z ~ N(0, I)`; s is shared by all dims."""

    units: int = 2
    shape: tuple[int, ...] = (5,)

    def setup(self):
        self.z = VariationalLayer(units=self.units)
        self.decoder = nn.Dense(self.shape[0])
        self.log_scale = self.param("log_scale", nn.initializers.zeros, ())

    def evidence(self, batch, query: Query) -> Evidence:
        z = self.z(flat(batch["x"], self.shape), query, "z")
        p = self._given(z.value)
        return Evidence(log_likelihood(p, batch["x"]), {"z": z}, parameters=parameters(p))

    def generate(self, num, context=None) -> Draw:
        return sample(self._given(self.z.draw(num)), self.make_rng("sample"))

    def _given(self, z):
        loc = self.decoder(z)
        return dist.Normal(loc, jnp.broadcast_to(jnp.exp(self.log_scale), loc.shape))


@dataclasses.dataclass(frozen=True)
class Enumeration(Objective):
    """An objective that gives samples: the exact ELBO of one layer of bits, from the evidence of every code."""

    layer: str = "z"
    units: int = 3

    needs: ClassVar[Needs] = Needs(gradient="enumeration", given=True)

    def __call__(self, model, variables, batch, key, step, num_data):
        codes = all_codes(self.units)
        every = jnp.broadcast_to(codes[:, None], (len(codes), batch["x"].shape[0], self.units))
        query = Query(len(codes), train=True, step=step, given={self.layer: every})
        evidence, updates = model.evidence(variables, batch, key, query)
        elbo = (jnp.exp(evidence.log_q) * evidence.log_weight).sum(0).mean()
        return -elbo, ({"loss": -elbo, "elbo": elbo}, updates)
