"""`Training`: the settings that determine the trained model; `Execution`: those that change only speed and memory."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

from dgmzoo.validation import check_range, check_whole

LENGTHS = ("epochs", "steps", "examples")
Optimizer = Literal["adam", "adamax", "adagrad", "sgd"]


@dataclasses.dataclass(frozen=True)
class Training:
    """The training protocol: everything that decides a number, to the last bit.

    The length is given in epochs, steps or examples: exactly one.

    >>> Training(epochs=3, batch_size=20).total_steps(num_train=100)
    15
    """

    epochs: int | None = None
    """Length in passes over the training rows."""
    steps: int | None = None
    """Length in steps."""
    examples: int | None = None
    """Length in training examples seen."""
    batch_size: int = 100
    """Examples per step, over all devices."""
    optimizer: Optimizer | Callable[[int], Any] = "adam"
    """Optimizer of the model's parameters; in Python also a function total_steps -> optax.GradientTransformation, which
    replaces the learning rate, its schedule and warm-up, the moments and the weight decay below."""
    learning_rate: float = 1e-3
    """Learning rate at the start."""
    schedule: Literal["constant", "cosine", "burda"] = "constant"
    """constant; cosine to final_learning_rate; or the eight stages of Burda et al., each 10^(-1/7) of the previous one."""
    final_learning_rate: float = 0.0
    """Learning rate at the end of a cosine."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0 to the rate of its schedule."""
    weight_decay: float = 0.0
    """Share of each parameter that is subtracted in a step, times the learning rate, beside the gradient (as in AdamW)."""
    b1: float = 0.9
    """Decay of the first moment (adam, adamax)."""
    epsilon: float = 1e-8
    """Added to the root of the second moment (adam, adamax)."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None: not clipped."""
    ema: float | None = None
    """Decay of a moving average of the parameters, which is evaluated instead of them; None: no average."""
    validate_epochs: int = 1
    """Epochs between two evaluations of the validation split, by the bound that is trained; the best parameters are kept."""
    patience: int | None = None
    """Evaluations of the validation split without improvement after which training stops; None: never."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the networks' matrix products in training; parameters, densities and evaluation stay in float32."""
    accumulate: int = 1
    """Micro-batches of one step, for batches that do not fit in memory; their gradients are averaged."""
    remat: bool = False
    """Compute p(x | z) for about sqrt(K) of the K samples at a time, and again in the backward pass: less memory, more
    time. An extra loss that reads `evidence.parameters` keeps the parameters of all samples in memory."""

    def __post_init__(self):
        lengths = {name: getattr(self, name) for name in LENGTHS if getattr(self, name) is not None}
        if len(lengths) != 1:
            raise ValueError(f"expected exactly one of training.{', training.'.join(LENGTHS)}, got {lengths or 'none'}")
        whole = {"batch_size", "validate_epochs", "accumulate", *lengths}
        whole |= {"patience"} if self.patience is not None else set()
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
        if self.warmup_steps != 0:
            check_whole("training.warmup_steps", self.warmup_steps)
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"expected training.weight_decay >= 0, got {self.weight_decay}")
        if callable(self.optimizer):
            replaced = (
                "learning_rate",
                "schedule",
                "final_learning_rate",
                "warmup_steps",
                "weight_decay",
                "b1",
                "epsilon",
            )
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            if changed := [name for name in replaced if getattr(self, name) != defaults[name]]:
                raise ValueError(
                    f"expected training.{', training.'.join(changed)} at the default with an optimizer that is a function, "
                    "which replaces it; set it within the function"
                )
        for name in ("clip_norm", "ema"):
            if (value := getattr(self, name)) is not None:
                check_range(f"training.{name}", value, 0, math.inf if name == "clip_norm" else 1)
        if not 0 <= self.b1 < 1:
            raise ValueError(f"expected training.b1 in [0, 1), got {self.b1}")

    @property
    def micro_batch_size(self) -> int:
        """Rows of one micro-batch, over all devices."""
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
class Execution:
    """Settings of the execution, beside the protocol: they change memory and speed, and no result beyond rounding.

    A run may be resumed with another `stream` or `checkpoint_seconds`, but not with another `dispatch`, which may round
    differently.
    """

    stream: bool | None = None
    """Gather rows on the host, for sets larger than the device's memory; None: above 4 GB."""
    dispatch: int | None = None
    """Most steps that one call of the device runs; None: chosen for the hardware. Another value may round differently."""
    checkpoint_seconds: float = 60.0
    """Least time between two checkpoints, in seconds; the end and every interruption write one anyway."""

    def __post_init__(self):
        if self.dispatch is not None:
            check_whole("execution.dispatch", self.dispatch)
        if not self.checkpoint_seconds >= 0:  # False for NaN
            raise ValueError(f"expected execution.checkpoint_seconds >= 0, got {self.checkpoint_seconds}")
