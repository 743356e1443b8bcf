"""The verbs of the command line as functions."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from dgmzoo import data
from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment
from dgmzoo.config.experiment import load as load_experiment
from dgmzoo.config.preflight import bind, check_fits
from dgmzoo.data.fetch_progress import told
from dgmzoo.model.functional import functional
from dgmzoo.run import Run
from dgmzoo.training import multihost
from dgmzoo.training.loop import Interrupted, check_seeds, fit_seeds, selected
from dgmzoo.training.metric_writers import Writer
from dgmzoo.training.metric_writers import check as check_writers
from dgmzoo.training.progress import ProgressCallback
from dgmzoo.training.run_directory import RunDirectory, describe, differences
from dgmzoo.training.seed_groups import Place, grouped
from dgmzoo.training.seed_tracker import SeedTracker
from dgmzoo.validation import check_seed


def experiment(name: str, changes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a name (`vae/digits`) or of a user's file, with overrides.

    Args:
      changes: path -> value, such as `{"model.latent_dim": 20, "objective": "iwae"}`.

    Raises:
      ValueError: no such experiment or field, or a value that does not fit; the nearest names are given.
    """
    return overrides.override(load_experiment(name), changes or {})


def train(
    what: Experiment | str,
    run_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    seeds: Sequence[int] | None = None,
    writers: Sequence[str | Writer] = (),
) -> Run | list[Run]:
    """Train an experiment, measure it on held-out data, and give back the run.

    After `jax.distributed.initialize` in several processes, all of them make the same call; process 0 writes and the others'
    runs have no `path`.

    Args:
      what: an experiment or its name.
      run_dir: where to keep it; a run that was stopped there goes on. None keeps it in memory.
      seed: of initial values, order of the rows and noise.
      progress: show how far it is, on standard error.
      seeds: train all of these at once in one compiled program, each in its own `run_dir/seed-N`; gives a list of runs.
        Those that stand elsewhere (trained alone, or ended) go on by themselves, in turn.
      writers: who gets the rows of metrics beside `metrics.jsonl`: "csv", "tensorboard", or a function of a row (of several
        seeds it has `seed`); rows past the checkpoint at which a run goes on come a second time.

    Raises:
      ValueError: the experiment, the data or the run directory is not what it should be.
      NonFinite: a NaN or infinity, with the step and the terms it was in.
      Interrupted: Ctrl-C or SIGTERM; the same call goes on.
      CannotWrite: the disk is full; the same call goes on once there is room.
    """
    check_writers(writers, in_memory=run_dir is None)
    chosen = [check_seed(each) for each in ([seed] if seeds is None else seeds)]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"expected different seeds, at least one, got {chosen}")
    exp = what if isinstance(what, Experiment) else load_experiment(str(what))
    check_seeds(exp, len(chosen))
    origin = overrides.origin(exp)
    if len(chosen) > 1 and jax.process_count() > 1:
        raise ValueError(f"expected one seed with several processes, got {len(chosen)}; train them in turn")
    multihost.meet()
    first = multihost.is_first()
    progress = progress and first
    with multihost.together():
        with told(progress) as (log, fetching):
            dataset = data.load(exp.data, log, fetching)
        if "test" not in dataset.splits:
            raise ValueError(
                f"expected data with a test split to measure, got {', '.join(dataset.splits)} of {dataset.name!r}"
            )
        model = functional(bind(exp.model, dataset))
        check_fits(exp, model, dataset)
    runs = [Run(exp, origin, dataset, model, None, 0, number) for number in chosen]
    described = [describe(exp, origin, run.seed, dataset.sha256) for run in runs]
    devices = {"jax": jax.__version__, "devices in a process": jax.local_device_count()}
    flat = {name: value for name, value in described[0].items() if name != "resolved"} | described[0]["resolved"]
    multihost.agree(devices | {"run_dir given": run_dir is not None} | flat)
    folders = [None] * len(runs)
    if run_dir is not None:
        folders = [RunDirectory(run_dir if seeds is None else Path(run_dir) / f"seed-{run.seed}") for run in runs]
    claimed = [folder is not None and (folder.path / "config.json").is_file() for folder in folders]
    with contextlib.ExitStack() as held:
        with multihost.together():
            if first and run_dir is not None:
                _claim(folders, described, held)
                for run, folder in zip(runs, folders, strict=True):
                    run.path, run.record = folder.path, folder.result()
        kept = {run.seed: (run, folder) for run, folder in zip(runs, folders, strict=True)}
        programs = [list(kept)]
        if len(runs) > 1 and run_dir is not None:
            places = zip(runs, folders, claimed, strict=True)
            programs = grouped(
                [Place(run.seed, folder.latest, begun, run.record is not None) for run, folder, begun in places]
            )
        for program in programs:
            _train([kept[seed] for seed in program], writers, seeds is not None, progress)
    return runs if seeds is not None else runs[0]


