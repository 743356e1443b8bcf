"""`SeedTracker`: the metrics, best parameters and checkpoints of one seed; `Callback`: a receiver of the metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from dgmzoo.training.checkpoint import Checkpoints, Restored
from dgmzoo.training.step import State
from dgmzoo.training.stopwatch import Stopwatch

Row = dict[str, Any]  # step, split, loss, elbo, kl/<layer>, grad_norm, seconds

_SAVED = ("sums", "counts", "best_step", "bad_readings", "together")  # attributes that a checkpoint holds as they are


class NonFinite(ArithmeticError):
    """A NaN or an infinity in training."""


class Callback(Protocol):
    """Receiver of the progress and the metrics of a training; it can request a stop.

    Methods:
      begin: called once, with the first step of this process (0, or that of the checkpoint) and the total.
      write: called with each row of metrics.
      progress: called after each dispatch whose metrics were read, with the metrics of its last step.
      should_stop: called after each dispatch; True stops the training there, with a checkpoint.
    """

    def begin(self, step: int, total: int) -> None: ...
    def write(self, row: Row) -> None: ...
    def progress(self, step: int, total: int, latest: Mapping[str, float]) -> None: ...
    def should_stop(self) -> bool: ...


class SeedTracker:
    """Metrics, selected parameters and checkpoints of one seed.

    Args:
      name: the experiment's, for messages.
      callback: None for a tracker that only restores.
      checkpoints: latest and best; None keeps nothing on disk.

    >>> import types
    >>> rows = []
    >>> callback = types.SimpleNamespace(write=rows.append, progress=lambda step, total, latest: None)
    >>> tracker = SeedTracker("vae/digits", seed=0, callback=callback, checkpoints=None)
    >>> tracker.add_metrics(0, {"loss": np.array([3.0, 1.0])}, total=2)
    >>> tracker.end_epoch(step=2)
    >>> rows[0]["loss"]
    2.0
    """

    def __init__(
        self, name: str, seed: int, callback: Callback | None, checkpoints: tuple[Checkpoints, Checkpoints] | None
    ):
        self.name, self.seed, self.callback = name or "the experiment", seed, callback
        self.together = [seed]  # seeds that train in one program
        self.latest, self.best = checkpoints or (None, None)
        self.selected = None  # host copy of the best variables, if this process has computed them
        self.saved_step: int | None = None
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}  # steps that have computed each of them
        self.best_value, self.best_step = math.inf, None
        self.bad_readings = 0  # validation results since the last improvement
        self.is_new_best = False  # the best variables are not on disk yet
        self.stopwatch = Stopwatch()

    def begin(self, step: int, total: int, together: list[int]) -> None:
        """Start at 0, or resume from a restored step.

        Args:
          together: seeds that train in one program.
        """
        if step == 0:
            self._reset()
        if self.latest:
            self.latest.forget_after(step)
            if step == 0 or self.best_step is not None:
                self.best.forget_after(self.best_step or 0)
        self.together, self.saved_step = together, step
        self.callback.begin(step, total)

    def add_metrics(self, start: int, metrics: Mapping[str, np.ndarray], total: int) -> None:
        """Add the metrics `{name: [n]}` of n steps from `start` to the averages of the epoch.

        A metric of the objective's own (any beside the loss, ELBO, KL, extra losses and gradient norm) may be NaN in a
        step that does not compute it: its average is over the other steps.

        Raises:
          NonFinite: with the first step that had a NaN or infinity, and its terms.
        """
        for i in range(len(metrics["loss"])):
            values = {name: float(value[i]) for name, value in metrics.items()}
            values = {name: value for name, value in values.items() if not (math.isnan(value) and _may_be_nan(name))}
            if terms := [name for name, value in values.items() if not math.isfinite(value)]:
                raise self.non_finite(start + i, terms)
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1
        self.callback.progress(start + len(metrics["loss"]), total, values)

    def end_epoch(self, step: int) -> None:
        """Write the averages of the metrics over the epoch."""
        self._write("train", step, {name: value / self.counts[name] for name, value in self.sums.items()})
        self.sums, self.counts = {}, {}

    def add_reading(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Write numbers that were computed between two dispatches, such as a bound of training rows."""
        self._write(split, step, values)

    def add_validation(self, step: int, values: Mapping[str, float], variables: Any) -> None:
        """Write metrics of the validation split; keep a copy of the variables if their "loss" is the least so far.

        Raises:
          NonFinite: a metric is not finite.
        """
        if terms := [name for name, value in values.items() if not math.isfinite(value)]:
            raise self.non_finite(step, [f"the validation split's {name}" for name in terms])
        self._write("valid", step, values)
        if values["loss"] < self.best_value:
            self.best_value, self.best_step, self.bad_readings = values["loss"], step, 0
            self.selected, self.is_new_best = jax.device_get(variables), True  # written with the next checkpoint
        else:
            self.bad_readings += 1

    def save(self, step: int, host: State) -> None:
        """Write the checkpoint of a step from a state on the host, with the key as its data.

        Raises:
          NonFinite: a parameter is not finite; nothing is written.
          CannotWrite: the earlier checkpoints are kept.
        """
        if self.latest is None or step == self.saved_step:
            return
        leaves = jax.tree.leaves_with_path(host.variables["params"])
        if terms := [jax.tree_util.keystr(path) for path, leaf in leaves if not np.isfinite(leaf).all()]:
            raise self.non_finite(step, [f"params{path}" for path in terms])
        progress = {name: getattr(self, name) for name in _SAVED}
        progress |= {"best_value": repr(self.best_value), "seconds": self.stopwatch(), "first": self.saved_step == 0}
        if self.is_new_best:
            self.best.save(self.best_step, self.selected, {})
            self.is_new_best = False
        self.latest.save(step, host, progress)
        self.saved_step = step

    def restore(self, template: State, upto: int | None = None) -> Restored | None:
        """Restore the newest intact checkpoint, and the bookkeeping of its step."""
        restored = self.latest.restore(template, upto) if self.latest else None
        if restored is not None:
            for name in _SAVED:
                setattr(self, name, restored.progress[name])
            self.best_value = float(restored.progress["best_value"])
            self.stopwatch = Stopwatch(restored.progress["seconds"])
        return restored

    def selection(self, step: int, variables: Any) -> tuple[Any, int]:
        """The selected variables and their step: the best on the validation split, or `variables` if there is none."""
        if self.best_step is None:
            if self.best and step not in self.best.steps():
                self.best.save(step, jax.device_get(variables), {})
            return variables, step
        if self.selected is None:  # computed before this process resumed the run
            self.selected = self.restore_best(variables)
        return self.selected, self.best_step

    def restore_best(self, template: Any) -> Any:
        """The variables of the best validation result, from disk.

        Raises:
          ValueError: their checkpoint is missing or damaged.
        """
        restored = self.best.restore(template, upto=self.best_step)
        if restored is None or restored.step != self.best_step:
            raise ValueError(
                f"expected the selected parameters of step {self.best_step} in {self.best.directory}, got none; "
                "restore the directory from a copy, or delete the run to train anew"
            )
        return restored.tree

    def non_finite(self, step: int, terms: list[str]) -> NonFinite:
        """The error for a NaN or infinity, with the step, the terms and the remedies."""
        kept = f"; the checkpoint of step {self.saved_step} is kept" if self.latest and self.saved_step else ""
        others = [seed for seed in self.together if seed != self.seed]
        without = f"; in Python, dgmzoo.train(..., seeds={others}) resumes without it" if others and self.latest else ""
        return NonFinite(
            f"expected finite values, got NaN or infinity at step {step} of {self.name}, seed {self.seed}, "
            f"in {', '.join(terms)}{kept}; try a lower --training.learning-rate or --training.clip-norm, "
            f"and check the data{without}"
        )

    def _write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        self.callback.write({"step": step, "split": split, **values, "seconds": round(self.stopwatch(), 3)})


