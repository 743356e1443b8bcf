"""Experiments with an entry of the test's own on a few vectors of four bits."""

import numpy as np

from dgmzoo import data
from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.preflight import Resolved, resolve
from dgmzoo.config.training import Training

ROWS = np.random.default_rng(0).integers(0, 2, (60, 4)).astype(np.float32)


def experiment_of(module, training=None, rows=ROWS, **parts) -> Experiment:
    """An experiment of two steps with the module on the rows."""
    config = data.from_arrays(rows, name="mine")
    training = {"steps": 2, "batch_size": 8} | (training or {})
    parts = {"evaluation": Evaluation(num_samples=5)} | parts
    return Experiment(model=module, data=config, training=Training(**training), **parts)


def resolved_of(module, training=None, rows=ROWS, **parts) -> Resolved:
    """The same experiment after the checks before training."""
    experiment = experiment_of(module, training, rows, **parts)
    return resolve(experiment, data.load_dataset(experiment.data))