def _train(
    kept: Sequence[tuple[Run, RunDirectory | None]], writers: Sequence[str | Writer], several: bool, progress: bool
) -> None:
    """Train the runs of one program, and measure those that are not yet."""
    shared, first, watches = kept[0][0], multihost.is_first(), []
    for run, folder in kept:
        own = [_of_seed(writer, run.seed) for writer in writers] if several else writers
        watches.append(ProgressCallback(folder if first else None, progress and run is shared, own if first else ()))
    tracks = [
        SeedTracker(run.experiment.name, run.seed, watch, _checkpoints(folder))
        for (run, folder), watch in zip(kept, watches, strict=True)
    ]
    try:
        with watches[0].watching():
            fitted = fit_seeds(shared.experiment, shared.model, shared.dataset, tracks)
    except Interrupted as stopped:
        stopped.signal = watches[0].signal
        raise
    for (run, folder), watch, found in zip(kept, watches, fitted, strict=True):
        run.variables, run.step, run.metrics = found.variables, found.step, watch.rows
        if found.trained or not multihost.first_says(run.is_measured()):
            with multihost.together():
                if folder is not None and multihost.is_first():  # a longer training may have had nothing left to do
                    folder.overtake()
            run.measure(progress)


def _claim(folders: Sequence[RunDirectory], described: Sequence[dict[str, Any]], held: contextlib.ExitStack) -> None:
    """Check and lock all of the folders before any is claimed."""
    for folder, wanted in zip(folders, described, strict=True):
        folder.check(wanted)
    for folder in folders:
        held.enter_context(folder.held())
    for folder, wanted in zip(folders, described, strict=True):
        folder.claim(wanted)


def _checkpoints(folder: RunDirectory | None) -> tuple | None:
    """The latest and the best of a run directory, which several processes share."""
    if folder is None:
        return None
    kept = (folder.latest, folder.best)
    return kept if jax.process_count() == 1 else tuple(multihost.SharedCheckpoints(each) for each in kept)


def load(run_dir: str | Path, experiment: Experiment | None = None) -> Run:
    """A trained run from its directory.

    Args:
      experiment: needed only where it was built in Python and not by name.

    Raises:
      ValueError: not a run directory, no intact checkpoint, or the data or the experiment's file have changed.
    """
    folder = RunDirectory(run_dir)
    stored = folder.config()
    exp = experiment or folder.experiment()
    resolved = overrides.flatten(exp)
    if (
        resolved["extra_losses"].keys() == stored["resolved"]["extra_losses"].keys()
    ):  # they act in training alone: names do
        resolved["extra_losses"] = stored["resolved"]["extra_losses"]
    if lines := differences(stored["resolved"], resolved):
        raise ValueError(f"expected the experiment that {run_dir} was trained with, got another: {lines}")
    dataset = data.load(exp.data)
    if dataset.sha256 != stored["dataset_sha256"]:
        raise ValueError(f"expected the data that {run_dir} was trained on, got other content of {dataset.name!r}")
    model = functional(bind(exp.model, dataset))
    variables, step = selected(exp, model, dataset, (folder.latest, folder.best))
    record = folder.result()
    if record and record["steps"] != step:  # of parameters that are damaged since
        record = None
    origin, rows = overrides.origin(exp), folder.metrics()
    return Run(exp, origin, dataset, model, variables, step, stored["seed"], rows, folder.path, record)


def _of_seed(writer: str | Writer, seed: int) -> str | Writer:
    return (lambda row: writer({"seed": seed, **row})) if callable(writer) else writer
