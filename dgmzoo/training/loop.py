"""The training loop: dispatches, readings, checkpoints; everything that decides a number is in the state or derived."""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.config import Experiment
from dgmzoo.data import Dataset
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.model import Model
from dgmzoo.training import parallel
from dgmzoo.training.checkpoint import Checkpoints
from dgmzoo.training.feed import Feed, dispatch_size
from dgmzoo.training.optimizer import build
from dgmzoo.training.step import State, evaluation_variables, make_init, make_step

Row = dict[str, Any]  # step, split, loss, elbo, kl/<layer>, grad_norm, seconds


class NonFinite(ArithmeticError):
    """Training met a NaN or an infinity."""


class Interrupted(Exception):
    """Training was asked to stop before its end."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


class Watcher(Protocol):
    """Who looks on: hears where training begins and how it goes, gets every row of metrics, may ask to stop."""

    def begin(self, step: int) -> None: ...
    def write(self, row: Row) -> None: ...
    def progress(self, step: int, total: int, latest: Mapping[str, float]) -> None: ...
    def should_stop(self) -> bool: ...


class Fitted(NamedTuple):
    """What training leaves."""

    variables: Any  # the selected ones, as they are to be evaluated
    step: int  # at which they were selected
    trained: int  # steps run by this call


def fit(
    experiment: Experiment,
    model: Model,
    dataset: Dataset,
    seed: int,
    watcher: Watcher,
    checkpoints: tuple[Checkpoints, Checkpoints] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Fitted:
    """Train, or go on training where the checkpoints stand.

    Args:
      seed: of initial values, order of the rows and noise.
      checkpoints: latest and best, or None to keep nothing on disk.
      devices: to spread each batch over; by default as many of the local ones as divide the batch.

    Raises:
      NonFinite: with the step and the offending terms; the last good checkpoint stays.
      Interrupted: the watcher asked to stop; the checkpoint of that step is written.
    """
    run = _Run(experiment, model, dataset, seed, watcher, checkpoints, devices)
    return run.fit()


def selected(
    experiment: Experiment, model: Model, dataset: Dataset, checkpoints: tuple[Checkpoints, Checkpoints]
) -> tuple[Any, int]:
    """Variables and their step as training selected them, or as they stand where it has not ended.

    Raises:
      ValueError: there is no intact checkpoint.
    """
    run = _Run(experiment, model, dataset, 0, None, checkpoints, None)
    state = jax.eval_shape(run.init, run.key, run.first)
    found = run.best.restore(evaluation_variables(state))
    if found is None:
        state = run.latest.restore(run.template())
        if state is None:
            raise ValueError(f"expected a checkpoint in {run.latest.folder.parent}, got none; train first")
        return run._evaluated(parallel.place(state.tree, run.devices)), state.step
    return parallel.place(found.tree, run.devices[:1]), found.step


class _Run:
    def __init__(self, experiment, model, dataset, seed, watcher, checkpoints, devices):
        training = experiment.training
        rows = dataset.splits["train"]
        self.experiment, self.training, self.model, self.dataset = experiment, training, model, dataset
        self.watcher, self.seed = watcher, seed
        self.latest, self.best = checkpoints or (None, None)
        self.devices = choose_devices(training.batch_size) if devices is None else list(devices)
        if training.batch_size % len(self.devices):
            raise ValueError(
                f"expected training.batch_size to be a multiple of the {len(self.devices)} devices, "
                f"got {training.batch_size}"
            )
        self.feed = Feed(training, rows, seed, self.devices)
        self.per_epoch, self.total = self.feed.per_epoch, self.feed.total
        objective = experiment.objective
        optimizer = build(training, self.total, objective.optimizers())
        self.init = make_init(model, objective, optimizer, dataset.observe, training.ema is not None)
        self.step = make_step(model, objective, optimizer, dataset.observe, self.feed.num_train, training.ema)
        self.key = jax.random.key(seed)
        self.first = {name: jnp.asarray(np.asarray(leaf[:2])) for name, leaf in rows.items()}
        self.progress = {"sums": {}, "count": 0, "best": math.inf, "best_step": None, "bad": 0, "seconds": 0.0}
        self.valid = None  # rows of the validation split, once they are needed
        self.selected = None  # host copy of the best variables so far
        self.saved_at = None  # step of the last checkpoint
        self.pending: list[tuple[int, dict[str, jax.Array]]] = []  # dispatched, not yet looked at
        self.recent: dict[str, float] = {}

    def fit(self) -> Fitted:
        state = self._restore()
        begun = int(state.step)
        n = self.training.steps_per_dispatch or dispatch_size(self._has_loop_hazard(state), self.per_epoch)
        dispatch = parallel.compile_dispatch(self.step, self.devices, self.feed.streamed)
        self.clock = time.monotonic() - self.progress["seconds"]
        self.saved_time, self.saved_at = time.monotonic(), begun
        self.watcher.begin(begun)
        stopped_early = self._patience_is_over()
        step = begun
        with contextlib.closing(self.feed.portions(begun, n)) as portions:
            while step < self.total and not stopped_early:
                size, rows, indices = next(portions)
                state, metrics = dispatch(state, rows, indices)
                self.pending.append((step, metrics))
                step += size
                end_of_epoch = step % self.per_epoch == 0 or step == self.total
                self._look(everything=end_of_epoch)
                if end_of_epoch:
                    self._write_row("train", step, self._averages())
                    if self._validates(step):
                        self._validate(state, step)
                        stopped_early = self._patience_is_over()
                if self.watcher.should_stop() and step < self.total:
                    self._save(state, step)
                    raise Interrupted(step)
                if time.monotonic() - self.saved_time >= self.training.checkpoint_seconds:
                    self._save(state, step)
        self._save(state, step)
        return Fitted(*self._selection(state, step), trained=step - begun)

    # Restoring and saving

    def _restore(self) -> State:
        found = self.latest.restore(self.template()) if self.latest else None
        if found is None:
            return parallel.init_on(self.init, self.key, self.first, self.devices)
        self.progress = found.progress | {"best": float(found.progress["best"])}
        return parallel.place(found.tree, self.devices)

    def template(self) -> State:
        """Shapes of the state."""
        return parallel.stacked_shapes(jax.eval_shape(self.init, self.key, self.first), len(self.devices))

    def _save(self, state: State, step: int) -> None:
        self._look(everything=True)  # a NaN must not reach the disk
        if self.latest is None or step == self.saved_at:
            return
        host = jax.device_get(state._replace(key=jax.random.key_data(state.key)))
        bad = [
            path for path, leaf in jax.tree.leaves_with_path(host.variables["params"]) if not np.isfinite(leaf).all()
        ]
        if bad:
            raise self._non_finite(step, [f"params{jax.tree_util.keystr(path)}" for path in bad])
        self.progress["seconds"] = time.monotonic() - self.clock
        self.latest.save(step, host, self.progress | {"best": repr(self.progress["best"])})
        self.saved_time, self.saved_at = time.monotonic(), step

    # Metrics

    def _look(self, everything: bool) -> None:
        """Fetch metrics of dispatches that have ended (all but the newest few, so that the device never waits)."""
        steps = sum(len(metrics["loss"]) for _, metrics in self.pending)
        if not self.pending or not (everything or (steps >= 64 and len(self.pending) > 1)):
            return
        ready = self.pending if everything else self.pending[:-1]
        self.pending = [] if everything else self.pending[-1:]
        for start, metrics in jax.device_get(ready):
            for i in range(len(metrics["loss"])):
                at = {name: float(value[i]) for name, value in metrics.items()}
                if bad := [name for name, value in at.items() if not math.isfinite(value)]:
                    raise self._non_finite(start + i, bad)
                for name, value in at.items():
                    self.progress["sums"][name] = self.progress["sums"].get(name, 0.0) + value
                self.progress["count"] += 1
            self.recent = at
            self.watcher.progress(start + len(metrics["loss"]), self.total, self.recent)

    def _averages(self) -> dict[str, float]:
        found = {name: value / self.progress["count"] for name, value in self.progress["sums"].items()}
        self.progress["sums"], self.progress["count"] = {}, 0
        return found

    def _write_row(self, split: str, step: int, values: Mapping[str, float]) -> None:
        self.watcher.write({"step": step, "split": split, **values, "seconds": round(time.monotonic() - self.clock, 3)})

    def _non_finite(self, step: int, terms: list[str]) -> NonFinite:
        name = self.experiment.name or "the experiment"
        kept = f"; the checkpoint of step {self.saved_at} is kept" if self.latest and self.saved_at else ""
        return NonFinite(
            f"expected finite values, got NaN or infinity at step {step} of {name} in {', '.join(terms)}{kept}; "
            "try a lower --training.learning-rate or --training.clip-norm, and check the data"
        )

    # Validation and selection

    def _validates(self, step: int) -> bool:
        every = self.training.validate_epochs * self.per_epoch
        return "valid" in self.dataset.splits and (step % every == 0 or step == self.total)

    def _validate(self, state: State, step: int) -> None:
        variables = self._evaluated(state)
        if self.valid is None:
            self.valid = self.dataset.fixed("valid")
        found = evaluate(self.model, variables, self.valid, jax.random.key(self.seed), num_samples=1)
        self._write_row("valid", step, {"loss": found.value, "elbo": found.elbo} | found.kl_by_layer)
        if found.value < self.progress["best"]:
            self.progress |= {"best": found.value, "best_step": step, "bad": 0}
            self.selected = jax.device_get(variables)
            if self.best:
                self.best.save(step, self.selected, {"value": repr(found.value)})
        else:
            self.progress["bad"] += 1

    def _patience_is_over(self) -> bool:
        return self.training.patience is not None and self.progress["bad"] >= self.training.patience

    def _evaluated(self, state: State):
        variables = evaluation_variables(state)
        if len(self.devices) > 1:
            variables = parallel.from_one_device(variables)
        return variables

    def _selection(self, state: State, step: int) -> tuple[Any, int]:
        """The best variables of the validation split, or where the protocol has none, the last; and their step."""
        if (best_step := self.progress["best_step"]) is None:
            variables = self._evaluated(state)
            if self.best and step not in self.best.steps():
                self.best.save(step, jax.device_get(variables), {})
            return variables, step
        if self.selected is None:  # found before this process went on
            self.selected = self.best.restore(self._evaluated(state), upto=best_step).tree
        return parallel.place(self.selected, self.devices[:1]), best_step

    def _has_loop_hazard(self, state: State) -> bool:
        """Whether the step has convolutions and runs on CPU, where XLA runs them 4 to 13 times slower inside a loop."""
        if self.devices[0].platform != "cpu":
            return False
        rows = {
            name: jax.ShapeDtypeStruct((self.training.batch_size, *leaf.shape[1:]), leaf.dtype)
            for name, leaf in self.first.items()
        }
        return "conv_general_dilated" in str(jax.make_jaxpr(self.step)(state, rows))


def choose_devices(batch_size: int) -> list[jax.Device]:
    """The most local devices that divide the batch."""
    devices = jax.local_devices()
    num = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return devices[:num]
