"""A training of the smallest VAE of digits, and a watcher of it."""

from pathlib import Path

import dgmzoo
from dgmzoo import data
from dgmzoo.config.preflight import bind

TINY = {"model.encoder.hidden": (8,), "model.decoder.hidden": (8,), "model.latent_dim": 2, "evaluation.num_samples": 10}


class Quiet:
    """A watcher that keeps the rows."""

    def __init__(self):
        self.rows = []

    def begin(self, step, total): ...
    def write(self, row):
        self.rows.append(row)

    def progress(self, step, total, latest): ...
    def should_stop(self):
        return False


def prepared(changes, name="vae/digits"):
    exp = dgmzoo.experiment(name, changes)
    dataset = data.load_dataset(exp.data)
    return exp, dgmzoo.functional(bind(exp.model, dataset)), dataset


def damage(run_dir: Path, step: int) -> None:
    """Reverse the bytes of every array of a run's checkpoint."""
    for path in run_dir.glob(f"checkpoints/latest/{step}/tree/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[::-1])
