"""The zoo's experiments: their names, the listing that reads them without importing them, templates for own data."""

import numpy as np
import pytest
from PIL import Image

import dgmzoo
from dgmzoo import experiments
from dgmzoo.config.experiment import load_experiment
from dgmzoo.config.preflight import resolve
from dgmzoo.data import catalogue, load_dataset
from dgmzoo.data.registry import OWN


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
    known_data = [*catalogue(), *OWN]  # a template for own data is my_<kind>_<model>
    data = max((known for known in known_data if f"{stem}_".startswith(f"{known}_")), key=len, default=None)
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


TEMPLATES = ("vae/my_images_vae", "vae/my_table_vae", "ddnn/my_table_made")


def own_data(kind, folder):
    """The path of own data, of no more rows than a person may start with."""
    random = np.random.default_rng(0)
    if kind == "table":
        header, rows = "height,width,label\n", random.normal(size=(60, 2))
        (folder / "t.csv").write_text(header + "".join(f"{a:.3f},{b:.3f},{i % 2}\n" for i, (a, b) in enumerate(rows)))
        return folder / "t.csv"
    if kind == "blanks":
        cells = [
            ["" if random.random() < 0.2 else f"{value:.3f}" for value in row] for row in random.normal(size=(60, 3))
        ]
        (folder / "b.csv").write_text("a,b,c\n" + "".join(",".join(row) + "\n" for row in cells))
        return folder / "b.csv"
    shape = {"grey": (23, 17), "colour": (8, 8, 3)}.get(kind)
    if shape is None:
        np.save(folder / "x.npy", random.integers(0, 256, (60, 5, 6)).astype(np.uint8))
        return folder / "x.npy"
    for number in range(60):
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    "name, kind",
    [("vae/my_images_vae", kind) for kind in ("grey", "colour", "npy")]
    + [("vae/my_table_vae", kind) for kind in ("table", "blanks")]
    + [("ddnn/my_table_made", "table")],
)
def test_f42_a_template_takes_own_data_by_their_name_alone(name, kind, tmp_path):
    experiment = dgmzoo.experiment(name, {"data.name": str(own_data(kind, tmp_path))})
    resolved = resolve(experiment, load_dataset(experiment.data))
    assert resolved.module.shape == resolved.dataset.shape and "valid" in resolved.dataset.splits
    assert experiment.training.patience is None, "seeds that train together have one length"


def test_f42_a_table_with_blanks_is_refused_by_a_density_with_what_to_take(tmp_path):
    experiment = dgmzoo.experiment("ddnn/my_table_made", {"data.name": str(own_data("blanks", tmp_path))})
    with pytest.raises(ValueError, match="choose data without missing elements, or a VAE"):
        resolve(experiment, load_dataset(experiment.data))


@pytest.mark.parametrize("name", TEMPLATES)
def test_f42_a_template_without_data_says_what_to_give(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = "a folder of images" if "images" in name else "a .csv with a row an example"
    with pytest.raises(ValueError, match=f"expected your own data, --data.name PATH: {kind}.*; got none"):
        load_dataset(dgmzoo.experiment(name).data)
    assert name in experiments.names() and "your own" in experiments.summary(name).description
