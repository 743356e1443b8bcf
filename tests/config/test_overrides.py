"""Overrides: typed, by path, and kept as they were requested."""

import dataclasses
import json

import flax.linen as nn
import numpy as np
import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo import experiments
from dgmzoo.command.options import Bench, Train, parse, variant_overrides
from dgmzoo.config import overrides
from dgmzoo.config.experiment import load_experiment as load
from dgmzoo.evaluation.published import published_result
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.objectives.importance import IWAE

CHANGES = [
    {"model.latent_dim": 10},
    {"model.latent-dim": 20, "training.learning-rate": 2e-3},
    {"objective": "iwae"},
    {"objective": "iwae", "objective.num_samples": 50},
    {"model.latent.posterior": dist.Laplace, "model.latent.prior": "Laplace"},
    {"model.latent": "horseshoe", "model.latent.slab": None},
    {"model.latent": "rectified", "model.latent.smooth": True, "objective": "iwae"},
    {"model.latent": "piecewise", "model.latent.prior": "piecewise", "model.latent.pieces": 7},
    {"model.latent": "point"},
    {"model.latent.prior": "piecewise"},
    {"model.latent": "piecewise", "model.latent.posterior": "normal", "model.latent.prior": "PiecewiseNormal"},
    {"model.latent.prior": "learned"},
    {"model.decoder.weights": "normal", "model.decoder.weights.learned_prior": False, "evaluation.weight_draws": 10},
    {"model.decoder.weights": "horseshoe", "model.decoder.weights.slab": None, "model.likelihood.weights": "piecewise"},
    {"model.decoder.weights": "normal", "model.decoder.weights.posterior": "Laplace"},
    {"model.encoder.hidden": (3, 4), "model.decoder.hidden": []},
    {"training.steps": 10},
    {"data.seed": 3, "evaluation.num_examples": 7, "training.clip_norm": 1},
    {},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_overrides_survive_the_config_file(changes):
    base = load("vae/digits")
    changed = overrides.override(base, changes)
    name, stored = overrides.source(changed)
    stored = json.loads(json.dumps(stored))
    assert overrides.flatten(overrides.override(base, stored)) == overrides.flatten(changed)
    assert name == "vae/digits" and stored.keys() == {path.replace("-", "_") for path in changes}


def test_an_override_without_a_plain_form_is_kept_for_reading_only():
    exp = dgmzoo.experiment("vae/digits", {"model.encoder": dgmzoo.MLP((3,)), "model.latent.prior": dist.Laplace})
    assert overrides.source(exp) == (None, {})
    assert overrides.flatten(exp)["model.encoder.hidden"] == [3]


def test_a_change_in_python_is_not_hidden_by_a_later_override():
    base = load("vae/digits")
    changed = dataclasses.replace(base, training=dataclasses.replace(base.training, learning_rate=0.01))
    assert overrides.source(changed) == (None, {})
    assert overrides.source(overrides.override(changed, {"model.latent_dim": 3})) == (None, {})
    named = dataclasses.replace(dgmzoo.experiment("vae/digits", {"model.latent_dim": 3}), name="mine")
    assert overrides.source(named) == ("vae/digits", {"model.latent_dim": 3})


def test_naming_the_class_that_is_there_keeps_its_overrides():
    exp = dgmzoo.experiment("vae/digits", {"model.latent_dim": 3})
    again = overrides.override(exp, {"model": "VAE", "model.encoder": "MLP"})
    assert again.model.latent_dim == 3 and overrides.source(again) == ("vae/digits", {"model.latent_dim": 3})


@pytest.mark.parametrize("word", ["--no-json", "--json"])
def test_options_of_the_verb_are_no_overrides(word):
    assert overrides.source(parse(Bench, "vae/digits", [word]).experiment) == ("vae/digits", {})
    with pytest.raises(ValueError, match="fields of the experiment in a variant, got 'seeds'"):
        variant_overrides(load("vae/digits"), "vae/digits", "seeds=5")


def test_paths_and_values_of_other_types_are_refused():
    with pytest.raises(ValueError, match=r"expected paths such as 'model\.latent_dim', got 3"):
        dgmzoo.experiment("vae/digits", {3: 4})
    with pytest.raises(ValueError, match=r"model\.latent_dim of type int"):
        dgmzoo.experiment("vae/digits", {"model.latent_dim": np.ones(2)})


def test_later_overrides_replace_earlier_ones():
    first = dgmzoo.experiment(
        "vae/digits", {"model.latent": "horseshoe", "model.latent.slab": 0.5, "training.epochs": 3}
    )
    second = overrides.override(first, {"model.latent": "normal", "training.steps": 9})
    assert overrides.source(second) == ("vae/digits", {"model.latent": "normal", "training.steps": 9})
    assert overrides.override(second, {}) is second


@pytest.mark.parametrize(
    "changes", [change for change in CHANGES[:-1] if not any("posterior" in path for path in change)], ids=str
)
def test_the_command_line_says_the_same(changes):
    words = []
    for path, value in changes.items():
        if isinstance(value, bool):
            above, _, name = path.rpartition(".")
            words.append(f"--{path}" if value else f"--{above}.no-{name}")
            continue
        words += [f"--{path}", *(map(str, value) if isinstance(value, list | tuple) else [str(value)])]
    parsed = parse(Train, "vae/digits", words).experiment
    assert overrides.flatten(parsed) == overrides.flatten(dgmzoo.experiment("vae/digits", changes))
    assert parsed.name == "vae/digits" and parsed.papers == load("vae/digits").papers


@pytest.mark.parametrize(
    "changes", [change for change in CHANGES if not any("posterior" in path or value == [] for path, value in change.items())], ids=str
)  # fmt: skip
def test_a_variant_says_the_same(changes):
    words = (f"{path.replace('_', '-')}={value}" for path, value in changes.items())
    text = " ".join(words).translate(str.maketrans("", "", "(),")) or "base"
    base = load("vae/digits")
    read = overrides.override(base, variant_overrides(base, "vae/digits", text))
    assert overrides.flatten(read) == overrides.flatten(overrides.override(base, changes))


def test_choosing_an_objective_starts_from_its_own_defaults():
    chosen = dgmzoo.experiment("vae/digits", {"objective": "iwae"})
    assert chosen.objective == IWAE() and chosen.objective.num_samples == 5


def test_setting_one_length_clears_the_others():
    changed = dgmzoo.experiment("vae/digits", {"training.steps": 10})
    assert (changed.training.steps, changed.training.epochs) == (10, None)
    with pytest.raises(ValueError, match="exactly one"):
        dgmzoo.experiment("vae/digits", {"training.steps": 10, "training.epochs": 3})


@pytest.mark.parametrize(
    "changes, answer",
    [
        ({"model.latentdim": 3}, "did you mean latent_dim"),
        ({"model.latent_dim": "3"}, "type int, got '3'"),
        ({"model.latent_dim": True}, "type int, got True"),
        ({"model.latent_dim": 2.5}, "type int, got 2.5"),
        ({"training.schedule": "linear"}, "constant"),
        ({"model.latent_dim.x": 3}, "no fields below 'model.latent_dim'"),
        ({"papers": ()}, "got 'papers'"),
        (
            {"model.latent": "cauchy"},
            "one of normal, horseshoe, rectified, piecewise, categorical, spherical, point, got 'cauchy'",
        ),
        ({"model.latent": "horseshoe", "model.latent.prior": "normal"}, "field of HorseshoeLayer"),
        ({"model.latent": "point", "objective": "iwae"}, "use elbo"),
        ({"model.decoder.weights": "cauchy"}, "one of normal, horseshoe, rectified, piecewise, point, got 'cauchy'"),
        ({"model.decoder.weights": "normal", "model.decoder.weights.estimator": "best"}, "estimator"),
        ({"model.parent": None}, "got 'model.parent'"),
        ({"model.latent.posterior": nn.Dense}, "model.latent.posterior"),
    ],
    ids=str,
)
def test_wrong_overrides_are_refused(changes, answer):
    with pytest.raises(ValueError, match="expected") as refused:
        dgmzoo.experiment("vae/digits", changes)
    assert answer in str(refused.value)


def test_an_experiment_built_in_python_is_kept_for_reading_only():
    class Mine(nn.Module):
        def evidence(self, batch, query): ...

    base = load("vae/digits")
    changed = dgmzoo.Experiment(model=Mine(), data=base.data, training=base.training, name=base.name)
    assert overrides.source(changed) == (None, {})


def test_arrays_in_memory_are_not_a_named_experiment():
    """A published figure must not stand beside them, whatever they are called."""
    base = load(ROW)
    mine = dgmzoo.from_arrays(
        np.zeros((10, 28, 28, 1), np.uint8), name="my mnist", encoding="dynamic", num_validation=0
    )
    changed = dataclasses.replace(base, data=mine)
    assert overrides.source(changed) == (None, {})
    assert published_result(changed, "test", 1) is None


def test_an_objective_of_ones_own_is_kept_for_reading_only():
    @dataclasses.dataclass(frozen=True)
    class Mine(dgmzoo.ELBO):
        weight: float = 2.0

    changed = dataclasses.replace(load("vae/digits"), objective=Mine())
    assert overrides.source(changed) == (None, {})
    assert overrides.flatten(changed)["objective"] == "Mine"


@pytest.mark.parametrize("likelihood", ["normal", "discretized_logistic"])
def test_likelihoods_are_chosen_by_name(likelihood):
    chosen = parse(Train, "vae/digits", ["--model.likelihood", likelihood]).experiment
    assert overrides.flatten(chosen)["model.likelihood"] == likelihood
    _, stored = overrides.source(chosen)
    assert stored == {"model.likelihood": likelihood}
    assert overrides.flatten(overrides.override(load("vae/digits"), stored)) == overrides.flatten(chosen)


def test_a_function_that_chooses_a_distribution_is_refused():
    with pytest.raises(ValueError, match=r"class of distributions, got .*BernoulliLogits"):
        VariationalLayer(posterior=dist.Bernoulli, prior=dist.Bernoulli)


def test_a_submodule_in_two_fields_is_refused():
    from dgmzoo.layers.networks.mlp import MLP
    from dgmzoo.zoo.vae.vae import VAE

    shared = MLP((3,))
    with pytest.raises(ValueError, match="would tie their parameters"):
        VAE(encoder=shared, decoder=shared)


ROW = "vae/mnist_iwae_1l"


@pytest.mark.parametrize(
    "changes, value, differences",
    [
        ({}, 86.76, {}),
        ({"objective.num_samples": 50}, 86.35, {}),
        ({"objective": "iwae"}, 85.54, {}),
        ({"objective": "iwae", "objective.num_samples": 50}, 84.78, {}),
        ({"training.epochs": 10, "data.seed": 4, "training.learning_rate": 1e-4}, 86.76, {}),
        ({"objective.num_samples": 5}, 86.76, {"objective.num_samples": [5, 1]}),  # not a row of the table here
        ({"objective.beta": 2.0}, 86.76, {"objective.beta": [2.0, 1.0]}),
        ({"model.latent_dim": 49}, 86.76, {"model.latent_dim": [49, 50]}),
        ({"data.encoding": "static"}, 86.76, {"data.encoding": ["static", "dynamic"]}),
        ({"evaluation.num_samples": 100}, 86.76, {"evaluation.num_samples": [100, 5000]}),
        ({"evaluation.num_examples": 100, "objective": "iwae"}, 85.54, {"evaluation.num_examples": [100, None]}),
    ],
    ids=str,
)
def test_f38_a_published_figure_stands_beside_the_settings_that_differ(changes, value, differences):
    exp = dgmzoo.experiment(ROW, changes)
    found = published_result(exp, "test", 984_000)
    assert (found["value"], found["budget"], found["differences"]) == (value, 0.1, differences)
    assert published_result(exp, "valid", 1) is None


def test_every_published_row_can_be_asked_for():
    for name in experiments.names():
        base = load(name)
        for row in base.papers:
            exp = overrides.override(base, row.when)
            found = published_result(exp, "test", 1)
            assert found["value"] == row.value and not found["differences"]
