"""Runs keep working beside stray files (F28), with steps of two latents (F36), and of files that make arrays (F48)."""

import json

import numpy as np
import pytest

from dgmzoo import api, loading
from dgmzoo.report.plots import training_curves
from dgmzoo.training.run_directory import RunDirectory

MINE = """
import numpy as np
import dgmzoo

rows = np.random.default_rng(0).integers(0, 2, (60, 4)).astype(np.float32)
experiment = dgmzoo.Experiment(
    model=dgmzoo.MADE(hidden=(4,)), data=dgmzoo.from_arrays(rows), training=dgmzoo.Training(steps=3, batch_size=8)
)
"""


@pytest.mark.thorough
def test_f28_f48_a_run_of_arrays_in_a_file_is_loaded_beside_stray_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    run = api.train("mine.py", "run", progress=False)
    directory = RunDirectory("run")
    for folder in (directory.path, directory.latest.directory, *(directory.latest.directory).rglob("*")):
        if folder.is_dir():
            (folder / ".DS_Store").write_bytes(b"stray")
    loaded = loading.load("run")
    assert loaded.record == run.record and loaded.step == run.step
    record = loaded.evaluate("valid")
    assert record["experiment"].endswith("mine.py") and np.isfinite(record["value"])
    assert json.loads((tmp_path / "run/config.json").read_text())["experiment"].endswith("mine.py")


def test_f43_a_run_within_one_epoch_has_a_curve_of_points():
    rows = [{"step": 3, "split": split, "elbo": -2.0, "kl/z": 0.5} for split in ("train", "valid")]
    assert training_curves(rows).count("<use") > 1  # markers
