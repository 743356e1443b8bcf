"""A run directory and an exported file are the model (F27): they are used where neither the code nor the data lie at their places."""

import json
import shutil
import zipfile
from typing import NamedTuple

import numpy as np
import pytest

import dgmzoo
from dgmzoo import loading
from dgmzoo.config import experiment_file, user_code
from dgmzoo.config.user_code import UserCode
from dgmzoo.training.exported import Exported
from dgmzoo.training.run_code import SOURCE
from dgmzoo.training.run_directory import CONFIG

MINE = """
import dgmzoo
from f27_nets import hidden

experiment = dgmzoo.Experiment(
    model=dgmzoo.VAE(latent_dim=2, encoder=dgmzoo.MLP(hidden), decoder=dgmzoo.MLP(hidden)),
    data=dgmzoo.Data("x.npy"),
    training=dgmzoo.Training(steps=4, batch_size=10),
    evaluation=dgmzoo.Evaluation(num_samples=4),
)
"""


class Moved(NamedTuple):
    """A run whose code and data are at other places than when it was trained, and unknown to the person who loads it."""

    run: dgmzoo.run.Run
    path: object  # the run directory
    file: object  # the exported file
    data: str


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("f27")
    home, patch = folder / "home", pytest.MonkeyPatch()
    patch.setenv("DGMZOO_CACHE", str(folder / "cache"))
    home.mkdir()
    np.save(home / "x.npy", (np.random.default_rng(0).random((100, 5)) < 0.3).astype(np.uint8))
    (home / "mine.py").write_text(MINE)
    (home / "f27_nets.py").write_text("hidden = (4,)\n")
    patch.chdir(home)
    run = dgmzoo.train(str(home / "mine.py"), home / "run", progress=False)
    dgmzoo.export(run, folder / "model.zoo")
    shutil.move(home / "run", folder / "run")
    home.rename(folder / "gone")
    patch.chdir(folder)
    patch.setenv("DGMZOO_CACHE", str(folder / "another person"))
    yield Moved(run, folder / "run", folder / "model.zoo", str(folder / "gone/x.npy"))
    patch.undo()


def test_f27_code_is_run_only_if_this_person_trusts_it(moved, monkeypatch):
    ran = []
    monkeypatch.setattr(experiment_file, "execute", ran.append)
    for path in (moved.path, moved.file):
        with pytest.raises(ValueError, match=r"code that you have trained or trusted .* mine.py.* --trust-code"):
            dgmzoo.load(path)
    assert not ran


def test_f27_a_moved_run_samples_without_data_and_is_evaluated_with_them(moved):
    for path in (moved.path, moved.file):
        run = dgmzoo.load(path, trust_code=True)
        np.testing.assert_array_equal(run.sample(3), moved.run.sample(3))
        with pytest.raises(FileNotFoundError, match=r"expected data at .*x\.npy, found nothing.*--data\.name"):
            run.evaluate()
        assert dgmzoo.load(path, data=moved.data).evaluate()["value"] == moved.run.record["value"]  # trusted by now
        assert run.record == moved.run.record and run.metrics == moved.run.metrics


def test_f27_other_data_are_refused_when_they_are_read(moved, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((100, 5), np.uint8))
    run = dgmzoo.load(moved.path, data=str(tmp_path / "x.npy"), trust_code=True)
    with pytest.raises(ValueError, match="expected the data that the model was trained on"):
        run.evaluate()


@pytest.mark.thorough
def test_f27_a_moved_run_is_continued(moved, tmp_path):
    shutil.copytree(moved.path, tmp_path / "run")
    experiment = loading.experiment_of(loading.RunDirectory(tmp_path / "run"), trust_code=True)
    changes = {"training.steps": 8, "data.name": moved.data}
    longer = dgmzoo.train(dgmzoo.experiment(str(moved.path.parent / "gone/mine.py"), changes), progress=False)
    continued = dgmzoo.train(dgmzoo.config.overrides.override(experiment, changes), tmp_path / "run", progress=False)
    assert continued.record["value"] == longer.record["value"] and continued.record["steps"] == 8
    stored = json.loads((tmp_path / "run" / CONFIG).read_text())
    assert stored["experiment"].endswith("home/mine.py")  # not that of a temporary copy


