"""The hierarchical VAE against closed forms: linear Gaussians, the KL of a hierarchy, samples against the density."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.priors.base import LearnedPrior
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional, num_parameters
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.reparam.families import _inverse_softplus
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.compatibility import corrected


class Biased(VariationalLayer):
    """A layer whose gradient is exact for a KL in closed form only."""

    def facts(self):
        return Facts(prior_jumps="it jumps")


# z2 ~ N(0, 1), z1 = A z2 + a + S1 noise, x = W z1 + b + S noise.
A, SHIFT, S1 = 0.8, 0.3, 0.6
W, B, S = np.array([1.0, -0.5, 0.7]), np.array([0.1, 0.2, -0.4]), np.array([0.5, 0.9, 0.7])
X = np.array([[0.3, -1.0, 0.5], [2.0, 0.1, 1.5], [-1.0, 0.4, 0.0]])


def unconstrained_scale(scale):
    """The unconstrained parameter of a scale."""
    return np.log(np.expm1(scale)) - _inverse_softplus(1.0)


def dense(loc, scale, shift):
    """Parameters of a head with locations `x @ loc + shift` and constant scales. loc [in, U], scale and shift [U]."""
    kernel = np.stack([loc, np.zeros_like(loc)], -1).reshape(len(loc), -1)
    return {
        "kernel": jnp.asarray(kernel),
        "bias": jnp.asarray(np.stack([shift, unconstrained_scale(scale)], -1).ravel()),
    }


def linear_gaussian():
    """The model with linear maps and the exact posterior `q(z1 | x) q(z2 | z1)`."""
    variance = A**2 + S1**2  # of z1
    precision = 1 / variance + (W**2 / S**2).sum()
    to_z1 = (W / S**2 / precision)[:, None]
    shift_z1 = (SHIFT / variance - (W * B / S**2).sum()) / precision
    gain = A / variance
    one = np.ones(1)
    parameters = {
        "layers_0": {
            "q": {"head": dense(to_z1, one / np.sqrt(precision), one * shift_z1)},
            "p": {"head": dense(np.full((1, 1), A), one * S1, one * SHIFT)},
        },
        "layers_1": {"q": {"head": dense(np.full((1, 1), gain), one * S1 / np.sqrt(variance), -one * gain * SHIFT)}},
        "likelihood": {"Dense_0": dense(W[None], S, B)},
    }
    model = functional(HierarchicalVAE(latent_dims=(1, 1), hidden=(1, 1), depth=0, likelihood=Normal(), shape=(3,)))
    return model, {"params": parameters}


def marginal():
    """p(x) in closed form."""
    return stats.multivariate_normal(W * SHIFT + B, np.outer(W, W) * (A**2 + S1**2) + np.diag(S**2))


def test_every_weight_is_the_marginal_under_the_exact_posterior(x64):
    model, variables = linear_gaussian()
    evidence, _ = jax.jit(lambda key: model.evidence(variables, {"x": jnp.asarray(X)}, key, Query(6)))(
        jax.random.key(0)
    )
    expected = np.broadcast_to(marginal().logpdf(X), (6, 3))
    np.testing.assert_allclose(evidence.log_weight, expected, rtol=1e-10)
    assert np.ptp(evidence.log_likelihood, 0).min() > 0.01, "the parts of the weight vary with the samples"


def test_draws_have_the_moments_of_the_marginal():
    model, variables = linear_gaussian()
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), variables)
    x = np.asarray(jax.jit(lambda key: model.generate(variables, key, 40_000))(jax.random.key(0)).x, np.float64)
    np.testing.assert_allclose(x.mean(0), marginal().mean, atol=4 * 1.2 / 200)
    np.testing.assert_allclose(np.cov(x.T), marginal().cov, atol=0.04)
    distance = np.einsum("ni,ij,nj->n", x - marginal().mean, np.linalg.inv(marginal().cov), x - marginal().mean)
    assert stats.kstest(distance, stats.chi2(3).cdf).pvalue > 1e-3


IMAGES = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), -1).reshape(16, 4).astype(np.float32)
NETS = {
    "normal": HierarchicalVAE(
        (2, 2, 1), hidden=(4, 4, 4), depth=1, latent=VariationalLayer(prior=LearnedPrior()), shape=(4,)
    ),
    "bits": SigmoidBeliefNetwork(latent_dims=(3, 2), hidden=(4,), shape=(4,)),
}


def model_with_parameters(name, amplitude=0.7):
    """A model and normal parameters with scale `amplitude`."""
    model = functional(NETS[name])
    variables = jax.jit(model.init)(jax.random.key(0), {"x": IMAGES})
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return model, jax.tree.map(lambda leaf: amplitude * jax.random.normal(next(keys), leaf.shape), variables)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETS)
def test_the_bound_by_kl_is_the_bound_by_weights(name):
    """A KL of z1 in closed form would be wrong: it averages over z1 with z2 fixed, although q(z2 | z1) depends on z1."""
    model, variables = model_with_parameters(name)
    draw_evidence = jax.jit(lambda key: model.evidence(variables, {"x": IMAGES}, key, Query(10_000))[0])
    evidence = draw_evidence(jax.random.key(2))
    kl = sum(np.asarray(latent.kl.sum(-1), np.float64) for latent in evidence.latents.values())
    difference = evidence.log_likelihood - kl - np.asarray(evidence.log_weight, np.float64)  # [K, B], mean 0
    errors = difference.mean(0) / (difference.std(0) / 100)
    assert np.abs(errors).max() < 4 and difference.std() > 0.1
    assert kl.shape == evidence.log_weight.shape


def test_draws_follow_the_density():
    model, variables = model_with_parameters("normal", 0.25)  # q is near p, so that weights are nearly equal
    log_weight_of = jax.jit(lambda key: model.evidence(variables, {"x": IMAGES}, key, Query(20_000))[0].log_weight)
    weight = np.exp(np.asarray(log_weight_of(jax.random.key(3)), np.float64))  # [K, 16]
    p, error = weight.mean(0), weight.std(0) / np.sqrt(len(weight))
    assert abs(p.sum() - 1) < 4 * np.sqrt((error**2).sum())
    x = np.asarray(jax.jit(lambda key: model.generate(variables, key, 20_000))(jax.random.key(4)).x)
    counts = np.bincount((x @ [8, 4, 2, 1]).astype(int), minlength=16)
    spread = np.sqrt(20_000 * p * (1 - p) + (20_000 * error) ** 2)
    assert np.abs((counts - 20_000 * p) / spread).max() < 4 and (spread < 300).all()
    assert np.abs((counts - 20_000 * p[::-1]) / spread).max() > 4


def test_one_layer_is_the_plain_vae():
    one = functional(HierarchicalVAE((3,), hidden=(5,), depth=1, shape=(4,)))
    plain = functional(VAE(3, encoder=MLP((5,)), decoder=MLP((5,)), shape=(4,)))
    params = jax.jit(plain.init)(jax.random.key(0), {"x": IMAGES})["params"]
    names = {"encoder": "encoders_0", "decoder": "decoders_0", "z": "layers_0", "likelihood": "likelihood"}
    renamed = {names[name]: leaf for name, leaf in params.items()}
    evidence = [
        jax.jit(lambda key, m=model, v=variables: m.evidence(v, {"x": IMAGES}, key, Query(2))[0])(jax.random.key(1))
        for model, variables in ((one, {"params": renamed}), (plain, {"params": params}))
    ]
    np.testing.assert_array_equal(evidence[0].log_weight.shape, (2, 16))
    np.testing.assert_allclose(evidence[0].latents["z1"].kl, evidence[1].latents["z"].kl, rtol=1e-6)


def test_networks_have_the_papers_sizes():
    model = functional(HierarchicalVAE(shape=(28, 28, 1)))
    variables = jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, 28, 28, 1))})
    up = (784 + 1) * 200 + (200 + 1) * 200 + (200 + 1) * 200 + (100 + 1) * 100 + (100 + 1) * 100 + (100 + 1) * 100
    down = (50 + 1) * 100 + (100 + 1) * 100 + (100 + 1) * 200 + (100 + 1) * 200 + (200 + 1) * 200 + (200 + 1) * 784
    assert num_parameters(variables) == up + down


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"latent_dims": ()}, "latent_dims of at least one size"),
        ({"latent_dims": (3, 0)}, "latent_dims of at least one size"),
        ({"latent_dims": (3, 2, 1)}, "a hidden width >= 1 for each of 3 layers"),
        ({"depth": -1}, "depth of an integer >= 0, got -1"),
        ({"hidden": (200, 0)}, "a hidden width >= 1 for each of 2 layers"),
    ],
    ids=str,
)
def test_bad_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HierarchicalVAE(**fields)


def test_layers_below_the_top_need_exact_gradients_of_a_sampled_kl():
    with pytest.raises(ValueError, match=r"expected an objective with exact gradients for model\.latent, .*it jumps"):
        corrected(HierarchicalVAE(latent=Biased()), ELBO())
    corrected(HierarchicalVAE(latent_dims=(3,), hidden=(4,), latent=Biased()), ELBO())
    module = HierarchicalVAE(latent=PiecewiseLayer(posterior=dist.Normal, prior=PiecewiseNormal, centred=True))
    fixed, notes = corrected(module, ELBO())
    assert not fixed.latent.centred and len(notes) == 1


def test_layers_without_noise_are_refused_for_their_reason():
    for layer, objective, reason in (
        (PointLayer(), ELBO(), "those above never be trained; use one layer"),
        (PointLayer(), IWAE(), "use elbo"),
    ):
        with pytest.raises(ValueError, match=reason):
            corrected(HierarchicalVAE(latent_dims=(3, 2), latent=layer), objective)