def _may_be_nan(name: str) -> bool:
    """True if a metric is the objective's own."""
    return name not in ("loss", "elbo", "bound", "grad_norm") and name.partition("/")[0] not in ("kl", "extra_loss")


def restore_common_step(trackers: Sequence[SeedTracker], template: State) -> list[Restored] | None:
    """The checkpoints of the newest step for which every seed has an intact one; None: the seeds start anew.

    Raises:
      ValueError: only some of the seeds have a checkpoint.
    """
    upto = None
    while True:
        restored = [tracker.restore(template, upto) for tracker in trackers]
        if len({checkpoint and checkpoint.step for checkpoint in restored}) == 1:
            return None if None in restored else restored
        if None in restored:
            # Seeds that were killed while they wrote their first checkpoints together may have those of some alone.
            seeds = [tracker.seed for tracker in trackers]
            if all(
                checkpoint is None or (checkpoint.progress.get("first") and checkpoint.progress["together"] == seeds)
                for checkpoint in restored
            ):
                return None
            pairs = list(zip(trackers, restored, strict=True))
            begun = [tracker.seed for tracker, checkpoint in pairs if checkpoint]
            others = [tracker.seed for tracker, checkpoint in pairs if not checkpoint]
            raise ValueError(
                f"expected a checkpoint of one step for all of the seeds, got one of {begun} alone; train them in turn: "
                f"seeds {begun}, then seeds {others}"
            )
        upto = min(checkpoint.step for checkpoint in restored)
