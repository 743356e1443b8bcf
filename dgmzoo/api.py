"""The verbs of the command line as functions, and the run they give back."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dgmzoo import config, data, files, overrides
from dgmzoo.config import Experiment
from dgmzoo.data.console import told
from dgmzoo.evaluation import ask, pictures, record, report
from dgmzoo.evaluation.log_likelihood import Estimate, evaluate
from dgmzoo.layers.outputs import Output
from dgmzoo.model import Model, functional, num_parameters
from dgmzoo.training.folder import Folder
from dgmzoo.training.loop import fit_seeds, selected
from dgmzoo.training.track import Track
from dgmzoo.training.watch import Watch


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
) -> "Run | list[Run]":
    """Train an experiment, measure it on held-out data, and give back the run.

    Args:
      what: an experiment or its name.
      run_dir: where to keep it; a run that was stopped there goes on. None keeps it in memory.
      seed: of initial values, order of the rows and noise.
      progress: show how far it is, on standard error.
      seeds: train all of these at once in one compiled program, each in its own `run_dir/seed-N`; gives a list of runs.

    Raises:
      ValueError: the experiment, the data or the run directory is not what it should be.
      NonFinite: a NaN or infinity, with the step and the terms it was in.
      Interrupted: Ctrl-C or SIGTERM; the same call goes on.
    """
    chosen = [seed] if seeds is None else list(seeds)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"expected different seeds, at least one, got {chosen}")
    exp = config.load(what) if isinstance(what, str) else what
    with told(progress) as (log, fetching):
        dataset = data.load(exp.data, log, fetching)
    module = bind(exp.model, dataset)
    exp.training.total_steps(len(dataset.splits["train"]["x"]))  # refuse a batch larger than the data before any file
    model = functional(module)
    with contextlib.ExitStack() as held:
        tracks, watches = [], []
        for number in chosen:
            folder = None
            if run_dir is not None:
                folder = Folder(run_dir if seeds is None else Path(run_dir) / f"seed-{number}")
                held.enter_context(folder.held())
                folder.claim(exp, number, dataset.sha256)
            watches.append(Watch(folder, show=progress and number == chosen[0]))
            kept = (folder.latest, folder.best) if folder else None
            tracks.append(Track(exp.name, number, watches[-1], kept))
        with watches[0].watching():
            fitted = fit_seeds(exp, model, dataset, tracks)
        runs = []
        for number, watch, found in zip(chosen, watches, fitted, strict=True):
            path = watch.folder.path if watch.folder else None
            run = Run(exp, dataset, model, found.variables, found.step, number, watch.rows, path)
            if run.record is None or run.record["steps"] != found.step or found.trained:
                run._measure()
            runs.append(run)
    return runs if seeds is not None else runs[0]


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
    if overrides.flatten(exp) != stored["resolved"]:
        raise ValueError(f"expected the experiment that {run_dir} was trained with, got another")
    dataset = data.load(exp.data)
    if dataset.sha256 != stored["dataset_sha256"]:
        raise ValueError(f"expected the data that {run_dir} was trained on, got other content of {dataset.name!r}")
    model = functional(bind(exp.model, dataset))
    variables, step = selected(exp, model, dataset, (folder.latest, folder.best))
    return Run(exp, dataset, model, variables, step, stored["seed"], folder.metrics(), folder.path)


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
    x = dataset.fixed("train", 1000)["x"]
    for name in overrides.fields(module):
        if isinstance(output := getattr(module, name), Output):
            output.check_support(x)
    return module


@dataclasses.dataclass(eq=False)
class Run:
    """A trained experiment."""

    experiment: Experiment
    dataset: data.Dataset
    model: Model
    variables: Any
    step: int
    """At which the parameters were selected."""
    seed: int
    metrics: list[dict[str, Any]]
    """Rows of `step, split, loss, elbo, kl/<layer>, grad_norm, seconds`."""
    path: Path | None = None
    """The run directory."""
    record: dict[str, Any] | None = None
    """The result on the test split."""

    def __post_init__(self):
        if self.path and self.record is None and (self.path / "result.json").is_file():
            self.record = files.read_json(self.path / "result.json")

    def evaluate(self, split: str = "test", num_samples: int | None = None) -> dict[str, Any]:
        """Measure a split: the record, with `value` the negative log-likelihood or bound in nats per example.

        Args:
          num_samples: importance samples per example (K); None: the experiment's.
        """
        return self._estimate(split, num_samples)[0]

    def sample(self, num: int = 64, seed: int = 0, mean: bool = False) -> np.ndarray:
        """Draws from the model, `[num, ...]`.

        Args:
          mean: instead of x itself the mean of each element given what was drawn before it, as papers picture it.
        """
        draw = ask.sample(self.model, self.variables, jax.random.key(seed), num)
        return draw.mean if mean else draw.x

    def encode(self, x: np.ndarray, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Layer -> parameters of q(z | x) and its mean, `[N, U]`, of x `[N, ...]` as the model sees it."""
        return ask.encode(self.model, self.variables, {"x": np.asarray(x)}, jax.random.key(seed))

    def reconstruct(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """The mean of p(x | z), `[N, ...]`, at one sample of q(z | x)."""
        return ask.reconstruct(self.model, self.variables, {"x": np.asarray(x)}, jax.random.key(seed))

    def _estimate(self, split: str, num_samples: int | None) -> tuple[dict[str, Any], Estimate]:
        settings = self.experiment.evaluation
        num_samples = num_samples or settings.num_samples
        key = jax.random.key(settings.seed)
        rows = self.dataset.fixed(split, settings.num_examples)
        found = evaluate(self.model, self.variables, rows, key, num_samples)
        train = evaluate(self.model, self.variables, self.dataset.fixed("train", 1000), key, num_samples)
        made = record.make_record(
            experiment=self.experiment,
            dataset=self.dataset,
            split=split,
            bound=self.model.bound,
            num_samples=num_samples,
            estimate=found,
            train_value=train.value,
            seed=self.seed,
            steps=self.step,
            parameters=num_parameters(self.variables),
            seconds=max((row["seconds"] for row in self.metrics), default=0.0),
        )
        return made, found

    def _measure(self) -> None:
        """Measure the test split and, where there is a run directory, write result, pictures and report."""
        self.record, estimate = self._estimate("test", None)
        if self.path is None:
            return
        files.write_json(self.path / "result.json", self.record)
        shown = {}
        if self.model.generate is not None:
            caption = "Samples (means of the pixels)"
            shown[caption] = pictures.png(pictures.grid(self.sample(mean=True)))
            files.write_bytes(self.path / "samples.png", shown[caption])
        x = self.dataset.fixed("test", 50)["x"]
        if estimate.means:
            caption = "Test examples, and below each its reconstruction"
            shown[caption] = pictures.png(pictures.pairs(x, self.reconstruct(x)))
            files.write_bytes(self.path / "reconstructions.png", shown[caption])
        report.write(self.path / "report.html", self._title, self.record, shown, self._figures(estimate))

    def _figures(self, estimate: Estimate) -> dict[str, str]:
        figures = {"Training": pictures.curves(self.metrics)} if self.metrics else {}
        if estimate.kl:
            figures["KL per unit"] = pictures.bars(estimate.kl)
        for name, mean in estimate.means.items():
            if mean.shape[-1] == 2:
                labels = self.dataset.fixed("test", len(mean)).get("label")
                figures[f"The latent space of {name}"] = pictures.scatter(mean, labels)
        return figures

    @property
    def _title(self) -> str:
        return f"{self.experiment.name or type(self.experiment.model).__name__}, seed {self.seed}"

    def __repr__(self) -> str:
        where = f" in {self.path}" if self.path else ""
        return f"Run({self._title}, step {self.step}{where}: {self.headline})"

    def _repr_html_(self) -> str:
        parts = [
            f"<h3>{self._title}</h3><p>{self.headline}</p>",
            pictures.curves(self.metrics) if self.metrics else "",
        ]
        if self.model.generate is not None:
            parts.append(pictures.inline(pictures.png(pictures.grid(self.sample(36, mean=True)))))
        return "".join(parts)

    @functools.cached_property
    def headline(self) -> str:
        """The result in one sentence."""
        return report.headline(self.record) if self.record else "not measured yet"
