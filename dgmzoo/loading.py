"""`load`: load a trained model from a run directory or an exported file; `export`: write one as a single file.

Neither needs the data: a model is built from the description that was kept of them, and rows are loaded when one is read.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from dgmzoo.config.experiment import Experiment, load_experiment
from dgmzoo.config.overrides import flatten, override
from dgmzoo.config.preflight import resolve_trained
from dgmzoo.data import Data, load_dataset
from dgmzoo.data.description import described_dataset, description_of
from dgmzoo.evaluation.prepared import prepare
from dgmzoo.run import Run
from dgmzoo.training.exported import Exported
from dgmzoo.training.exported import export as write_exported
from dgmzoo.training.loop import selected, variable_shapes
from dgmzoo.training.run_code import code_of
from dgmzoo.training.run_config import MAY_CHANGE, differences, run_config
from dgmzoo.training.run_directory import RunDirectory


def load(
    path: str | Path,
    experiment: Experiment | str | None = None,
    data: Data | str | None = None,
    trust_code: bool = False,
) -> Run:
    """Load a trained run from its directory, or from a file that `export` wrote.

    The data are not needed: their rows are loaded when one is read, for evaluation say.

    Args:
      experiment: needed only where it was built in Python and not by name: the experiment, or the path of a file that
        defines it.
      data: where the data are now, if they have moved: a path, or a `dgmzoo.Data`. Their content must be the same.
      trust_code: run the experiment file that comes with the run, although you have neither trained nor trusted it
        before. Read it first: it is a program.

    Raises:
      ValueError: not a run, no intact parameters, or its code is not trusted or has changed. When rows are read: the data
        have other content.
    """
    path = Path(path).expanduser()
    stored = Exported(path) if path.is_file() else RunDirectory(path)
    config = stored.config()
    if isinstance(experiment, str | Path):
        experiment = override(load_experiment(str(experiment)), config["overrides"])
    exp = _with_data(experiment or stored.experiment(trust_code), config, data)
    requested, trained = flatten(exp), config["resolved"]
    if requested["extra_losses"].keys() == trained["extra_losses"].keys():
        requested["extra_losses"] = trained["extra_losses"]  # extra losses act in training alone
    if callable(exp.training.optimizer):  # and so does the optimizer
        requested["training.optimizer"] = trained["training.optimizer"]
    if lines := differences(trained, requested, MAY_CHANGE | {"data.name"}):  # the data are compared by content
        raise ValueError(f"expected the experiment that {path} was trained with, got another: {lines}")
    dataset = described_dataset(stored.description(), lambda: load_dataset(exp.data))
    resolved = resolve_trained(exp, dataset)
    resolved = resolved._replace(model=resolved.model._replace(takes_given=config["takes_given"]))
    if isinstance(stored, Exported):
        variables, step = stored.variables(variable_shapes(exp, resolved.model, dataset)), stored.step
    else:
        variables, step = selected(exp, resolved.model, dataset, (stored.latest, stored.best))
    variables = prepare(resolved.model, variables, jax.random.key(exp.evaluation.seed))
    record = stored.result()
    if record and record["steps"] != step:  # the checkpoint of the measured parameters is damaged
        record = None
    own_path = stored.path if isinstance(stored, RunDirectory) else None
    return Run(resolved, variables, step, config["seed"], stored.metrics(), own_path, record)


def export(run: Run | str | Path, path: str | Path, trust_code: bool = False) -> None:
    """Write a trained model as one file: parameters, configuration, description of the data, metrics, result, own code.

    `load` and the commands `sample` and `evaluate` read it, on another machine too.

    Args:
      run: a run, or its directory.
      trust_code: as for `load`.

    Raises:
      ValueError: not a run.
      CannotWrite: the disk is full, or the folder cannot be written.
    """
    run = run if isinstance(run, Run) else load(run, trust_code=trust_code)
    codes, files = code_of(run.experiment)
    write_exported(
        Path(path).expanduser(),
        run_config(run.resolved, run.seed, codes),
        description_of(run.dataset),
        files,
        run.variables,
        run.step,
        run.metrics,
        run.record,
    )


def experiment_of(directory: RunDirectory, trust_code: bool = False) -> Experiment:
    """The experiment of a run directory, to resume it, with its data where they were or, by `override`, where they are.

    Raises:
      ValueError: as `load`.
    """
    return _with_data(directory.experiment(trust_code), directory.config(), None)


def _with_data(experiment: Experiment, config: dict[str, Any], data: Data | str | None) -> Experiment:
    """The experiment with its data where they are now."""
    if isinstance(data, Data):
        return dataclasses.replace(experiment, data=data)
    if data is None and config["data_path"] and not Path(experiment.data.name).expanduser().exists():
        data = config["data_path"]  # a relative path of another working directory
    return experiment if data is None else override(experiment, {"data.name": str(data)})
