"""`experiment`: find an experiment by its name; `train`: train and evaluate it."""

import contextlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from dgmzoo import data, files
from dgmzoo.config.experiment import Experiment, load_experiment
from dgmzoo.config.overrides import NO_IDENTITY, override
from dgmzoo.config.preflight import Resolved, resolve
from dgmzoo.data.description import description_of
from dgmzoo.data.fetch_progress import console_progress
from dgmzoo.evaluation.given_samples import check_given
from dgmzoo.evaluation.prepared import prepare
from dgmzoo.evaluation.training_value import training_value
from dgmzoo.report import render
from dgmzoo.run import Run, measure, training_seconds
from dgmzoo.training import multihost
from dgmzoo.training.loop import Fitted, Interrupted, check_seeds, fit_seeds
from dgmzoo.training.metric_writers import Writer
from dgmzoo.training.metric_writers import check as check_writers
from dgmzoo.training.progress import ProgressCallback, stage
from dgmzoo.training.run_code import code_of
from dgmzoo.training.run_config import functions_of, run_config
from dgmzoo.training.run_directory import RECONSTRUCTIONS, REPORT, RESULT, SAMPLES, RunDirectory, RunState
from dgmzoo.training.seed_tracker import SeedTracker
from dgmzoo.validation import check_seed


