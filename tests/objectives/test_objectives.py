"""Objectives against values computed by hand, and refusals of layers and settings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.config.layer_check import check_fields
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.contract import Evidence, Latent, Model
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, log_mean_exp
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.vae import VAE

# Two samples, two examples, two units.
LOGLIK = jnp.array([[-1.0, -2.0], [-3.0, -4.0]])  # mean -2.5
LOG_P, LOG_Q = jnp.array([[-1.0, -1.0], [-2.0, -2.0]]), jnp.array([[-0.5, -1.5], [-0.5, -0.5]])
KL = jnp.array([[[0.1, 0.6], [0.3, 1.0]]])  # mean by unit .2, .8
NUM_DATA = 10


def constant_model(weight_kl=0.0, aux=None):
    """A model with the evidence above for every query."""
    zeros = jnp.zeros((2, 2, 2))
    latent = Latent(zeros, zeros, LOG_P, LOG_Q, KL, {"mean": zeros})
    evidence = Evidence(LOGLIK, {"z": latent}, weight_kl, aux or {})
    return Model(None, lambda *arguments: (evidence, {}), None, None, "elbo")


def evaluate(objective, model=None, step=0, variables=None):
    batch = {"x": jnp.zeros((2, 3))}
    model = model or constant_model()
    return objective(model, variables or {}, batch, jax.random.key(0), jnp.asarray(step), NUM_DATA)


def test_the_elbo_is_the_likelihood_less_the_divergence():
    loss, (metrics, _) = evaluate(ELBO(2))
    assert loss == pytest.approx(2.5 + 1.0)
    assert metrics["elbo"] == pytest.approx(-3.5)
    assert metrics["kl/z"] == pytest.approx(1.0)
    assert metrics["loss"] == pytest.approx(3.5)


@pytest.mark.parametrize(
    "step, weight",
    [(0, 1 / 4), (1, 2 / 4), (3, 1), (100, 1)],
)
def test_beta_rises_linearly_over_the_warmup(step, weight):
    loss, (metrics, _) = evaluate(ELBO(2, beta=3.0, warmup_steps=4), step=step)
    assert loss == pytest.approx(2.5 + 3 * weight * 1.0)
    assert metrics["elbo"] == pytest.approx(-3.5), "the metric is the bound itself"


def test_free_bits_are_a_floor_for_each_unit():
    assert evaluate(ELBO(2, free_bits=0.5))[0] == pytest.approx(2.5 + 0.5 + 0.8)
    assert evaluate(ELBO(2, free_bits=0.1))[0] == pytest.approx(2.5 + 1.0)
    assert evaluate(ELBO(2, free_bits=2.0))[0] == pytest.approx(2.5 + 4.0)


@pytest.mark.parametrize("objective, plain", [(ELBO(2), 3.5), (IWAE(2), None), (NVIL(2), None)])
def test_the_kl_of_weights_is_paid_once_for_all_data(objective, plain):
    own = objective.init(jax.random.key(0), {"x": jnp.zeros((2, 3))})
    base = evaluate(objective, variables=own)[0]
    loss, (metrics, _) = evaluate(objective, constant_model(weight_kl=jnp.asarray(5.0)), variables=own)
    assert loss - base == pytest.approx(0.5, abs=1e-6)
    assert metrics["elbo"] == pytest.approx(-4.0)
    assert plain is None or base == pytest.approx(plain)


def test_terms_of_the_entry_are_added_to_the_loss():
    loss, (metrics, _) = evaluate(ELBO(2), constant_model(aux={"commitment": jnp.array([1.0, 3.0])}))
    assert loss == metrics["loss"] == pytest.approx(3.5 + 2.0)
    assert metrics["elbo"] == pytest.approx(-3.5)


def test_iwae_is_the_log_mean_of_the_weights():
    weight = np.array([[-1 - 1 + 0.5, -2 - 1 + 1.5], [-3 - 2 + 0.5, -4 - 2 + 0.5]])
    loss, _ = evaluate(IWAE(2))
    assert loss == pytest.approx(-np.log(np.exp(weight).mean(0)).mean(), rel=1e-6)
    assert log_mean_exp(jnp.full((5, 3), -1000.0)) == pytest.approx(np.full(3, -1000.0))


def test_nvil_has_the_value_of_the_bound_and_moments_of_the_signal():
    objective = NVIL(2, decay=0.75)
    own = objective.init(jax.random.key(0), {"x": jnp.zeros((2, 3))})
    loss, (metrics, updates) = evaluate(objective, variables=own)
    weight = np.array([[-1.5, -1.5], [-4.5, -5.5]])  # the baseline of x = 0 is 0
    assert loss == metrics["loss"] == pytest.approx(-weight.mean())
    assert updates["signal"]["mean"] == pytest.approx(weight.mean()), "the first batch starts the moments"
    assert updates["signal"]["variance"] == pytest.approx(weight.var())
    _, (_, updates) = evaluate(objective, variables={**own, **updates})
    assert updates["signal"]["mean"] == pytest.approx(weight.mean())


def test_the_baseline_of_nvil_learns_the_signal():
    """Its gradient is that of the squared error alone, and it has an optimizer of its own."""
    objective = NVIL(2, decay=0.75)
    own = objective.init(jax.random.key(0), {"x": jnp.zeros((2, 3))})
    own["signal"] = {"mean": jnp.array(-1.0), "variance": jnp.array(4.0)}
    gradient = jax.grad(lambda params: evaluate(objective, variables={**own, "params": params})[0])(own["params"])
    weight = np.array([[-1.5, -1.5], [-4.5, -5.5]])
    error = weight + 1  # less the running mean from before the batch
    assert gradient["baseline"]["Dense_0"]["bias"] == pytest.approx(-2 * error.mean(), rel=1e-5)
    assert set(objective.optimizers()) == {"baseline"}


def test_a_density_model_is_trained_by_its_likelihood():
    model = functional(MADE(hidden=(4,), shape=(3,)))
    batch = {"x": jnp.ones((2, 3))}
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    exact = -float(model.evidence(variables, batch, jax.random.key(0))[0].log_likelihood.mean())
    for objective in (ELBO(), IWAE(), ELBO(3, beta=7.0)):
        loss, (metrics, _) = objective(model, variables, batch, jax.random.key(0), jnp.asarray(0), 2)
        assert loss == pytest.approx(exact, rel=1e-5)
        assert metrics["elbo"] == pytest.approx(-exact, rel=1e-5)


def test_objectives_without_exact_gradients_are_refused():
    bits = SigmoidBeliefNetwork(latent_dims=(3,))
    for objective in (ELBO(), IWAE()):
        with pytest.raises(ValueError, match=r"expected an objective with exact gradients for model\.latent.*nvil"):
            check_fields(bits, objective)
    with pytest.raises(ValueError, match=r"model\.latent.*elbo, iwae"):
        check_fields(VAE(2), NVIL())
    with pytest.raises(ValueError, match=r"model\.latent.*BernoulliLogits"):
        check_fields(
            VAE(2, latent=VariationalLayer(posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits)), ELBO()
        )
    for objective, module in ((ELBO(), VAE(2)), (IWAE(), VAE(2)), (NVIL(), bits), (ELBO(), MADE()), (ELBO(), MLP())):
        check_fields(module, objective)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ELBO(0),
        lambda: ELBO(True),
        lambda: IWAE(-1),
        lambda: ELBO(beta=-1.0),
        lambda: ELBO(warmup_steps=-1),
        lambda: ELBO(free_bits=-0.1),
        lambda: ELBO(beta=math.nan),
        lambda: ELBO(1.5),
        lambda: NVIL(decay=1.0),
        lambda: NVIL(decay=-0.1),
        lambda: NVIL(baseline_learning_rate=0.0),
        lambda: NVIL(baseline_hidden=(0,)),
    ],
)
def test_bad_settings_are_refused(build):
    with pytest.raises(ValueError, match="expected"):
        build()
