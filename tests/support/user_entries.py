"""Entries as a user writes them, by hand and with implicit promotion; a field `broken` names a mistake in each."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.priors.base import Prior
from dgmzoo.model.contract import Draw, Evidence, Latent, Query

LOG_2PI = 1.8378770664093453


def bernoulli(logits, x):
    """`log p(x)` of bits, summed over the last axis."""
    return (x * logits - nn.softplus(logits)).sum(-1)


class AffineFlow(nn.Module):
    """Continuous x in two dimensions: an affine map of x0, and one of x1 given x0.

    `broken`: the "log-determinant" is forgotten, its "sign" is wrong, the "inverse" has the scale of the forward map.
    """

    broken: str = ""

    bound = "exact"

    def setup(self):
        self.first = self.param("first", nn.initializers.constant(0.3), (2,))
        self.net = nn.Dense(2)

    def evidence(self, batch, query: Query) -> Evidence:
        x = batch["x"]
        shift, log_scale = self._second(x[:, 0])
        z0 = (x[:, 0] - self.first[0]) * jnp.exp(-self.first[1])
        z1 = (x[:, 1] - shift) * jnp.exp(-log_scale)
        log_det = -self.first[1] - log_scale
        log_det = {"log-determinant": 0.0 * log_det, "sign": -log_det}.get(self.broken, log_det)
        return Evidence((-0.5 * (z0**2 + z1**2) - LOG_2PI + log_det)[None])

    def generate(self, num, context=None) -> Draw:
        z = jax.random.normal(self.make_rng("sample"), (num, 2))
        x0 = self.first[0] + jnp.exp(self.first[1]) * z[:, 0]
        shift, log_scale = self._second(x0)
        log_scale = -log_scale if self.broken == "inverse" else log_scale
        return Draw(jnp.stack([x0, shift + jnp.exp(log_scale) * z[:, 1]], -1))

    def _second(self, x0):
        shift, log_scale = jnp.split(self.net(jnp.tanh(x0)[:, None]), 2, -1)
        return 1 + 2 * shift[:, 0], 0.7 + 0.5 * jnp.tanh(log_scale[:, 0])


class Autoregressive(nn.Module):
    """Four bits, each a logistic regression on those before it.

    `broken`: the "order" of sampling is not that of conditioning, an element depends on "itself", the "sign" of log p is
    wrong, a "parameter" is unused, rows of a batch "mix", the count of "calls" changes its shape, tracing has a "side effect", and the
    density is in "half" precision.
    """

    broken: str = ""

    bound = "exact"
    traces = 0  # of all modules

    def setup(self):
        self.weights = self.param("weights", nn.initializers.normal(1.0), (4, 4))
        self.bias = self.param("bias", nn.initializers.normal(0.5), (4,))
        if self.broken == "parameter":
            self.param("unused", nn.initializers.ones, (2,))
        if self.broken == "calls":
            self.calls = self.variable("calls", "num", lambda: jnp.zeros(()))

    def evidence(self, batch, query: Query) -> Evidence:
        x = batch["x"]
        if "mask" in batch and self.broken != "mask":
            raise ValueError("expected x without a mask, got one")
        logits = self._logits(x)
        if self.broken == "mix":
            logits = logits + 0.1 * x.mean(0)
        if self.broken == "side effect":
            Autoregressive.traces += 1
            logits = logits * Autoregressive.traces
        if self.broken == "calls" and query.train and not self.is_initializing():
            self.calls.value = jnp.zeros((2,))
        log_p = bernoulli(logits, x)
        log_p = {"sign": -log_p, "half": log_p.astype(jnp.bfloat16)}.get(self.broken, log_p)
        return Evidence(log_p[None], parameters={"mean": nn.sigmoid(logits)[None]})

    def generate(self, num, context=None) -> Draw:
        x = jnp.zeros((num, 4))
        for d in range(4):
            noise = jax.random.uniform(self.make_rng("sample"), (num,))
            x = x.at[:, d].set(noise < nn.sigmoid(self._logits(x)[:, d]))
        return Draw(x)

    def _logits(self, x):
        weights = {"order": jnp.triu(self.weights, 1), "itself": jnp.tril(self.weights)}
        return x @ weights.get(self.broken, jnp.tril(self.weights, -1)).T + self.bias


class BitsVAE(nn.Module):
    """Images of four bits with two latent bits, and missing elements.

    `broken`: "given" samples are ignored, or their "shape" is not checked; the mask is "inverted", "ignored", or hidden
    elements reach the "encoder"; the "kl" is halved, and given samples are scored otherwise in "training".
    `contrast` scales all logits: with a small one the density is nearly uniform.
    """

    broken: str = ""
    contrast: float = 1.0

    bound = "elbo"

    def setup(self):
        self.encoder, self.decoder = nn.Dense(2), nn.Dense(4)
        self.prior = self.param("prior", nn.initializers.zeros, (2,))

    def evidence(self, batch, query: Query) -> Evidence:
        x = batch["x"].reshape(-1, 4)
        mask = batch.get("mask", jnp.ones(x.shape, bool)).reshape(-1, 4)
        mask = {"inverted": ~mask, "ignored": jnp.ones_like(mask)}.get(self.broken, mask)
        q = self.contrast * self.encoder(2 * (x if self.broken == "encoder" else jnp.where(mask, x, 0.5)) - 1)
        shape = (query.num_samples, *q.shape)
        if "z" in query.given and self.broken != "given":
            z = query.given["z"]
            if z.shape != shape and self.broken != "shape":
                raise ValueError(f"expected given z of shape {shape}, got {z.shape}")
        else:
            z = (jax.random.uniform(self.make_rng("sample"), shape) < nn.sigmoid(q)).astype(x.dtype)
        log_q, log_p = bernoulli(q, z), bernoulli(self.contrast * self.prior, z)
        kl = (nn.sigmoid(q) * (q - self.contrast * self.prior) - nn.softplus(q)) + nn.softplus(
            self.contrast * self.prior
        )
        if self.broken == "kl":
            kl = 0.5 * kl
        if self.broken == "training" and query.train and query.given:
            log_q = log_q + 0.1
        latent = Latent(z, z, log_p, log_q, kl[None], {"logits": q[None], "mean": nn.sigmoid(q)[None]})
        logits = self.contrast * self.decoder(2 * z - 1)
        terms = jnp.where(mask, jnp.where(mask, x, 0) * logits - nn.softplus(logits), 0)
        mean = nn.sigmoid(logits).reshape(*z.shape[:2], *batch["x"].shape[1:])
        return Evidence(terms.sum(-1), {"z": latent}, parameters={"mean": mean})

    def generate(self, num, context=None) -> Draw:
        prior = nn.sigmoid(self.contrast * self.prior)
        z = (jax.random.uniform(self.make_rng("sample"), (num, 2)) < prior).astype(jnp.float32)
        mean = nn.sigmoid(self.contrast * self.decoder(2 * z - 1))
        x = jax.random.uniform(self.make_rng("sample"), mean.shape) < mean
        return Draw(x.astype(jnp.float32).reshape(num, 2, 2), mean.reshape(num, 2, 2))


class Tokens(nn.Module):
    """Sequences of three tokens, each given the one before it, that end with token 2 or at their third step.

    `broken`: "padding" counts, "length" counts one step too few.
    """

    broken: str = ""
    end: int = 2

    bound = "exact"

    def setup(self):
        self.table = self.param("table", nn.initializers.normal(1.0), (4, 3))  # the last row starts a sequence

    def evidence(self, batch, query: Query) -> Evidence:
        x, length = batch["x"], batch["length"]
        before = jnp.concatenate([jnp.full_like(x[:, :1], 3), x[:, :-1]], 1)
        log_p = jnp.take_along_axis(nn.log_softmax(self.table[before]), x[..., None], -1)[..., 0]
        steps = length - 1 if self.broken == "length" else length
        inside = jnp.arange(x.shape[1]) < steps[:, None]
        log_p = log_p if self.broken == "padding" else jnp.where(inside, log_p, 0)
        return Evidence(log_p.sum(1)[None])

    def generate(self, num, context=None) -> Draw:
        token, tokens = jnp.full(num, 3), []
        for _ in range(3):
            token = jax.random.categorical(self.make_rng("sample"), self.table[token])
            tokens.append(token)
        x = jnp.stack(tokens, 1)
        is_end = x == self.end
        return Draw(x, length=jnp.where(is_end.any(1), is_end.argmax(1) + 1, 3))


class CorrelatedPrior(Prior):
    """A normal prior with a full covariance and its own mean.

    `broken`: the factor of the density is "transposed", its "mean" is forgotten, or its "log-determinant".
    """

    broken: str = ""

    @nn.compact
    def __call__(self, above=None, query=None) -> Conditional:
        mean = self.param("mean", nn.initializers.ones, (self.units,))
        free = self.param("factor", nn.initializers.ones, (self.units, self.units))
        factor = jnp.tril(free, -1) + jnp.diag(jnp.exp(0.3 * jnp.diag(free)))

        def log_prob(z):
            used = factor.T if self.broken == "transposed" else factor
            centred = z if self.broken == "mean" else z - mean
            noise = jnp.linalg.solve(used, centred[..., None])[..., 0]
            log_det = 0.0 if self.broken == "log-determinant" else jnp.log(jnp.diag(factor)).sum()
            return (-0.5 * (jnp.square(noise) + LOG_2PI).sum(-1) - log_det)[..., None]

        def sample(key, leading):
            return mean + jax.random.normal(key, (*leading, self.units)) @ factor.T

        return Conditional(log_prob, sample)
