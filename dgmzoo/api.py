"""The verbs of the command line as functions, and the run they give back."""

import contextlib
import dataclasses
import html
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dgmzoo import config, data, files, overrides
from dgmzoo.config import Experiment
from dgmzoo.data.console import told
from dgmzoo.evaluation import ask, layer_report, pictures, record, report
from dgmzoo.evaluation.log_likelihood import Estimate
from dgmzoo.evaluation.predictive import predictive
from dgmzoo.layers.outputs import Output
from dgmzoo.model import Model, Query, functional, mean_weights, num_parameters, with_terms
from dgmzoo.training import parallel, processes
from dgmzoo.training.folder import Folder, describe, differences
from dgmzoo.training.loop import Interrupted, check_seeds, fit_seeds, selected
from dgmzoo.training.programs import Place, grouped
from dgmzoo.training.track import Track
from dgmzoo.training.watch import Watch, measuring
from dgmzoo.training.writers import Writer
from dgmzoo.training.writers import check as check_writers


def experiment(name: str, changes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a name (`vae/digits`) or of a user's file, with overrides.

    Args:
      changes: path -> value, such as `{"model.latent_dim": 20, "objective": "iwae"}`.

    Raises:
      ValueError: no such experiment or field, or a value that does not fit; the nearest names are given.
    """
    return overrides.override(config.load(name), changes or {})


def train(
    what: Experiment | str,
    run_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    seeds: Sequence[int] | None = None,
    writers: Sequence[str | Writer] = (),
) -> "Run | list[Run]":
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
    exp = what if isinstance(what, Experiment) else config.load(str(what))
    check_seeds(exp, len(chosen))
    origin = overrides.origin(exp)
    if len(chosen) > 1 and jax.process_count() > 1:
        raise ValueError(f"expected one seed with several processes, got {len(chosen)}; train them in turn")
    processes.meet()
    first = processes.is_first()
    progress = progress and first
    with processes.together():
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
    processes.agree(devices | {"run_dir given": run_dir is not None} | flat)
    folders = [None] * len(runs)
    if run_dir is not None:
        folders = [Folder(run_dir if seeds is None else Path(run_dir) / f"seed-{run.seed}") for run in runs]
    claimed = [folder is not None and (folder.path / "config.json").is_file() for folder in folders]
    with contextlib.ExitStack() as held:
        with processes.together():
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
    kept: Sequence[tuple["Run", Folder | None]], writers: Sequence[str | Writer], several: bool, progress: bool
) -> None:
    """Train the runs of one program, and measure those that are not yet."""
    shared, first, watches = kept[0][0], processes.is_first(), []
    for run, folder in kept:
        own = [_of_seed(writer, run.seed) for writer in writers] if several else writers
        watches.append(Watch(folder if first else None, progress and run is shared, own if first else ()))
    tracks = [
        Track(run.experiment.name, run.seed, watch, _checkpoints(folder))
        for (run, folder), watch in zip(kept, watches, strict=True)
    ]
    try:
        with watches[0].watching():
            fitted = fit_seeds(shared.experiment, shared.model, shared.dataset, tracks)
    except Interrupted as stopped:
        stopped.signal = watches[0].signal
        raise
    for (run, _), watch, found in zip(kept, watches, fitted, strict=True):
        run.variables, run.step, run.metrics = found.variables, found.step, watch.rows
        if found.trained or not processes.first_says(run.is_measured()):
            run.measure(progress)


def _claim(folders: Sequence[Folder], described: Sequence[dict[str, Any]], held: contextlib.ExitStack) -> None:
    """Check and lock all of the folders before any is claimed."""
    for folder, wanted in zip(folders, described, strict=True):
        folder.check(wanted)
    for folder in folders:
        held.enter_context(folder.held())
    for folder, wanted in zip(folders, described, strict=True):
        folder.claim(wanted)


def _checkpoints(folder: Folder | None) -> tuple | None:
    """The latest and the best of a run directory, which several processes share."""
    if folder is None:
        return None
    kept = (folder.latest, folder.best)
    return kept if jax.process_count() == 1 else tuple(processes.SharedCheckpoints(each) for each in kept)


def load(run_dir: str | Path, experiment: Experiment | None = None) -> "Run":
    """A trained run from its directory.

    Args:
      experiment: needed only where it was built in Python and not by name.

    Raises:
      ValueError: not a run directory, no intact checkpoint, or the data or the experiment's file have changed.
    """
    folder = Folder(run_dir)
    stored = folder.config()
    exp = experiment or folder.experiment()
    if lines := differences(stored["resolved"], overrides.flatten(exp)):
        raise ValueError(f"expected the experiment that {run_dir} was trained with, got another: {lines}")
    dataset = data.load(exp.data)
    if dataset.sha256 != stored["dataset_sha256"]:
        raise ValueError(f"expected the data that {run_dir} was trained on, got other content of {dataset.name!r}")
    model = functional(bind(exp.model, dataset))
    variables, step = selected(exp, model, dataset, (folder.latest, folder.best))
    origin, rows = overrides.origin(exp), folder.metrics()
    return Run(exp, origin, dataset, model, variables, step, stored["seed"], rows, folder.path, folder.result())


def bind(module: nn.Module, dataset: data.Dataset) -> nn.Module:
    """The module with the data's shape, checked against what its outputs can give.

    Raises:
      ValueError: the shapes differ, or x lies outside the output's support.
    """
    if "shape" in overrides.fields(module):
        if module.shape is None:
            module = module.clone(shape=tuple(dataset.shape))
        elif tuple(module.shape) != tuple(dataset.shape):
            raise ValueError(f"expected model.shape {dataset.shape} of {dataset.name!r}, got {module.shape}")
    binary = dataset.binarization in ("dynamic", "static", "threshold")
    for split in dataset.splits:
        x = dataset.fixed(split, 100 if binary else 100_000)["x"]  # binarized x is in {0, 1} by construction
        for output in outputs_of(module):
            output.check_support(x)
    return module


def outputs_of(module: nn.Module) -> list[Output]:
    """The output layers among a module's fields."""
    values = (getattr(module, name) for name in overrides.fields(module))
    return [value for value in values if isinstance(value, Output)]


def check_fits(exp: Experiment, model: Model, dataset: data.Dataset) -> None:
    """Try the experiment's shapes without computing anything.

    Raises:
      ValueError: the batch is larger than the data, the model does not take them, or a term is not one per example.
    """
    rows = dataset.splits["train"]
    exp.training.total_steps(len(rows["x"]))
    first = {name: np.asarray(leaf[:2]) for name, leaf in rows.items()}
    variables = jax.eval_shape(lambda key: model.init(key, dataset.observe(key, first)), jax.random.key(0))
    if exp.terms:
        whole, query = with_terms(model, exp.terms), Query(exp.objective.num_samples, train=True)

        def ask(variables, key):
            return whole.evidence(variables, dataset.observe(key, first), key, query)

        jax.eval_shape(ask, variables, jax.random.key(0))


def check_seed(seed: int) -> int:
    """A seed as a Python integer.

    Raises:
      ValueError: not a whole number from 0 to 2^32 - 1, the seeds that JAX tells apart.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise ValueError(f"expected a seed that is a whole number, got {seed!r}") from None
    if not 0 <= number < 2**32:
        raise ValueError(f"expected a seed from 0 to {2**32 - 1}, got {number}")
    return number


@dataclasses.dataclass(eq=False)
class Run:
    """A trained experiment."""

    experiment: Experiment
    origin: overrides.Origin
    """The name and overrides that give the experiment."""
    dataset: data.Dataset
    model: Model
    variables: Any
    step: int
    """At which the parameters were selected."""
    seed: int
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Rows of `step, split, loss, elbo, kl/<layer>, grad_norm, seconds`."""
    path: Path | None = None
    """The run directory."""
    record: dict[str, Any] | None = None
    """The result on the test split."""

    def evaluate(self, split: str = "test", num_samples: int | None = None) -> dict[str, Any]:
        """Measure a split: the record, with `value` the negative log-likelihood or bound in nats per example.

        Args:
          num_samples: importance samples per example (K); None: the experiment's.
        """
        if num_samples is not None:
            config.check_whole("num_samples", num_samples)
        return self._estimate(split, num_samples, progress=False)[0]

    def sample(
        self, num: int = 64, seed: int = 0, mean: bool = False, context: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Draws from the model, `[num, ...]`.

        Args:
          mean: instead of x itself the mean of each element given what was drawn before it, as papers picture it.
          context: what a conditional model is given, such as `{"label": [num]}`; None: that of the first test examples.
        """
        config.check_whole("num", num)
        if context is None:
            rows = self.dataset.fixed("test", num)
            given = {name: leaf for name, leaf in rows.items() if name != "x"}
            context = {name: np.resize(leaf, (num, *leaf.shape[1:])) for name, leaf in given.items()}
        draw = ask.sample(self.model, self.variables, jax.random.key(seed), num, context)
        return draw.mean if mean else draw.x

    def encode(self, x: np.ndarray | Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Layer -> parameters of q(z | x) and its mean, `[N, U]`.

        Args:
          x: `[N, ...]` as the model sees it, or rows with more than x: `{"x": ..., "label": ...}`.
        """
        return ask.encode(self.model, self.variables, _rows(x), jax.random.key(seed))

    def reconstruct(self, x: np.ndarray | Mapping[str, Any], seed: int = 0) -> np.ndarray | None:
        """The mean of p(x | z), `[N, ...]`, at one sample of q(z | x); None where the entry does not tell it."""
        return ask.reconstruct(self.model, self.variables, _rows(x), jax.random.key(seed))

    def weights(self) -> dict[str, np.ndarray]:
        """Layer -> posterior means `[..., inputs, outputs]` of its weights, where they are random."""
        rows = {name: np.asarray(leaf[:2]) for name, leaf in self.dataset.fixed("test", 2).items()}
        found = mean_weights(bind(self.experiment.model, self.dataset), self.variables, rows)
        return jax.device_get(found)

    def is_measured(self) -> bool:
        """Whether the result belongs to these parameters and the report is there."""
        if self.path is None or self.record is None:
            return False
        return self.record["steps"] == self.step and (self.path / "report.html").is_file()

    def measure(self, progress: bool = True) -> None:
        """Measure the test split and, where there is a run directory, write pictures, report and result."""
        self.record, estimate = self._estimate("test", None, progress)
        with processes.together():
            if self.path is not None:
                self._write(estimate)

    def _write(self, estimate: Estimate) -> None:
        shown = {}
        if self.model.generate is not None:
            caption = "Samples (means of the pixels)"
            shown[caption] = pictures.png(pictures.grid(self.sample(mean=True)))
            files.write_bytes(self.path / "samples.png", shown[caption])
        rows = self.dataset.fixed("test", 50)
        if estimate.means and (again := self.reconstruct(rows)) is not None:
            caption = "Test examples, and below each its reconstruction"
            shown[caption] = pictures.png(pictures.pairs(rows["x"], again))
            files.write_bytes(self.path / "reconstructions.png", shown[caption])
        report.write(self.path / "report.html", self._title, self.record, shown, self._figures(estimate))
        files.write_json(self.path / "result.json", self.record)

    def _estimate(self, split: str, num_samples: int | None, progress: bool) -> tuple[dict[str, Any], Estimate]:
        settings, training = self.experiment.evaluation, self.experiment.training
        num_samples = num_samples or settings.num_samples
        draws = settings.weight_draws if self.model.bound == "predictive" else 0
        key = jax.random.key(settings.seed)
        with measuring(f"measuring {split}", progress) as tell:
            rows = self.dataset.fixed(split, settings.num_examples)
            found = predictive(self.model, self.variables, rows, key, num_samples, draws, tell)
        train = predictive(self.model, self.variables, self.dataset.fixed("train", 1000), key, num_samples, draws)
        learned = dict(self.variables["params"])
        for name in self.experiment.objective.optimizers():
            learned.pop(name, None)
        made = record.make_record(
            experiment=self.experiment,
            origin=self.origin,
            dataset=self.dataset,
            split=split,
            bound=self.model.bound,
            num_samples=num_samples,
            estimate=found,
            train_value=train.value,
            seed=self.seed,
            steps=self.step,
            parameters=num_parameters({"params": learned}),
            discrete=all(output.discrete for output in outputs_of(self.experiment.model)),
            num_devices=parallel.num_all(parallel.choose_devices(training.part_size)),
            seconds=max((row["seconds"] for row in self.metrics if "seconds" in row), default=0.0),
        )
        return made, found

    def _figures(self, estimate: Estimate) -> dict[str, str]:
        figures = {"Training": pictures.curves(self.metrics)} if self.metrics else {}
        if estimate.kl:
            figures["KL per unit"] = pictures.bars(estimate.kl)
        for name, mean in estimate.means.items():
            if mean.shape[-1] == 2:
                labels = self.dataset.fixed("test", len(mean)).get("label")
                figures[f"The latent space of {name}"] = pictures.scatter(mean, labels)
        codes = self.encode(self.dataset.fixed("test", 500)) if estimate.means else {}
        return figures | layer_report.figures(self.experiment.model, self.variables, codes)

    @property
    def _title(self) -> str:
        return f"{self.experiment.name or type(self.experiment.model).__name__}, seed {self.seed}"

    def __repr__(self) -> str:
        where = f" in {self.path}" if self.path else ""
        return f"Run({self._title}, step {self.step}{where}: {self.headline})"

    def _repr_html_(self) -> str:
        parts = [
            f"<h3>{html.escape(self._title)}</h3><p>{html.escape(self.headline)}</p>",
            pictures.curves(self.metrics) if self.metrics else "",
        ]
        if self.model.generate is not None:
            parts.append(pictures.inline(pictures.png(pictures.grid(self.sample(36, mean=True)))))
        return "".join(parts)

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        return report.headline(self.record) if self.record else "not measured yet"


def _of_seed(writer: str | Writer, seed: int) -> str | Writer:
    return (lambda row: writer({"seed": seed, **row})) if callable(writer) else writer


def _rows(x: np.ndarray | Mapping[str, Any]) -> dict[str, np.ndarray]:
    rows = dict(x) if isinstance(x, Mapping) else {"x": x}
    return {name: np.asarray(leaf) for name, leaf in rows.items()}
