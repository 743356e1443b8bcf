"""Pairs of posterior, prior and objective whose plain gradient is wrong: corrected with a message, or refused."""

import json
import warnings

import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo.command import main
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.command import SMALL

CENTRED = PiecewiseLayer(posterior=dist.Normal, prior=PiecewiseNormal, centred=True, pieces=3)
HORSESHOES = VariationalLayer(prior=Horseshoe)
RECTIFIED = VariationalLayer(posterior=RectifiedNormal, prior=RectifiedNormal)


@pytest.mark.parametrize(
    "layer, objective, kind, words",
    [
        (CENTRED, ELBO(), None, None),
        (CENTRED, IWAE(), PiecewiseLayer, "jumps"),
        (CENTRED, DReG(), PiecewiseLayer, "jumps"),
        (HORSESHOES, ELBO(), HorseshoeLayer, "infinite variance"),
        (HORSESHOES, IWAE(), HorseshoeLayer, "infinite variance"),
        (RECTIFIED, ELBO(), RectifiedLayer, "point mass"),
        (RECTIFIED, IWAE(), RectifiedLayer, "point mass"),
    ],
)
def test_what_has_another_form_takes_it(layer, objective, kind, words):
    module = VAE(2, latent=layer)
    changed, said = objective.corrected(module)
    if kind is None:
        assert changed is module and said == ()
        objective.check(module)
        return
    assert type(changed.latent) is kind and len(said) == 1
    assert said[0].startswith("model.latent: ") and words in said[0]
    assert objective.corrected(changed) == (changed, ()), "once is enough"
    objective.check(changed)
    assert changed.latent_dim == 2 and (kind is not PiecewiseLayer or changed.latent.pieces == 3)
    with pytest.raises(ValueError, match="expected an objective with exact gradients"):
        objective.check(module)


def test_a_hierarchy_is_corrected_too():
    changed, said = IWAE().corrected(HierarchicalVAE(latent_dims=(3, 2), latent=HORSESHOES))
    assert type(changed.latent) is HorseshoeLayer and len(said) == 1


def run(*words):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        shown = warnings.showwarning
        try:
            with pytest.raises(SystemExit) as stopped:
                main.main(words)
        finally:
            warnings.showwarning = shown
    return stopped.value.code or 0


QUICK = ("train", "vae/digits", *SMALL, "--training.steps", "4", "--evaluation.num-samples", "3")
PIECEWISE = ("--model.latent", "piecewise", "--model.latent.prior", "piecewise", "--model.latent.centred")


def test_the_command_says_so_and_so_do_config_and_record(tmp_path, capsys):
    assert run(*QUICK, *PIECEWISE, "--objective", "iwae", "--run-dir", str(tmp_path / "run")) == 0
    assert "warning: model.latent: the density of its centred piecewise prior jumps" in capsys.readouterr().err
    config, record = (json.loads((tmp_path / "run" / name).read_text()) for name in ("config.json", "result.json"))
    assert config["resolved"]["model.latent.centred"] is False
    for kept in (config, record):
        assert len(kept["corrections"]) == 1 and "centred=False" in kept["corrections"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = dgmzoo.load(tmp_path / "run")  # corrected already
    assert again.experiment.corrections == tuple(config["corrections"])
    assert run(*QUICK, *PIECEWISE, "--objective", "iwae", "--run-dir", str(tmp_path / "run")) == 0, "goes on"


def test_a_notebook_hears_it_too():
    with pytest.warns(UserWarning, match="model.latent: .*horseshoe.* takes its place"):
        exp = dgmzoo.experiment("vae/digits", {"model.latent.prior": "horseshoe"})
    assert type(exp.model.latent) is HorseshoeLayer and len(exp.corrections) == 1
    assert dgmzoo.experiment("vae/digits").corrections == ()


@pytest.mark.parametrize(
    "words, reason",
    [
        (("--model.latent.posterior", "Cauchy"), "KL is infinite"),
        (("--model.latent.prior", "rectified"), "point mass at 0"),
        (("--model.latent", "piecewise", "--objective", "dreg"), "jumps where the parameters move it, so use iwae"),
        (("--model.latent", "point", "--objective", "iwae"), "use elbo"),
        (("--model.latent", "horseshoe", "--objective", "nvil"), "reparameterized"),
        (("--model.latent.posterior", "BernoulliLogits", "--model.latent.prior", "BernoulliLogits"), "nvil"),
    ],
)
def test_what_has_none_is_refused(words, reason, tmp_path, capsys):
    assert run(*QUICK, *words, "--run-dir", str(tmp_path / "run")) == 2
    assert reason in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "run").exists()
