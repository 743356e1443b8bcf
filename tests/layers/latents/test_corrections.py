"""Pairs of posterior, prior and objective whose plain gradient is wrong are corrected with a note, or refused."""

import dataclasses
import json

import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo.config.preflight import resolve
from dgmzoo.data import load_dataset
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.model.compatibility import judge
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.command import SMALL, run
from tests.support.compatibility import corrected
from tests.support.tiny import TINY, skip_reports
from tests.support.toy_rows import SHAPE

CENTRED = PiecewiseLayer(posterior=dist.Normal, prior=PiecewiseNormal, centred=True, pieces=3)
WITH_HORSESHOE_PRIOR = VariationalLayer(prior=Horseshoe)
WITH_RECTIFIED_NORMALS = VariationalLayer(posterior=RectifiedNormal, prior=RectifiedNormal)


@pytest.mark.parametrize(
    "layer, objective, kind, words",
    [
        (CENTRED, ELBO(), None, None),
        (CENTRED, IWAE(), PiecewiseLayer, "jumps"),
        (CENTRED, DReG(), PiecewiseLayer, "jumps"),
        (WITH_HORSESHOE_PRIOR, ELBO(), HorseshoeLayer, "infinite variance"),
        (WITH_HORSESHOE_PRIOR, IWAE(), HorseshoeLayer, "infinite variance"),
        (WITH_RECTIFIED_NORMALS, ELBO(), RectifiedLayer, "point mass"),
        (WITH_RECTIFIED_NORMALS, IWAE(), RectifiedLayer, "point mass"),
    ],
)
def test_a_layer_is_replaced_by_its_form_with_an_exact_gradient(layer, objective, kind, words):
    module = VAE(2, latent=layer, shape=SHAPE)
    fixed, notes = corrected(module, objective)
    if kind is None:
        assert fixed == module and notes == ()
        return
    assert type(fixed.latent) is kind and len(notes) == 1
    assert notes[0].startswith("model.latent: ") and words in notes[0]
    assert corrected(fixed, objective) == (fixed, ()), "a second correction changes nothing"
    assert fixed.latent_dim == 2 and (kind is not PiecewiseLayer or fixed.latent.pieces == 3)
    assert judge(layer.facts(), objective.needs).kind == "refused", "without its alternative"


def test_a_hierarchy_is_corrected():
    module = HierarchicalVAE(latent_dims=(3, 2), latent=WITH_HORSESHOE_PRIOR)
    fixed, notes = corrected(module, IWAE())
    assert type(fixed.latent) is HorseshoeLayer and len(notes) == 1


@pytest.mark.parametrize("entry", ["dvae/digits_sigmoid_belief_network", "vae/mnist_hierarchical_vae"])
def test_f65_a_layer_whose_kl_every_hierarchy_samples_is_corrected_or_refused(entry):
    experiment, dataset = dgmzoo.experiment(entry), load_dataset(dgmzoo.Data("digits"))

    def with_layer(layer):
        module = experiment.model.clone(latent=layer, latent_dims=(4, 4))
        return resolve(dataclasses.replace(experiment, model=module, objective=ELBO()), dataset)

    fixed = with_layer(CENTRED)
    assert not fixed.module.latent.centred and "jumps" in fixed.corrections[0]
    with pytest.raises(ValueError, match="x would depend on the lowest layer only"):
        with_layer(PointLayer())


QUICK = (
    "train",
    "vae/digits",
    *SMALL,
    "--training.steps",
    "4",
    "--evaluation.num-samples",
    "3",
    "--model.latent-dim",
    "2",
)
PIECEWISE = ("--model.latent", "piecewise", "--model.latent.prior", "piecewise", "--model.latent.centred")


@pytest.mark.thorough
def test_the_command_prints_a_correction_and_the_record_holds_it(tmp_path, capsys, monkeypatch):
    skip_reports(monkeypatch)
    run_dir = tmp_path / "run"
    assert run(*QUICK, *PIECEWISE, "--objective", "iwae", "--run-dir", str(run_dir)) == 0
    assert "note: model.latent: the density of its centred piecewise prior jumps" in capsys.readouterr().err
    record = json.loads((run_dir / "result.json").read_text())
    assert len(record["corrections"]) == 1 and "centred=False" in record["corrections"][0]
    loaded = dgmzoo.load(run_dir)
    assert list(loaded.resolved.corrections) == record["corrections"]
    assert loaded.experiment.model.latent.centred and not loaded.module.latent.centred
    assert run(*QUICK, *PIECEWISE, "--objective", "iwae", "--run-dir", str(run_dir)) == 0, "the same command resumes"


@pytest.mark.thorough
def test_python_warns_of_a_correction():
    changes = TINY | {"model.latent.prior": "horseshoe", "training.steps": 1, "evaluation.num_samples": 1}
    with pytest.warns(UserWarning, match="model.latent: .*horseshoe.* takes its place"):
        trained = dgmzoo.train(dgmzoo.experiment("vae/digits", changes), progress=False)
    assert type(trained.module.latent) is HorseshoeLayer and len(trained.resolved.corrections) == 1


@pytest.mark.parametrize(
    "words, reason",
    [
        (("--model.latent.posterior", "Cauchy"), "KL is infinite"),
        (("--model.latent.prior", "rectified"), "point mass at 0"),
        (("--model.latent", "piecewise", "--objective", "dreg"), "jumps where the parameters move it; use iwae"),
        (("--model.latent", "point", "--objective", "iwae"), "use elbo"),
        (("--model.latent", "horseshoe", "--objective", "nvil"), "reparameterized"),
        (("--model.latent.posterior", "BernoulliLogits", "--model.latent.prior", "BernoulliLogits"), "nvil"),
    ],
)
def test_a_layer_without_a_form_with_an_exact_gradient_is_refused(words, reason, tmp_path, capsys):
    assert run(*QUICK, *words, "--run-dir", str(tmp_path / "run")) == 2
    assert reason in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "run").exists()