def test_f27_a_file_that_does_not_belong_to_the_code_is_never_imported(moved, tmp_path):
    shutil.copytree(moved.path, tmp_path / "run")
    config = json.loads((tmp_path / "run" / CONFIG).read_text())
    source = tmp_path / "run" / SOURCE / "experiment"
    config["code"]["experiment"]["path"] = str(
        source / "mine.py"
    )  # the run claims that it was trained from its own copy
    (tmp_path / "run" / CONFIG).write_text(json.dumps(config))
    code = UserCode.from_json(config["code"]["experiment"], "run")
    found = user_code.trusted_path(code, lambda name: (source / name).read_bytes(), "run", trust=True)
    assert found.parent != source and sorted(path.name for path in found.parent.iterdir()) == ["f27_nets.py", "mine.py"]


@pytest.mark.parametrize("name", ["../mine.py", "/mine.py", ""])
def test_f27_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="names of files below one folder"):
        UserCode.from_json({"path": "mine.py", "main": name, "files": {name: "0"}}, "run")


def test_f27_changed_code_of_a_run_is_refused(moved, tmp_path):
    shutil.copytree(moved.path, tmp_path / "run")
    (tmp_path / "run" / SOURCE / "experiment/f27_nets.py").write_text("hidden = (5,)\n")
    with pytest.raises(ValueError, match=r"'f27_nets\.py' of .*run as it was when the run began, got a changed one"):
        dgmzoo.load(tmp_path / "run", trust_code=True)


def test_f27_damaged_exported_files_are_refused_in_one_line(moved, tmp_path):
    content = moved.file.read_bytes()
    damaged = {
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "flipped": content.replace(b"mine.py", b"mine.pz", 1),
        "text": b"a model",
    }
    for name, damage in damaged.items():
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(ValueError, match="expected a file that `dgmzoo export` wrote") as error:
            dgmzoo.load(tmp_path / name, trust_code=True)
        assert "\n" not in str(error.value)
    with (
        zipfile.ZipFile(moved.file) as archive,
        zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in archive.namelist():
            packed.writestr(member, archive.read(member))
    with pytest.raises(ValueError, match="is compressed, or larger"):
        Exported(tmp_path / "packed")


def test_f27_another_experiment_does_not_fit_an_exported_file(moved, tmp_path):
    (tmp_path / "f27_other.py").write_text(
        MINE.replace("latent_dim=2", "latent_dim=3")
        .replace("hidden)", "(4,))")
        .replace("from f27_nets import hidden", "")
    )
    with pytest.raises(
        ValueError, match=r"expected the experiment that .* was trained with, got another: model.latent_dim"
    ):
        dgmzoo.load(moved.file, experiment=str(tmp_path / "f27_other.py"))


def test_f58_a_file_that_is_reached_by_its_path_belongs_to_the_code(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "base.py").write_text(MINE.replace("hidden)", "(4,))").replace("from f27_nets import hidden", ""))
    (tmp_path / "a/mine.py").write_text(
        'import dgmzoo\n\nexperiment = dgmzoo.experiment("../base.py", {"model.latent_dim": 3})\n'
    )
    monkeypatch.chdir(tmp_path)  # a relative path is the file's, not the shell's
    first = dgmzoo.experiment("a/mine.py")
    assert first.model.latent_dim == 3
    assert set(experiment_file.contents(first.origin.file_sha256)) == {"a/mine.py", "base.py"}
    (tmp_path / "base.py").write_text(MINE.replace("hidden)", "(6,))").replace("from f27_nets import hidden", ""))
    second = dgmzoo.experiment("a/mine.py")
    assert second.origin.file_sha256 != first.origin.file_sha256
    assert (first.model.encoder.hidden, second.model.encoder.hidden) == ((4,), (6,))


def test_f27_a_moved_run_whose_rows_have_labels_samples_without_them(tmp_path):
    x = (np.random.default_rng(0).random((60, 5)) < 0.3).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x, label=np.arange(60) % 3)
    changes = {"data.name": str(tmp_path / "x.npz"), "data.encoding": None, "training.steps": 2, "model.latent_dim": 2}
    changes |= {"training.batch_size": 10, "evaluation.num_samples": 2}
    dgmzoo.train(dgmzoo.experiment("vae/digits", changes), tmp_path / "run", progress=False)
    (tmp_path / "x.npz").unlink()
    assert dgmzoo.load(tmp_path / "run").sample(3).shape == (3, 5)
