"""Trained comparisons: paired seeds, records and files, resuming, and models of several kinds."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest

import dgmzoo
from dgmzoo.comparison import table
from dgmzoo.comparison.run import api
from dgmzoo.config import overrides
from dgmzoo.training.seed_tracker import SeedTracker
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from tests.support.small_comparison import small_experiment


def line_texts(comparison, title: str) -> list[str]:
    return {line.title: line.one_line_texts() for line in table.table_lines(comparison.records)}[title]


@pytest.fixture(scope="module")
def digits():
    changes = {"model.encoder.hidden": (8,), "model.decoder.hidden": (8,), "model.latent_dim": 3}
    changes |= {"training.epochs": 1, "evaluation.num_samples": 5, "evaluation.num_examples": 50}
    return dgmzoo.experiment("vae/digits", changes)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """The layers normal and point on digits with two seeds."""
    folder = tmp_path_factory.mktemp("comparison")
    return dgmzoo.compare(digits, ["normal", "point"], seeds=range(2), run_dir=folder, progress=False)


def test_records_hold_the_results_of_the_runs(trained):
    assert [(record["variant"], record["seed"]) for record in trained.records] == [
        (name, seed) for name in ("normal", "point") for seed in (0, 1)
    ]
    for name, runs in trained.runs.items():
        records = [record for record in trained.records if record["variant"] == name]
        for run, record in zip(runs, records, strict=True):
            assert all(value is None or isinstance(value, str | int | float | bool) for value in record.values())
            if name != "point":
                assert record["nll"] == run.record["value"] and record["elbo"] == run.record["elbo"]
                assert record["gap"] == run.record["value"] - run.record["train_value"]
                assert -0.1 <= record["mutual_information"] <= record["mutual_information_most"] == math.log(360)
            assert record["reconstruction"] < 0 and record["robustness"] < 0


def test_measures_that_need_a_prior_are_a_dash_for_a_point_code(trained):
    point = trained.records[-1]
    assert point["bound"] is None and not {"nll", "elbo", "kl", "mutual_information", "sparsity/z"} & set(point)
    for title in ("-log p(x)", "ELBO", "KL", "I(x; z)", "train-test gap"):
        assert line_texts(trained, title)[1] == "–" != line_texts(trained, title)[0]
    assert "(" in line_texts(trained, "log p(x | z flipped)")[1]


def test_the_run_directory_holds_records_figure_and_page(trained):
    assert json.loads((trained.path / "comparison.json").read_text()) == trained.records
    assert (trained.path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    page = (trained.path / "comparison.html").read_text()
    assert 'src="http' not in page and "href=" not in page and page.count("<th>") == 3 and "±" in page
    assert page.index("log 360") and page.count("data:image/png;base64,") == 1
    assert "model.latent point (normal in the experiment)" in page and "the experiment as it stands" in page
    assert trained._repr_html_() in page and "normal, point; 4 runs" in repr(trained)


@pytest.fixture
def begun(monkeypatch):
    """Seed and step at which each training began."""
    starts, begin = [], SeedTracker.begin
    monkeypatch.setattr(
        SeedTracker, "begin", lambda self, step, *rest: (starts.append((self.seed, step)), begin(self, step, *rest))
    )
    return starts


def finished(comparison) -> list[tuple[int, int]]:
    """Seed and last step of the runs of the layer normal."""
    return [(run.seed, max(row["step"] for row in run.metrics)) for run in comparison.runs["normal"]]


@pytest.mark.thorough
def test_a_second_call_trains_only_new_variants(trained, digits, begun):
    second = dgmzoo.compare(digits, ["normal"], {"new": {}}, seeds=range(2), run_dir=trained.path, progress=False)
    assert begun == [*finished(trained), (0, 0), (1, 0)]
    assert second.records[:2] == trained.records[:2]


@pytest.mark.thorough
def test_a_second_call_trains_only_new_seeds(trained, digits, begun):
    dgmzoo.compare(digits, ["normal"], seeds=range(4), run_dir=trained.path, progress=False)
    assert sorted(begun) == sorted([*finished(trained), (2, 0), (3, 0)])


@pytest.mark.thorough
def test_a_run_without_checkpoints_is_trained_again(trained, digits, tmp_path):
    """The table must not mix the results of two sets of parameters."""
    shutil.copytree(trained.path, tmp_path / "copy")
    checkpoints = tmp_path / "copy" / "normal" / "seed-0" / "checkpoints"
    for folder in checkpoints.glob("*/*"):
        shutil.rmtree(folder)
    second = dgmzoo.compare(digits, ["normal"], seeds=range(2), run_dir=tmp_path / "copy", progress=False)
    assert second.records[0]["nll"] == pytest.approx(trained.records[0]["nll"], abs=1e-3)
    assert second.records[0]["reconstruction"] == pytest.approx(trained.records[0]["reconstruction"], abs=1e-3)
    assert second.records[1] == trained.records[1]


def test_a_run_directory_of_other_settings_is_refused_before_training(trained, monkeypatch):
    monkeypatch.setattr(api, "train", None)
    other = dgmzoo.experiment("vae/digits", {"training.epochs": 2})
    with pytest.raises(ValueError, match=r"point: .*model.latent_dim was 3, now 20"):
        dgmzoo.compare(other, ["horseshoe", "point"], seeds=[1], run_dir=trained.path, progress=False)


def test_notes_and_page_name_failed_corrected_and_non_default_variants(trained):
    comparison = dataclasses.replace(
        trained, failed={"horseshoe": "NaN in loss at step 3"}, settings={"point": "", "normal": "x=3"}
    )
    comparison.records = [
        {**record, "corrections": "model.latent: another"} if record["variant"] == "point" else record
        for record in trained.records
    ]
    corrected, settings = "point: model.latent: another", "normal: with x=3, as in the experiment"
    for note in ("horseshoe failed: NaN in loss at step 3", corrected, settings):
        assert note in comparison.notes() and note in comparison._html(b"")


@pytest.fixture(scope="module")
def real_valued():
    """The same model under two names, on rows that are not binary."""
    rng = np.random.default_rng(0)
    splits = [rng.normal(size=(num, 5)).astype(np.float32) for num in (100, 20, 20)]
    experiment = overrides.override(small_experiment(splits=splits), {"model.likelihood": "normal"})
    return dgmzoo.compare(experiment, ["normal"], [{}], seeds=(3, 5), progress=False)


@pytest.mark.thorough
def test_equal_variants_have_equal_results_for_every_seed(real_valued):
    normal, base = real_valued.records[:2], real_valued.records[2:]
    for record, other in zip(normal, base, strict=True):
        assert {key for key in record if record[key] != other[key]} <= {"variant", "seconds"}
    assert normal[0]["nll"] != normal[1]["nll"]
    assert line_texts(real_valued, "-log p(x)")[1].endswith("(+0.00 ± 0.00)")


@pytest.mark.thorough
def test_elements_that_are_not_binary_are_not_flipped(real_valued):
    assert "robustness" not in real_valued.records[0] and "reconstruction" in real_valued.records[0]


@pytest.mark.thorough
def test_each_layer_of_a_hierarchy_has_its_own_lines():
    model = HierarchicalVAE(latent_dims=(4, 2), hidden=(8, 8), depth=1)
    comparison = dgmzoo.compare(small_experiment(model), ["normal"], [{}], seeds=[0], progress=False)
    titles = [line.title for line in table.table_lines(comparison.records)]
    assert {"KL", "KL of z1", "KL of z2", "active units z1", "sparsity z2"} <= set(titles)
    record = comparison.records[0]
    assert record["kl"] == pytest.approx(record["kl/z1"] + record["kl/z2"])
    assert line_texts(comparison, "-log p(x)")[1].endswith("± –)")  # one seed has no standard error
    assert comparison.figure().startswith(b"\x89PNG")  # it has a map of the two units of z2


@pytest.mark.thorough
def test_discrete_latents_are_compared():
    experiment = small_experiment(SigmoidBeliefNetwork(latent_dims=(3,)), objective=dgmzoo.NVIL())
    comparison = dgmzoo.compare(experiment, overrides=[{}], seeds=[0], progress=False)
    assert comparison.records[0]["mutual_information"] >= 0 and list(comparison.runs) == ["base"]


@pytest.mark.thorough
def test_a_model_without_latents_has_likelihood_gap_and_duration_only():
    experiment = small_experiment(MADE(hidden=(8,)))
    comparison = dgmzoo.compare(experiment, overrides=[{"model.hidden": (9,)}], seeds=[0], progress=False)
    titles = [line.title for line in table.table_lines(comparison.records)]
    assert titles == ["-log p(x)", "train-test gap", "seconds"]
