"""The bookkeeping of one seed: averages of metrics, the best reading of the validation split, its checkpoints."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np

from dgmzoo.evaluation.log_likelihood import Estimate
from dgmzoo.training.checkpoint import Checkpoints, Restored
from dgmzoo.training.step import State
from dgmzoo.training.stopwatch import Stopwatch

Row = dict[str, Any]  # step, split, loss, elbo, kl/<layer>, grad_norm, seconds


class NonFinite(ArithmeticError):
    """Training met a NaN or an infinity."""


class Callback(Protocol):
    """Who looks on: hears where training begins and how it goes, gets every row of metrics, may ask to stop."""

    def begin(self, step: int, total: int) -> None: ...
    def write(self, row: Row) -> None: ...
    def progress(self, step: int, total: int, latest: Mapping[str, float]) -> None: ...
    def should_stop(self) -> bool: ...


class SeedTracker:
    """One seed's run, beside its state."""

    def __init__(
        self, name: str, seed: int, callback: Callback | None, checkpoints: tuple[Checkpoints, Checkpoints] | None
    ):
        self.name, self.seed, self.callback = name or "the experiment", seed, callback
        self.together = [seed]  # seeds of one program
        self.latest, self.best = checkpoints or (None, None)
        self.selected = None  # host copy of the best variables, where this process found them
        self.saved_at: int | None = None
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0
        self.best_value, self.best_step, self.bad_readings = math.inf, None, 0
        self.is_new_best = False  # not on disk yet
        self.clock = Stopwatch()

    def begin(self, step: int, total: int, together: list[int]) -> None:
        """Go on to `total` from the step that was restored, or anew from 0, in one program with those seeds."""
        if step == 0:
            self._reset()
        if self.latest:
            self.latest.forget_after(step)
            if step == 0 or self.best_step is not None:
                self.best.forget_after(self.best_step or 0)
        self.together, self.saved_at = together, step
        self.callback.begin(step, total)

    def absorb(self, start: int, metrics: Mapping[str, np.ndarray], total: int) -> None:
        """Take in the metrics `{name: [n]}` of n steps from `start`.

        Raises:
          NonFinite: with the first step that had a NaN or infinity, and its terms.
        """
        for i in range(len(metrics["loss"])):
            at = {name: float(value[i]) for name, value in metrics.items()}
            if bad := [name for name, value in at.items() if not math.isfinite(value)]:
                raise self.non_finite(start + i, bad)
            for name, value in at.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.count += 1
        self.callback.progress(start + len(metrics["loss"]), total, at)

    def end_epoch(self, step: int) -> None:
        """Write the averages since the last time."""
        self._write("train", step, {name: value / self.count for name, value in self.sums.items()})
        self.sums, self.count = {}, 0

    def read(self, step: int, found: Estimate, variables: Any) -> None:
        """Take in a reading of the validation split; variables that are the best so far are kept.

        Raises:
          NonFinite: the reading is not finite.
        """
        values = {"loss": found.value, "elbo": found.elbo} | found.kl_by_layer
        if bad := [name for name, value in values.items() if not math.isfinite(value)]:
            raise self.non_finite(step, [f"the validation split's {name}" for name in bad])
        self._write("valid", step, values)
        if found.value < self.best_value:
            self.best_value, self.best_step, self.bad_readings = found.value, step, 0
            self.selected, self.is_new_best = jax.device_get(variables), True  # written with the next checkpoint
        else:
            self.bad_readings += 1

    def save(self, step: int, host: State) -> None:
        """Write the checkpoint of a step from a state on the host, whose key is given as its data.

        Raises:
          NonFinite: a parameter is not finite; nothing is written.
          CannotWrite: the checkpoints before it are kept.
        """
        if self.latest is None or step == self.saved_at:
            return
        leaves = jax.tree.leaves_with_path(host.variables["params"])
        if bad := [jax.tree_util.keystr(path) for path, leaf in leaves if not np.isfinite(leaf).all()]:
            raise self.non_finite(step, [f"params{path}" for path in bad])
        progress = {name: getattr(self, name) for name in ("sums", "count", "best_step", "bad_readings", "together")}
        progress |= {"best_value": repr(self.best_value), "seconds": self.clock(), "first": self.saved_at == 0}
        if self.is_new_best:
            self.best.save(self.best_step, self.selected, {})
            self.is_new_best = False
        self.latest.save(step, host, progress)
        self.saved_at = step

    def restore(self, template: State, upto: int | None = None) -> Restored | None:
        """The newest intact checkpoint, and the bookkeeping as it stood then."""
        found = self.latest.restore(template, upto) if self.latest else None
        if found is not None:
            for name in ("sums", "count", "best_step", "bad_readings"):
                setattr(self, name, found.progress[name])
            self.best_value = float(found.progress["best_value"])
            self.clock = Stopwatch(found.progress["seconds"])
        return found

    def selection(self, step: int, variables: Any) -> tuple[Any, int]:
        """The best variables of the validation split, or where the protocol has none, the last ones; and their step."""
        if self.best_step is None:
            if self.best and step not in self.best.steps():
                self.best.save(step, jax.device_get(variables), {})
            return variables, step
        if self.selected is None:  # found before this process went on
            self.selected = self.restore_best(variables)
        return self.selected, self.best_step

    def restore_best(self, template: Any) -> Any:
        """The variables of the best reading, from disk.

        Raises:
          ValueError: they are not there.
        """
        found = self.best.restore(template, upto=self.best_step)
        if found is None or found.step != self.best_step:
            raise ValueError(
                f"expected the selected parameters of step {self.best_step} in {self.best.folder}, got none; "
                "restore the folder from a copy, or delete the run to start anew"
            )
        return found.tree

    def non_finite(self, step: int, terms: list[str]) -> NonFinite:
        """The error that says where and in what."""
        kept = f"; the checkpoint of step {self.saved_at} is kept" if self.latest and self.saved_at else ""
        others = [seed for seed in self.together if seed != self.seed]
        without = f"; in Python, dgmzoo.train(..., seeds={others}) goes on without it" if others and self.latest else ""
        return NonFinite(
            f"expected finite values, got NaN or infinity at step {step} of {self.name}, seed {self.seed}, "
            f"in {', '.join(terms)}{kept}; try a lower --training.learning-rate or --training.clip-norm, "
            f"and check the data{without}"
        )

    def _write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        self.callback.write({"step": step, "split": split, **values, "seconds": round(self.clock(), 3)})
