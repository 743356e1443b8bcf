"""An experiment and its parts: frozen dataclasses, validated once; found by name or by file."""

import dataclasses
import difflib
import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn

from dgmzoo import experiments
from dgmzoo.config import experiment_file
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.model.contract import ExtraLoss
from dgmzoo.objectives.base import Objective
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.validation import check_whole


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How the result is measured, once training has ended."""

    num_samples: int = 5000
    """Samples per example of the importance-weighted bound (K); exact densities need none."""
    num_examples: int | None = None
    """Examples of the split, from its start; None: all."""
    weight_draws: int = 0
    """Networks over which the probabilities of a model with random weights are averaged; 0: one with the mean weights."""
    seed: int = 0
    """Of the samples."""

    def __post_init__(self):
        check_whole("evaluation.num_samples", self.num_samples)
        if self.weight_draws != 0:
            check_whole("evaluation.weight_draws", self.weight_draws)
        if self.num_examples is not None:
            check_whole("evaluation.num_examples", self.num_examples)


@dataclasses.dataclass(frozen=True)
class Paper:
    """A published figure and the settings under which it may be compared."""

    value: float
    """Negative log-likelihood or bound, nats per example."""
    source: str
    """Paper and table."""
    protocol: str
    """Data variant, split, bound and number of samples, in words."""
    steps: int | None = None
    """Length of the paper's training in steps of its own batch size."""
    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Overrides of the experiment that make it the paper's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A zoo entry, the data it learns, how, and how it is measured."""

    model: nn.Module
    """The zoo entry."""
    data: Data
    """What is learned from."""
    objective: Objective = ELBO()  # noqa: RUF009 (frozen)
    """What is minimised."""
    training: Training
    """How."""
    evaluation: Evaluation = Evaluation()
    """How the result is measured."""
    extra_losses: Mapping[str, ExtraLoss] = dataclasses.field(default_factory=dict)
    """Further terms of the training loss, `{name: f(evidence, batch) -> [B]}`, in nats; `extra_loss/<name>` in the metrics."""
    papers: tuple[Paper, ...] = dataclasses.field(default=(), metadata={"cli": False})
    """Published figures."""
    corrections: tuple[str, ...] = dataclasses.field(default=(), metadata={"cli": False})
    """What was changed in the model so that its gradients are right under the objective, in words."""
    name: str = dataclasses.field(default="", metadata={"cli": False})
    """Set when loaded: `vae/digits`, or the path of a file."""

    def __post_init__(self):
        if not isinstance(self.model, nn.Module):
            raise ValueError(f"expected experiment.model to be a Flax module, got {type(self.model).__name__}")
        for name, term in self.extra_losses.items():
            if not isinstance(name, str) or not name or not callable(term):
                raise ValueError(f"expected terms as {{name: function}}, got {name!r}: {term!r}")
        if self.training.remat and self.objective.num_samples == 1:
            raise ValueError(
                "expected objective.num_samples above 1 with training.remat, which computes a few of the samples at a "
                "time, got 1; for batches that do not fit use training.accumulate"
            )
        if self.training.accumulate > 1 and getattr(self.objective, "free_bits", 0):
            raise ValueError(
                "expected objective.free_bits 0 with training.accumulate: the floor is on means over a whole batch, got "
                f"{self.objective.free_bits} and {self.training.accumulate} parts; spread the batch over devices instead"
            )
        model, said = self.objective.corrected(self.model)
        self.objective.check(model)
        if said:
            object.__setattr__(self, "model", model)
            object.__setattr__(self, "corrections", self.corrections + said)
            for words in said:
                warnings.warn(words, stacklevel=3)


def load(name: str) -> Experiment:
    """The experiment of that name, or of the file at that path.

    Raises:
      ValueError: there is none (the nearest names are given), or the file defines no `experiment`.
    """
    if name.endswith(".py"):
        name = str(Path(name).resolve())
        module = experiment_file.execute(Path(name))
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
    return dataclasses.replace(experiment, name=name)


def file_digest(name: str) -> str | None:
    """sha256 of a user's experiment file and of the modules beside it that it imports; None for the zoo's own."""
    return experiment_file.digest(Path(name)) if name.endswith(".py") else None
