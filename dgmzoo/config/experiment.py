"""`Experiment`: a model with its data, training and evaluation; `load_experiment`: load one by its name or path."""

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from dgmzoo import experiments
from dgmzoo.config import experiment_file
from dgmzoo.config.layer_check import check_fields
from dgmzoo.config.plugins import load_installed
from dgmzoo.config.training import Execution, Training
from dgmzoo.data import Data
from dgmzoo.model.contract import ExtraLoss
from dgmzoo.objectives.base import Objective
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.validation import check_whole


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Settings of the final evaluation, after training.

    >>> Evaluation(num_samples=500).num_examples is None
    True
    """

    num_samples: int = 5000
    """Samples per example of the importance-weighted bound (K); exact densities need none."""
    num_examples: int | None = None
    """Examples of the split, drawn by a fixed seed; None: all."""
    weight_draws: int = 0
    """Networks over which the probabilities of a model with random weights are averaged; 0: one with the mean weights."""
    batch_size: int | None = None
    """Examples that are evaluated at once; None: as many as fit in 1 GiB (on an accelerator in 8 GiB) by an estimate."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self):
        check_whole("evaluation.num_samples", self.num_samples)
        if self.weight_draws != 0:
            check_whole("evaluation.weight_draws", self.weight_draws)
        if self.num_examples is not None:
            check_whole("evaluation.num_examples", self.num_examples)
        if self.batch_size is not None:
            check_whole("evaluation.batch_size", self.batch_size)


@dataclasses.dataclass(frozen=True)
class Paper:
    """A published figure, and the settings under which results may be compared with it."""

    value: float
    """Negative log-likelihood or bound, nats per example."""
    source: str
    """Paper and table."""
    protocol: str
    """Data variant, split, bound and number of samples, in words."""
    steps: int | None = None
    """Length of the paper's training, in steps of its own batch size."""
    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Overrides of the experiment that give the paper's settings."""


@dataclasses.dataclass(frozen=True)
class Diagnostic:
    """A function that is called every few steps with the variables of evaluation and a fixed batch of training rows.

    It runs at each multiple of `every_steps`.

    >>> Diagnostic(lambda variables, rows: {"rows": len(rows["x"])}, every_steps=100).every_steps
    100

    Raises:
      ValueError: `every_steps` is not a whole number of at least 1.
    """

    function: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    """`(variables, {"x": [N, ...]}) -> {name: number}`; `dgmzoo.functional` makes the model that it may need."""
    every_steps: int
    """Steps between two calls."""

    def __post_init__(self):
        check_whole("diagnostic.every_steps", self.every_steps)
        if not callable(self.function):
            raise ValueError(f"expected a function of variables and rows, got {type(self.function).__name__}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A zoo entry, its data, its training and its evaluation.

    >>> from dgmzoo.zoo.vae.vae import VAE
    >>> Experiment(model=VAE(latent_dim=2), data=Data("digits"), training=Training(epochs=1)).objective
    ELBO(num_samples=1, beta=1.0, warmup_steps=0, free_bits=0.0)

    Raises:
      ValueError: the parts do not fit together, or a layer's gradient would be wrong under the objective. What depends
        on the data is checked by `preflight.resolve`.
    """

    model: nn.Module
    """The zoo entry: a Flax (Linen) module."""
    data: Data
    """The data set, its split and its encoding."""
    objective: Objective = ELBO()  # noqa: RUF009 (frozen)
    """The training loss."""
    training: Training
    """The training protocol."""
    execution: Execution = Execution()  # noqa: RUF009 (frozen)
    """Settings that change memory and speed, and no result beyond rounding."""
    evaluation: Evaluation = Evaluation()
    """Settings of the final evaluation."""
    extra_losses: Mapping[str, ExtraLoss] = dataclasses.field(default_factory=dict)
    """Extra losses `{name: f(evidence, batch) -> [B]}`, in nats; `extra_loss/<name>` in the metrics. A function with a third
    argument is given a `dgmzoo.LossContext`: key, step, number of rows, and a gather over devices."""
    diagnostics: Mapping[str, Diagnostic] = dataclasses.field(default_factory=dict, metadata={"cli": False})
    """Numbers that are computed between dispatches, `<diagnostic>/<name>` in rows of the split "diagnostics". They change
    no result, and may differ when a run is resumed."""
    papers: tuple[Paper, ...] = dataclasses.field(default=(), metadata={"cli": False})
    """Published figures."""
    name: str = dataclasses.field(default="", metadata={"cli": False})
    """Name of the experiment that this one was made from: `vae/digits`, or the path of a file. Set by `load_experiment`."""
    origin: "Origin | None" = dataclasses.field(default=None, compare=False, repr=False, metadata={"cli": False})
    """The named experiment and the overrides that this one was made from. Set by `load_experiment` and `override`."""

    def __post_init__(self):
        if not isinstance(self.model, nn.Module):
            raise ValueError(f"expected experiment.model to be a Flax module, got {type(self.model).__name__}")
        for name, loss in self.extra_losses.items():
            if not isinstance(name, str) or not name or not callable(loss):
                raise ValueError(f"expected extra_losses as {{name: function}}, got {name!r}: {loss!r}")
        for name, diagnostic in self.diagnostics.items():
            if not isinstance(diagnostic, Diagnostic):
                raise ValueError(f"expected diagnostics as {{name: dgmzoo.Diagnostic}}, got {name!r}: {diagnostic!r}")
        if self.training.remat and self.objective.num_samples == 1:
            raise ValueError(
                "expected objective.num_samples above 1 with training.remat, which computes a few of the samples at a "
                "time, got 1; for batches that do not fit use training.accumulate"
            )
        if self.training.accumulate > 1 and getattr(self.objective, "free_bits", 0):
            raise ValueError(
                "expected objective.free_bits 0 with training.accumulate: the floor is on means over a whole batch, got "
                f"{self.objective.free_bits} and {self.training.accumulate} micro-batches; use several devices instead"
            )
        check_fields(self.model, self.objective)


class Origin(NamedTuple):
    """The making of an experiment: a named experiment and overrides."""

    base: Experiment
    """The named experiment."""
    file_sha256: str | None
    """Digest of a user's experiment file and of the modules beside it, as they were loaded; None for the zoo's own."""
    overrides: Mapping[str, Any]
    """Path -> value, as requested."""
    flat: Mapping[str, Any] | None
    """All values of the experiment as they were then, so that a later change in Python is noticed."""


def load_experiment(name: str) -> Experiment:
    """The experiment of a name, or of the file at a path.

    >>> load_experiment("vae/digits").data.name
    'digits'

    Raises:
      ValueError: there is none (the nearest names are given), or the file defines no `experiment`.
    """
    load_installed()
    if name.endswith(".py"):
        path = experiment_file.locate(name)
        name = str(path)
        module = experiment_file.execute(path)
    elif name in experiments.names():
        module = importlib.import_module(f"{experiments.__name__}.{name.replace('/', '.')}")
    else:
        if name in experiments.FORMER_NAMES:
            raise ValueError(f"expected {experiments.FORMER_NAMES[name]!r}, got its name of version 0.1, {name!r}")
        near = difflib.get_close_matches(name, experiments.names(), n=3, cutoff=0.3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"expected the name of an experiment or the path of a .py file, got {name!r}{hint}")
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise ValueError(f"expected {name} to define `experiment = Experiment(...)`, got {type(experiment).__name__}")
    loaded = dataclasses.replace(experiment, name=name, origin=None)
    digest = experiment_file.digest(path) if name.endswith(".py") else None
    return dataclasses.replace(loaded, origin=Origin(loaded, digest, {}, None))
