"""An experiment and its parts: frozen dataclasses, validated once; found by name or by file."""

import dataclasses
import difflib
import importlib
import math
import operator
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn

from dgmzoo import experiments, user_file
from dgmzoo.data import Data
from dgmzoo.model import Term
from dgmzoo.objectives import ELBO, Objective


def check_whole(name: str, value: Any) -> None:
    """Refuse anything but an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected {name} to be a whole number, 1 or more, got {value!r}")


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


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse anything but a finite number strictly between `low` and `high`."""
    if not math.isfinite(value) or not low < value < high:
        raise ValueError(f"expected {name} between {low} and {high}, got {value!r}")


LENGTHS = ("epochs", "steps", "examples")


@dataclasses.dataclass(frozen=True)
class Training:
    """How parameters are found. The length is epochs, steps or examples: exactly one."""

    epochs: int | None = None
    """Length in passes over the training rows."""
    steps: int | None = None
    """Length in steps."""
    examples: int | None = None
    """Length in training examples seen."""
    batch_size: int = 100
    """Examples a step, over all devices."""
    optimizer: Literal["adam", "adamax", "adagrad", "sgd"] = "adam"
    """Of the model's parameters."""
    learning_rate: float = 1e-3
    """At the start."""
    schedule: Literal["constant", "cosine", "burda"] = "constant"
    """constant; cosine to final_learning_rate; or the eight stages of Burda et al., each 10^(-1/7) of the one before."""
    final_learning_rate: float = 0.0
    """At the end of a cosine."""
    b1: float = 0.9
    """Decay of the first moment (adam, adamax)."""
    epsilon: float = 1e-8
    """Added to the root of the second moment (adam, adamax)."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None: not clipped."""
    ema: float | None = None
    """Decay of a moving average of the parameters, which is then what is evaluated; None: the last parameters."""
    validate_epochs: int = 1
    """Epochs between two readings of the validation split, by the bound that is trained; the best parameters are kept."""
    patience: int | None = None
    """Readings without improvement after which training stops; None: never."""
    checkpoint_seconds: float = 60.0
    """Least time between two checkpoints; the end and every interruption write one anyway."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """In which the networks' products are computed in training; parameters, densities and evaluation stay in float32."""
    accumulate: int = 1
    """Parts in which each device works its share of a batch off, for batches that do not fit; their gradients are averaged."""
    remat: bool = False
    """Compute p(x | z) for some sqrt(K) of the K samples at a time, and again on the way back: less memory, more time.
    A term of the loss that reads `evidence.output` keeps all of it."""
    stream: bool | None = None
    """Gather rows on the host, for sets larger than the device's memory; None: above 4 GB. The numbers are the same."""
    steps_per_dispatch: int | None = None
    """Steps run by one call of the device; None: chosen for the hardware. Results do not depend on it but in rounding."""

    def __post_init__(self):
        lengths = {name: getattr(self, name) for name in LENGTHS if getattr(self, name) is not None}
        if len(lengths) != 1:
            raise ValueError(f"expected exactly one of training.{', training.'.join(LENGTHS)}, got {lengths or 'none'}")
        whole = {"batch_size", "validate_epochs", "accumulate", *lengths}
        whole |= {name for name in ("patience", "steps_per_dispatch") if getattr(self, name) is not None}
        for name in sorted(whole):
            check_whole(f"training.{name}", getattr(self, name))
        for name in ("learning_rate", "epsilon"):
            check_range(f"training.{name}", getattr(self, name), 0, math.inf)
        check_range("training.final_learning_rate", self.final_learning_rate, -math.inf, math.inf)
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                f"expected training.final_learning_rate between 0 and the learning rate {self.learning_rate}, "
                f"got {self.final_learning_rate}"
            )
        for name in ("clip_norm", "ema"):
            if (value := getattr(self, name)) is not None:
                check_range(f"training.{name}", value, 0, math.inf if name == "clip_norm" else 1)
        if not 0 <= self.b1 < 1:
            raise ValueError(f"expected training.b1 in [0, 1), got {self.b1}")
        if not self.checkpoint_seconds >= 0:  # NaN too
            raise ValueError(f"expected training.checkpoint_seconds >= 0, got {self.checkpoint_seconds}")

    @property
    def part_size(self) -> int:
        """Rows that all devices work on together at one time."""
        return self.batch_size // self.accumulate

    def steps_per_epoch(self, num_train: int) -> int:
        """Whole batches in one pass.

        Raises:
          ValueError: a batch is larger than the data.
        """
        if self.batch_size > num_train:
            raise ValueError(
                f"expected training.batch_size of at most the {num_train} training rows, got {self.batch_size}"
            )
        return num_train // self.batch_size

    def total_steps(self, num_train: int) -> int:
        """Length of the run in steps."""
        per_epoch = self.steps_per_epoch(num_train)
        if self.steps is not None:
            return self.steps
        if self.examples is not None:
            return math.ceil(self.examples / self.batch_size)
        return self.epochs * per_epoch


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
    terms: Mapping[str, Term] = dataclasses.field(default_factory=dict)
    """Further terms of the training loss, `{name: f(evidence, batch) -> [B]}`, in nats; `term/<name>` in the metrics."""
    papers: tuple[Paper, ...] = dataclasses.field(default=(), metadata={"cli": False})
    """Published figures."""
    corrections: tuple[str, ...] = dataclasses.field(default=(), metadata={"cli": False})
    """What was changed in the model so that its gradients are right under the objective, in words."""
    name: str = dataclasses.field(default="", metadata={"cli": False})
    """Set when loaded: `vae/digits`, or the path of a file."""

    def __post_init__(self):
        if not isinstance(self.model, nn.Module):
            raise ValueError(f"expected experiment.model to be a Flax module, got {type(self.model).__name__}")
        for name, term in self.terms.items():
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
        module = user_file.execute(Path(name))
    elif name in experiments.names():
        module = importlib.import_module(f"{experiments.__name__}.{name.replace('/', '.')}")
    else:
        near = difflib.get_close_matches(name, experiments.names(), n=3, cutoff=0.3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"expected the name of an experiment or the path of a .py file, got {name!r}{hint}")
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise ValueError(f"expected {name} to define `experiment = Experiment(...)`, got {type(experiment).__name__}")
    return dataclasses.replace(experiment, name=name)


def file_digest(name: str) -> str | None:
    """sha256 of a user's experiment file and of the modules beside it that it imports; None for the zoo's own."""
    return user_file.digest(Path(name)) if name.endswith(".py") else None
