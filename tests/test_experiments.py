"""The zoo's experiments: their names, and the listing that reads them without importing them."""

import pytest

from dgmzoo import experiments
from dgmzoo.config.experiment import load_experiment
from dgmzoo.data import catalogue


@pytest.mark.parametrize("name", experiments.names())
def test_the_static_listing_agrees_with_the_experiment(name):
    summary, experiment = experiments.summary(name), load_experiment(name)
    assert summary.description and summary.description.endswith(".") and len(summary.description) < 130
    assert summary.data == experiment.data.name
    assert summary.papers == tuple((paper.value, paper.source) for paper in experiment.papers)


@pytest.mark.parametrize("name", experiments.names())
def test_a_name_is_family_data_model_variant(name):
    experiment = load_experiment(name)
    family, stem = name.split("/")
    data = max((known for known in catalogue() if f"{stem}_".startswith(f"{known}_")), key=len, default=None)
    assert data == experiment.data.name
    model = type(experiment.model).__module__.rpartition(".")[2]
    assert type(experiment.model).__module__ == f"dgmzoo.zoo.{family}.{model}"
    rest = stem.removeprefix(data).removeprefix("_")
    assert model == family or f"{rest}_".startswith(f"{model}_")


@pytest.mark.parametrize("old, new", experiments.FORMER_NAMES.items())
def test_a_former_name_is_answered_with_the_new_one(old, new):
    assert new in experiments.names() and old not in experiments.names()
    with pytest.raises(ValueError, match=f"expected '{new}', got its name of version 0.1, '{old}'"):
        load_experiment(old)
