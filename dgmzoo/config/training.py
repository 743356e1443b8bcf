"""The training part of an experiment: length, optimizer, schedule, selection."""

import dataclasses
import math
from typing import Literal

from dgmzoo.validation import check_range, check_whole

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
    A term of the loss that reads `evidence.parameters` keeps all of it."""
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
