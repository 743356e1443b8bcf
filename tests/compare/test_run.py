"""Variants side by side: paired seeds, honest cells, and a second call that goes on."""

import dataclasses
import json
import math
import shutil

import numpy as np
import numpyro.distributions as dist
import pytest
from rich.console import Console

import dgmzoo
from dgmzoo.compare import figure, table
from dgmzoo.compare.run import _own_settings, _view, api, make_variants
from dgmzoo.config import overrides
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.training.seed_tracker import SeedTracker
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE

random = np.random.default_rng(0)
SPLITS = [random.integers(0, 2, (num, 12)).astype(np.uint8) for num in (200, 40, 60)]


def small(model=None, **changes) -> dgmzoo.Experiment:
    """An experiment on bits that trains in a second or two."""
    return dgmzoo.Experiment(
        model=model or VAE(latent_dim=2, encoder=MLP((8,)), decoder=MLP((8,))),
        data=dgmzoo.from_arrays(*SPLITS),
        training=dgmzoo.Training(steps=4, batch_size=50),
        evaluation=dgmzoo.Evaluation(num_samples=5),
        **changes,
    )


def line(found, title: str) -> list[str]:
    return {each.title: each.words() for each in table.lines(found.records)}[title]


@pytest.fixture(scope="module")
def digits():
    changes = {"model.encoder.hidden": (8,), "model.decoder.hidden": (8,), "model.latent_dim": 3}
    changes |= {"training.epochs": 1, "evaluation.num_samples": 5, "evaluation.num_examples": 50}
    return dgmzoo.experiment("vae/digits", changes)


