"""Names and settings of the variants of an experiment, and the requests that are refused."""

import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo.comparison.variants import make_variants, retained_settings
from dgmzoo.config import overrides
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.zoo.vae.vae import VAE
from tests.support.small_comparison import small_experiment


def test_a_layer_replaces_the_latent_layers_of_the_experiment():
    assert isinstance(make_variants(small_experiment(), ["point"], [])["point"].model.latent, PointLayer)


def test_layers_of_a_model_without_latents_are_refused():
    with pytest.raises(ValueError, match="use overrides"):
        make_variants(dgmzoo.experiment("ddnn/digits_made"), ["normal"], [])


def test_a_layer_of_the_experiments_own_kind_keeps_its_settings():
    base = overrides.override(small_experiment(), {"model.latent": "horseshoe", "model.latent.slab": 0.5})
    variants = make_variants(base, ["normal", "horseshoe"], {"wide": {"model.latent.slab": 3.0}})
    assert list(variants) == ["normal", "horseshoe", "wide"]
    assert variants["normal"].model.latent == VariationalLayer()
    assert variants["horseshoe"].model.latent.slab == 0.5 and variants["wide"].model.latent.slab == 3
    assert retained_settings("horseshoe", base) == "model.latent.slab=0.5"
    assert not retained_settings("normal", base)


def test_the_layer_normal_has_a_normal_posterior():
    laplace = VariationalLayer(posterior=dist.Laplace, prior=dist.Laplace)
    variants = make_variants(small_experiment(VAE(latent_dim=2, latent=laplace)), ["normal"], [])
    assert variants["normal"].model.latent.posterior.family is dist.Normal


def test_a_piecewise_prior_with_a_normal_posterior_is_of_the_kind_piecewise():
    changes = {"model.latent": "piecewise", "model.latent.prior": "piecewise", "model.latent.posterior": "normal"}
    base = overrides.override(small_experiment(), changes)
    variants = make_variants(base, ["piecewise", "normal"], [])
    assert variants["piecewise"].model == base.model and variants["normal"].model.latent == VariationalLayer()


def test_names_of_variants_are_checked():
    with pytest.raises(ValueError, match=r"a letter or a digit, got '\.\.'"):
        make_variants(small_experiment(), [], {"..": {}})
    with pytest.raises(ValueError, match="name them"):
        make_variants(small_experiment(), [], [{"extra_losses": {"a": f}} for f in (abs, abs)])
