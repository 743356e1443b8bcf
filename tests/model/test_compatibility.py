"""The compatibility table: every rule has a case on the page, answers follow from facts, structures are seen when traced."""

import dataclasses
import itertools

import jax
import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo.config.compatibility_page import columns, layers, page
from dgmzoo.layers.latents.categorical import CategoricalLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.model.compatibility import RULES, Facts, Needs, answer, judge
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import DReG
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.compatibility import corrected
from tests.support.socket_probes import InverseAutoregressive

NOT_ON_THE_PAGE = {"noise as sample", "relaxed"}  # posteriors of flows and relaxed layers, which are still to come


def first_rule(facts, needs):
    return next((rule.name for rule in RULES if rule.applies(facts, needs)), None)


def test_every_rule_has_a_cell_on_the_page():
    used = {first_rule(layer.facts(), needs) for layer in layers().values() for needs in columns().values()}
    assert used - {None} == {rule.name for rule in RULES} - NOT_ON_THE_PAGE
    text = page()
    for layer, needs in itertools.product(layers().values(), columns().values()):
        assert answer(layer, needs)[0].reason in text


def test_answers_follow_from_facts_alone():
    """A layer whose facts differ in nothing that a rule reads has the same answer, and no facts have no reason."""
    needs = [*columns().values(), Needs(gradient="enumeration")]
    assert all(judge(Facts(), need).kind == "exact" for need in needs if need.gradient != "score")
    changes = [
        {"reparameterized": False},
        {"posterior_jumps": True},
        {"prior_jumps": "it jumps"},
        {"support_moves": True},
        {"heavy_gradient": "it varies"},
        {"heavy_below": "it varies"},
        {"samples_noise": True},
        {"training_value": "deterministic"},
        {"training_value": "relaxed"},
    ]
    for one, two in itertools.product(changes, changes):
        facts = dataclasses.replace(Facts(), **(one | two))
        for need in needs:
            alone = {judge(dataclasses.replace(Facts(), **change), need).kind for change in (one, two)}
            both = judge(facts, need).kind
            if "refused" not in alone:  # facts never excuse each other
                assert both in alone | {"exact"} or need.gradient == "score"


def test_a_posterior_whose_sample_is_noise_is_refused_by_dreg():
    layer = VariationalLayer(posterior=InverseAutoregressive())
    assert judge(layer.facts(), ELBO.needs).kind == "exact"
    assert "no score to turn" in judge(layer.facts(), DReG.needs).message
    with pytest.raises(ValueError, match="sample of its posterior InverseAutoregressive is noise"):
        corrected(VAE(2, latent=layer), DReG())


class TestF65:
    """The structure is seen when it is traced, whatever the entry declares."""

    def test_a_centred_prior_below_another_layer_is_corrected(self):
        layer = PiecewiseLayer(posterior=dist.Normal, prior=PiecewiseNormal, centred=True)
        for entry in (SigmoidBeliefNetwork, HierarchicalVAE):
            sizes = {"hidden": (4, 4)} if entry is HierarchicalVAE else {}
            module, notes = corrected(entry(latent_dims=(3, 2), latent=layer, **sizes), ELBO())
            assert not module.latent.centred and len(notes) == 1
        module, notes = corrected(SigmoidBeliefNetwork(latent_dims=(3,), latent=layer), ELBO())
        assert module.latent.centred and notes == (), "one layer has its KL in closed form"

    def test_a_point_below_another_layer_is_refused(self):
        with pytest.raises(ValueError, match="those above never be trained"):
            corrected(SigmoidBeliefNetwork(latent_dims=(3, 2), latent=PointLayer()), ELBO())

    def test_there_is_no_switch_for_the_noise(self):
        with pytest.raises(TypeError, match="noise"):
            VariationalLayer(noise=False)


def test_f54_classes_are_accepted_one_hot():
    layer = CategoricalLayer(classes=3)
    assert judge(layer.facts(), dgmzoo.NVIL.needs).kind == "exact"
    with pytest.raises(ValueError, match="choose the layer `categorical`"):
        VariationalLayer(posterior=dist.CategoricalLogits, prior=dist.CategoricalLogits)
    variables, latent = _answer(layer)
    assert latent.sample.shape == (4, 5, 2, 3) and latent.value.shape == (4, 5, 6)
    assert (latent.sample.sum(-1) == 1).all()
    relaxed = dgmzoo.Query(4, given={"z": latent.sample * 0.4 + 0.2})
    again = layer.clone(units=2).apply(variables, jax.numpy.ones((5, 3)), relaxed, "z")
    assert (again.sample == latent.sample * 0.4 + 0.2).all()


FOUR_SAMPLES = dgmzoo.Query(4)


def _answer(layer, query=FOUR_SAMPLES):
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    return layer.clone(units=2).init_with_output(rngs, jax.numpy.ones((5, 3)), query, "z")[::-1]


def test_uniform_noise_makes_the_samples_of_discrete_layers():
    bits = VariationalLayer(posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits)
    uniform = jax.random.uniform(jax.random.key(3), (4, 5, 2))
    _, latent = _answer(bits, dgmzoo.Query(4, noise={"z": uniform}))
    assert ((latent.sample == 1) == (uniform < latent.q["mean"])).all()
    _, other = _answer(bits, dgmzoo.Query(4, noise={"z": 1 - uniform}))
    assert (latent.sample != other.sample).any()


def test_f69_a_sphere_in_few_dimensions_is_refused_where_p_is_not_uniform():
    with pytest.raises(ValueError, match="infinite variance"):
        dgmzoo.Experiment(
            model=VAE(3, latent=SphericalLayer(units=3, learned_prior=True)),
            data=dgmzoo.Data("digits"),
            training=dgmzoo.Training(epochs=1),
        )
    for dims, ok in ((3, False), (5, True)):
        module = VAE(dims, latent=SphericalLayer(learned_prior=True))
        if ok:
            assert corrected(module, ELBO())[1] == ()
        else:
            with pytest.raises(ValueError, match="infinite variance"):
                corrected(module, ELBO())


def test_f71_a_posterior_with_a_point_mass_is_refused_against_a_continuous_prior():
    with pytest.raises(ValueError, match="point mass where the posterior HurdleLogNormal has one"):
        VariationalLayer(posterior=dist.HurdleLogNormal, prior=dist.LogNormal)