def experiment(name: str, changes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a name (`vae/digits`) or of a user's file, with overrides.

    >>> experiment("vae/digits", {"model.latent_dim": 2}).model.latent_dim
    2

    Args:
      changes: path -> value, such as `{"model.latent_dim": 20, "objective": "iwae"}`.

    Raises:
      ValueError: no such experiment or field (the nearest names are given), or a value that does not fit.
    """
    return override(load_experiment(name), changes or {})


def train(
    what: Experiment | str,
    run_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    seeds: Sequence[int] | None = None,
    writers: Sequence[str | Writer] = (),
) -> Run | list[Run]:
    """Train an experiment, measure it on held-out data, and return the run.

    After `jax.distributed.initialize` in several processes, all of them make the same call; process 0 writes, and the runs
    of the others have no `path`.

    Args:
      what: an experiment or its name.
      run_dir: directory of the run; a run that was stopped there is resumed. None keeps the run in memory.
      seed: seed of initial values, order of the rows and noise.
      progress: show progress on standard error.
      seeds: train all of these in one compiled program, each in its own `run_dir/seed-N`, and return a list of runs.
        Seeds that are measured already are returned as they are.
      writers: receivers of the rows of metrics beside `metrics.jsonl`: "csv", "tensorboard", or a function of a row (with
        several seeds a row has `seed`). Rows past the checkpoint from which a run is resumed come a second time.

    Raises:
      ValueError: the experiment, the data or the run directory does not fit.
      NonFinite: a NaN or infinity, with the step and the terms.
      Interrupted: Ctrl-C or SIGTERM; the same call resumes the run.
      CannotWrite: the disk is full; the same call resumes the run once there is room.
    """
    check_writers(writers, in_memory=run_dir is None)
    chosen = [check_seed(number) for number in ([seed] if seeds is None else seeds)]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"expected different seeds, at least one, got {chosen}")
    if len(chosen) > 1 and jax.process_count() > 1:
        raise ValueError(f"expected one seed with several processes, got {len(chosen)}; train the seeds in turn")
    exp = what if isinstance(what, Experiment) else load_experiment(str(what))
    check_seeds(exp, len(chosen))
    multihost.connect_devices()
    is_first = multihost.is_first()
    progress = progress and is_first
    with multihost.shared_errors():
        with console_progress(progress) as (log, fetching):
            dataset = data.load_dataset(exp.data, log, fetching)
        resolved = check_given(resolve(exp, dataset))
    if is_first:
        _report_corrections(resolved, progress)
    codes, files_of_code = code_of(exp)
    configs = {number: run_config(resolved, number, codes) for number in chosen}
    _agree(configs[chosen[0]], run_dir)
    if run_dir is None:
        return _returned(_train(resolved, dict.fromkeys(chosen), writers, progress, seeds is not None), seeds)
    paths = {number: Path(run_dir) if seeds is None else Path(run_dir) / f"seed-{number}" for number in chosen}
    directories = {number: RunDirectory(path) for number, path in paths.items()}
    with contextlib.ExitStack() as locks:
        with multihost.shared_errors():
            if is_first:
                _open(directories, configs, locks, description_of(dataset), files_of_code)
                for code in codes.values():
                    code.trust()
        measured = [number for number, directory in directories.items() if is_first and _is_measured(directory)]
        # Each measured seed is restored by itself; the others train in one program.
        groups = [[number] for number in measured] + [[number for number in chosen if number not in measured]]
        runs: dict[int, Run] = {}
        for group in filter(None, groups):
            runs |= _train(
                resolved, {number: directories[number] for number in group}, writers, progress, seeds is not None
            )
    return _returned({number: runs[number] for number in chosen}, seeds)


def _returned(runs: Mapping[int, Run], seeds: Sequence[int] | None) -> Run | list[Run]:
    return next(iter(runs.values())) if seeds is None else list(runs.values())


def _report_corrections(resolved: Resolved, progress: bool) -> None:
    for correction in resolved.corrections:
        if progress:
            print(f"note: {correction}", file=sys.stderr)
        else:
            warnings.warn(correction, stacklevel=3)


def _agree(config: dict[str, Any], run_dir: str | Path | None) -> None:
    """Refuse processes that were started with different settings."""
    shared = {"jax": jax.__version__, "devices in a process": jax.local_device_count(), "run_dir given": bool(run_dir)}
    multihost.check_agreement(
        shared | {name: value for name, value in config.items() if name != "resolved"} | config["resolved"]
    )


def _open(
    directories: Mapping[int, RunDirectory],
    configs: Mapping[int, dict[str, Any]],
    locks: contextlib.ExitStack,
    description: dict[str, Any],
    code: Mapping[str, bytes],
) -> None:
    """Check and lock all of the directories before any is written."""
    for number, directory in directories.items():
        directory.check(configs[number])
    for directory in directories.values():
        locks.enter_context(directory.lock())
    for number, directory in directories.items():
        directory.open(configs[number], description, code)
    for name, text in functions_of(next(iter(configs.values()))["resolved"]).items():
        if text.startswith(NO_IDENTITY):
            warnings.warn(f"the run cannot be resumed with its {name}: {text}", stacklevel=4)


def _is_measured(directory: RunDirectory) -> bool:
    return directory.result() is not None and (directory.path / REPORT).is_file()


def _train(
    resolved: Resolved,
    directories: Mapping[int, RunDirectory | None],
    writers: Sequence[str | Writer],
    progress: bool,
    several: bool,
) -> dict[int, Run]:
    """Train some seeds in one program, and measure those that are not measured yet."""
    is_first, callbacks, trackers = multihost.is_first(), [], []
    meaning = training_value(resolved.module)
    for i, (seed, directory) in enumerate(directories.items()):
        own_writers = [_with_seed(writer, seed) for writer in writers] if several else writers
        callback = ProgressCallback(
            directory if is_first else None,
            progress and i == 0,
            own_writers if is_first else (),
            training_value=meaning,
            log_det=resolved.dataset.log_det if resolved.model.bound else 0.0,
        )
        callbacks.append(callback)
        trackers.append(SeedTracker(resolved.experiment.name, seed, callback, _checkpoints(directory)))
    try:
        with callbacks[0].active():
            fitted = fit_seeds(resolved.experiment, resolved.model, resolved.dataset, trackers)
    except Interrupted as interrupted:
        interrupted.signal = callbacks[0].signal
        raise
    with multihost.shared_errors():
        for directory, fit in zip(directories.values(), fitted, strict=True) if is_first else ():
            if directory is not None and fit.trained:
                directory.advance(RunState.TRAINED)
    return {
        seed: _measured(resolved, seed, directory, callback.rows, fit, progress)
        for (seed, directory), callback, fit in zip(directories.items(), callbacks, fitted, strict=True)
    }


def _measured(
    resolved: Resolved,
    seed: int,
    directory: RunDirectory | None,
    metrics: list[dict[str, Any]],
    fit: Fitted,
    progress: bool,
) -> Run:
    """The run of a trained seed, with its result and its report; they are made unless they belong to these parameters."""
    with stage("preparing the model for its evaluation", progress):
        variables = prepare(resolved.model, fit.variables, jax.random.key(resolved.experiment.evaluation.seed))
    is_first = multihost.is_first()
    path = directory.path if directory is not None and is_first else None
    record = directory.result() if path is not None else None
    is_current = bool(record) and record["steps"] == fit.step and not fit.trained and (path / REPORT).is_file()
    if multihost.broadcast_flag(is_current):
        return Run(resolved, variables, fit.step, seed, metrics, path, record)
    with multihost.shared_errors():
        if path is not None:
            directory.advance(RunState.TRAINED)  # deletes a result of other parameters
    seconds = training_seconds(metrics)
    record, estimate = measure(resolved, variables, fit.step, seed, seconds, progress=progress, partial=path)
    run = Run(resolved, variables, fit.step, seed, metrics, path, record)
    with multihost.shared_errors():
        if path is not None:
            files.write_json(path / RESULT, record)
            with stage("writing the report", progress):
                render.write(run, estimate, REPORT, SAMPLES, RECONSTRUCTIONS)
            directory.advance(RunState.MEASURED)
    return run


def _checkpoints(directory: RunDirectory | None) -> tuple | None:
    """The latest and the best checkpoints of a run directory, shared by the processes of a run."""
    if directory is None:
        return None
    checkpoints = (directory.latest, directory.best)
    return checkpoints if jax.process_count() == 1 else tuple(map(multihost.SharedCheckpoints, checkpoints))


def _with_seed(writer: str | Writer, seed: int) -> str | Writer:
    return (lambda row: writer({"seed": seed, **row})) if callable(writer) else writer
