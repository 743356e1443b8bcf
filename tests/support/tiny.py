"""The smallest VAE of digits, its data and model, a callback, and damage to a checkpoint."""

from pathlib import Path

import dgmzoo
from dgmzoo import api, data
from dgmzoo.config.preflight import resolve

TINY = {"model.encoder.hidden": (8,), "model.decoder.hidden": (8,), "model.latent_dim": 2, "evaluation.num_samples": 10}


class Quiet:
    """A callback that keeps the rows."""

    def __init__(self):
        self.rows = []

    def begin(self, step, total): ...
    def write(self, row):
        self.rows.append(row)

    def progress(self, step, total, latest): ...
    def should_stop(self):
        return False

    def losses(self, split: str) -> list[float]:
        """Losses of the rows of a split."""
        return [row["loss"] for row in self.rows if row["split"] == split]


def prepared(changes, name="vae/digits"):
    """Experiment, model and data set of a name with changes."""
    exp = dgmzoo.experiment(name, changes)
    dataset = data.load_dataset(exp.data)
    return exp, resolve(exp, dataset).model, dataset


def damage(run_dir: Path, step: int) -> None:
    """Reverse the bytes of every array of a run's checkpoint."""
    for path in run_dir.glob(f"checkpoints/latest/{step}/tree/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[::-1])


def skip_reports(monkeypatch) -> None:
    """Write an empty report after each training, because its pictures take as long as the training itself."""
    monkeypatch.setattr(api.render, "write", lambda run, *_: run.path and (run.path / "report.html").touch())
