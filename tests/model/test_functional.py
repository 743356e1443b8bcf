"""The bound that a module declares is checked when its evidence is traced."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from dgmzoo.model.contract import Evidence, Query
from dgmzoo.model.functional import functional
from dgmzoo.zoo.vae.vae import VAE

BATCH = {"x": jnp.ones((2, 4))}


class Coin(nn.Module):
    """A density without latents that does not say what it is."""

    @nn.compact
    def evidence(self, batch, query: Query) -> Evidence:
        return Evidence(nn.log_sigmoid(self.param("logit", nn.initializers.zeros, ()) * batch["x"].sum(-1))[None])


def test_an_unknown_bound_is_refused():
    class Wrong(Coin):
        bound = "iwae"

    with pytest.raises(ValueError, match=r"bound of Wrong to be 'exact', 'elbo', 'predictive' or None .*got 'iwae'"):
        functional(Wrong())


def test_a_density_without_latents_says_what_it_is():
    with pytest.raises(ValueError, match=r"expected Coin, whose evidence has no latents, .*set bound = 'exact'"):
        jax.eval_shape(functional(Coin()).evidence, {"params": {"logit": jnp.zeros(())}}, BATCH, jax.random.key(0))


def test_an_exact_density_has_no_latents():
    class Exact(VAE):
        bound = "exact"

    model = functional(Exact(latent_dim=2, shape=(4,)))
    variables = jax.eval_shape(model.init, jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match=r"expected no latents in the evidence of Exact, .*got z; .*bound = 'elbo'"):
        jax.eval_shape(model.evidence, variables, BATCH, jax.random.key(1), Query())