@pytest.fixture(scope="module")
def kept(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    return dgmzoo.compare(digits, ["normal", "point"], seeds=range(2), run_dir=folder, progress=False)


def record(variant, seed, bound="iw", **values):
    return {"variant": variant, "seed": seed, "bound": bound, "num_samples": 5, **values}


def test_differences_are_taken_seed_by_seed():
    nll = {"a": (100.0, 110.0, 120.0), "b": (101.0, 112.0, 121.0)}
    records = [record(name, seed, nll=value) for name, each in nll.items() for seed, value in enumerate(each)]
    (found,) = table.lines(records)
    first, second = found.cells
    assert (first.mean, first.difference) == (110, None) and first.error == pytest.approx(10 / math.sqrt(3))
    assert second.mean == pytest.approx(334 / 3) and second.difference == pytest.approx(4 / 3)
    assert second.error == pytest.approx(np.std([1, 2, 1], ddof=1) / math.sqrt(3)) == pytest.approx(1 / 3)
    assert found.words() == ["110.00 ± 5.77", "111.33 (+1.33 ± 0.33)"]


def test_figures_that_do_not_compare_are_not_compared():
    records = [record("a", 0, nll=100.0, elbo=-101.0), record("b", 0, "exact", nll=90.0), record("c", 0, None)]
    nll, elbo = table.lines(records)
    assert nll.words() == ["100.00 ± –", "90.00", "–"] and elbo.words() == ["-101.00 ± –", "–", "–"]
    assert table.lines([record("a", 0, nll=1.0), record("a", 1, nll=None)]) == []


def test_a_comparison_on_digits(kept, digits):
    assert [(each["variant"], each["seed"]) for each in kept.records] == [
        (name, seed) for name in ("normal", "point") for seed in (0, 1)
    ]
    for name, runs in kept.runs.items():
        for run, found in zip(runs, (each for each in kept.records if each["variant"] == name), strict=True):
            assert all(value is None or isinstance(value, str | int | float | bool) for value in found.values())
            if name != "point":
                assert found["nll"] == run.record["value"] and found["elbo"] == run.record["elbo"]
                assert found["gap"] == run.record["value"] - run.record["train_value"]
                assert -0.1 <= found["mutual_information"] <= found["mutual_information_most"] == math.log(360)
            assert found["reconstruction"] < 0 and found["robustness"] < 0
    point = kept.records[-1]
    assert point["bound"] is None and not {"nll", "elbo", "kl", "mutual_information", "sparsity/z"} & set(point)
    for title in ("-log p(x)", "ELBO", "KL", "I(x; z)", "train-test gap"):
        assert line(kept, title)[1] == "–" != line(kept, title)[0]
    assert "(" in line(kept, "log p(x | z flipped)")[1]


def test_what_is_left_behind(kept):
    stored = json.loads((kept.path / "comparison.json").read_text())
    assert stored == kept.records
    assert (kept.path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    page = (kept.path / "comparison.html").read_text()
    assert 'src="http' not in page and "href=" not in page and page.count("<th>") == 3 and "±" in page
    assert page.index("log 360") and page.count("data:image/png;base64,") == 1
    shown = kept._repr_html_()
    assert shown in page and "normal, point; 4 runs" in repr(kept)


def test_a_second_call_trains_only_what_is_new(kept, digits, monkeypatch):
    begun, real = [], SeedTracker.begin
    monkeypatch.setattr(
        SeedTracker, "begin", lambda self, step, *rest: (begun.append((self.seed, step)), real(self, step, *rest))
    )
    end = max(row["step"] for row in kept.runs["normal"][0].metrics)
    ended = [(0, end), (1, end)]
    again = dgmzoo.compare(digits, ["normal", "rectified"], seeds=range(2), run_dir=kept.path, progress=False)
    assert begun == [*ended, (0, 0), (1, 0)]
    assert again.records[:2] == kept.records[:2]
    begun.clear()
    dgmzoo.compare(digits, ["normal"], seeds=range(3), run_dir=kept.path, progress=False)
    assert sorted(begun) == sorted([*ended, (2, 0)])


def test_a_damaged_run_is_mended_not_mixed(kept, digits, tmp_path):
    """Its newest checkpoint gone, a run trains to its end again: figures of two sets of parameters are not set side by side."""
    shutil.copytree(kept.path, tmp_path / "copy")
    checkpoints = tmp_path / "copy" / "normal" / "seed-0" / "checkpoints"
    for folder in checkpoints.glob("*/*"):
        shutil.rmtree(folder)
    again = dgmzoo.compare(digits, ["normal"], seeds=range(2), run_dir=tmp_path / "copy", progress=False)
    assert again.records[0]["nll"] == pytest.approx(kept.records[0]["nll"], abs=1e-3)
    assert again.records[0]["reconstruction"] == pytest.approx(kept.records[0]["reconstruction"], abs=1e-3)
    assert again.records[1] == kept.records[1]


def test_seeds_are_paired():
    """The same model under two names gives the same figures, whatever else is compared."""
    found = dgmzoo.compare(small(), ["normal"], [{}], seeds=(3, 5), progress=False)
    (a, b), again = found.records[:2], found.records[2:]
    for one, other in ((a, again[0]), (b, again[1])):
        assert {key for key in one if one[key] != other[key]} <= {"variant", "seconds"}
    assert a["nll"] != b["nll"] and line(found, "-log p(x)")[1].endswith("(+0.00 ± 0.00)")


def test_what_failed_or_was_corrected_is_told(kept):
    """On the page too, which is what is passed on."""
    records = [
        {**record, "corrections": "model.latent: another"} for record in kept.records if record["variant"] == "point"
    ]
    told = dataclasses.replace(
        kept, failed={"horseshoe": "NaN in loss at step 3"}, settings={"point": "", "normal": "x=3"}
    )
    told.records = [record for record in kept.records if record["variant"] != "point"] + records
    corrected, own = "point: model.latent: another", "normal: with x=3, as in the experiment"
    for said in ("horseshoe failed: NaN in loss at step 3", corrected, own):
        assert said in told.notes() and said in told._html(b"")


def test_figures_that_are_not_finite_are_drawn_without(kept):
    views = {name: _view(runs[0]) for name, runs in kept.runs.items()}
    broken = views["normal"].kl["z"].copy()
    broken[0] = np.inf
    assert figure.draw({"normal": views["normal"]._replace(kl={"z": broken})}).startswith(b"\x89PNG")


def test_layers_of_a_hierarchy_stand_for_themselves():
    model = HierarchicalVAE(latent_dims=(4, 2), hidden=(8, 8), depth=1)
    found = dgmzoo.compare(small(model), ["normal", "horseshoe"], seeds=[0], progress=False)
    titles = [each.title for each in table.lines(found.records)]
    assert {"KL", "KL of z1", "KL of z2", "active units z1", "sparsity z2"} <= set(titles)
    first = found.records[0]
    assert first["kl"] == pytest.approx(first["kl/z1"] + first["kl/z2"])
    assert line(found, "-log p(x)")[1].endswith("± –)")  # one seed has no error
    assert found.figure().startswith(b"\x89PNG")  # with the map of the two units of z2


def test_bits_and_models_without_latents():
    bits = small(SigmoidBeliefNetwork(latent_dims=(3,)), objective=dgmzoo.NVIL())
    found = dgmzoo.compare(bits, overrides=[{}], seeds=[0], progress=False)
    assert found.records[0]["mutual_information"] >= 0 and list(found.runs) == ["base"]
    changes = {"training.steps": 2, "model.hidden": (8,), "evaluation.num_examples": 50}
    exact = dgmzoo.experiment("ddnn/digits_made", changes)
    found = dgmzoo.compare(exact, overrides=[{"model.hidden": (9,)}], seeds=[0], progress=False)
    titles = [each.title for each in table.lines(found.records)]
    assert titles == ["-log p(x)", "train-test gap", "seconds"]


def test_pixels_that_are_not_binary_are_not_flipped():
    splits = [random.normal(size=(num, 5)).astype(np.float32) for num in (100, 20, 20)]
    exp = dataclasses.replace(small(), data=dgmzoo.from_arrays(*splits))
    found = dgmzoo.compare(exp, overrides=[{"model.likelihood": "normal"}], seeds=[0], progress=False)
    assert "robustness" not in found.records[0] and "reconstruction" in found.records[0]


REFUSED = {
    "nothing": ({}, "expected layers or overrides"),
    "no seeds": ({"layers": ["normal"], "seeds": ()}, "at least one"),
    "no lists": ({"layers": "normal"}, "expected lists of layers"),
    "a number": ({"layers": ["normal"], "seeds": 3}, "seeds=range(3)"),
    "twice": ({"layers": ["normal", "normal"]}, "different names, got 'normal' and 'normal'"),
    "unknown layer": ({"layers": ["normal", "nromal"]}, "nromal: expected model.latent one of normal, horseshoe"),
    "refused pair": ({"layers": ["normal"], "overrides": [{"model.latent": "point", "objective": "iwae"}]}, "use elbo"),
    "other data": ({"overrides": [{"data.seed": 1}]}, "got 'data.seed'"),
    "shape": ({"layers": ["normal"], "overrides": [{"model.shape": (3,)}]}, "model.shape=[3]: expected model.shape"),
    "batch": ({"layers": ["normal"], "overrides": [{"training.batch_size": 500}]}, "at most the 200"),
    "patience": ({"layers": ["normal"], "overrides": [{"training.patience": 3}]}, "patience None with 3 seeds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_before_training(case, monkeypatch, tmp_path):
    monkeypatch.setattr(api, "train", None)
    arguments, answer = REFUSED[case]
    with pytest.raises(ValueError) as refused:
        dgmzoo.compare(small(), run_dir=tmp_path, progress=False, **arguments)
    assert answer in str(refused.value) and list(tmp_path.iterdir()) == []


def test_a_run_directory_of_other_settings_is_refused_before_training(kept, digits, monkeypatch):
    monkeypatch.setattr(api, "train", None)
    other = dgmzoo.experiment("vae/digits", {"training.epochs": 2})
    with pytest.raises(ValueError, match=r"point: .*model.latent_dim was 3, now 20"):
        dgmzoo.compare(other, ["horseshoe", "point"], seeds=[1], run_dir=kept.path, progress=False)


def test_models_without_layers_are_told_so():
    with pytest.raises(ValueError, match="use overrides"):
        make_variants(dgmzoo.experiment("ddnn/digits_made"), ["normal"], [])
    assert isinstance(make_variants(small(), ["point"], [])["point"].model.latent, PointLayer)


def test_a_layer_of_the_experiments_own_kind_keeps_its_settings():
    base = overrides.override(small(), {"model.latent": "horseshoe", "model.latent.slab": 0.5})
    found = make_variants(base, ["normal", "horseshoe"], {"wide": {"model.latent.slab": 3.0}})
    assert list(found) == ["normal", "horseshoe", "wide"]
    assert found["normal"].model.latent == VariationalLayer()
    assert found["horseshoe"].model.latent.slab == 0.5 and found["wide"].model.latent.slab == 3
    assert _own_settings("horseshoe", base) == "model.latent.slab=0.5"
    assert not _own_settings("normal", base)
    base = small(VAE(latent_dim=2, latent=VariationalLayer(posterior=dist.Laplace, prior=dist.Laplace)))
    assert make_variants(base, ["normal"], [])["normal"].model.latent.posterior is dist.Normal
    other = {"model.latent": "piecewise", "model.latent.prior": "piecewise", "model.latent.posterior": "normal"}
    pieces = overrides.override(small(), other)
    kept = make_variants(pieces, ["piecewise", "normal"], [])
    assert kept["piecewise"].model == pieces.model and kept["normal"].model.latent == VariationalLayer()
    with pytest.raises(ValueError, match=r"a letter or a digit, got '\.\.'"):
        make_variants(small(), [], {"..": {}})
    with pytest.raises(ValueError, match="name them"):
        make_variants(small(), [], [{"extra_losses": {"a": f}} for f in (abs, abs)])


def test_the_table_fits_a_terminal_of_80_columns(capsys):
    names = (
        "normal",
        "horseshoe",
        "model.latent.prior=Laplace",
        "model.latent.prior=StudentT",
        "spherical",
        "a [b] name",
    )
    records = [
        record(name, seed, nll=100.0 + seed * i, elbo=-101.5 * (1 + seed * i), robustness=-1234.56 - seed)
        for i, name in enumerate(names)
        for seed in range(3)
    ]
    Console(width=80).print(table.rich_table(records, "six"))
    told = capsys.readouterr().out
    for each in table.lines(records):
        for cell in each.words():
            mean, _, difference = cell.rstrip(")").partition(" (")
            assert mean in told and difference in told
    assert "…" not in told and "a [b] name" in told
