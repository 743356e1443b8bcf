"""The training loop: dispatches, readings, checkpoints; everything that decides a number is in the state or derived."""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.config.experiment import Experiment
from dgmzoo.data import Dataset
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.model.contract import Model
from dgmzoo.model.precision import in_precision
from dgmzoo.model.transforms import rematerialized, with_extra_losses
from dgmzoo.training.batches import Batches, dispatch_size
from dgmzoo.training.checkpoint import Checkpoints
from dgmzoo.training.devices import (
    FlagReduction,
    choose_devices,
    compile_dispatch,
    fetch,
    from_one_device,
    init_on,
    num_all,
    one_seed,
    place,
    stack_seeds,
    stacked_shapes,
)
from dgmzoo.training.optimizer import build
from dgmzoo.training.seed_tracker import Callback, NonFinite, SeedTracker
from dgmzoo.training.step import State, evaluation_variables, make_init, make_step
from dgmzoo.training.stopwatch import Stopwatch

__all__ = ["Fitted", "Interrupted", "NonFinite", "fit", "fit_seeds", "selected"]

# Training rows, from all over, that parameters are initialised with (outputs start at their mean), and their most bytes.
_FIRST, _FIRST_BYTES = 1000, 2**26


class Interrupted(Exception):
    """Training was asked to stop before its end."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step
        self.signal: int | None = None  # that asked for it


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
    callback: Callback,
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
    return fit_seeds(experiment, model, dataset, [SeedTracker(experiment.name, seed, callback, checkpoints)], devices)[
        0
    ]


def fit_seeds(
    experiment: Experiment,
    model: Model,
    dataset: Dataset,
    tracks: Sequence[SeedTracker],
    devices: Sequence[jax.Device] | None = None,
) -> list[Fitted]:
    """Train several seeds at once in one compiled program, each with its own track, for a fixed length.

    Raises:
      ValueError: early stopping was asked for: the seeds would end at different steps.
      NonFinite, Interrupted: as `fit`, for the first seed that is concerned.
    """
    check_seeds(experiment, len(tracks))
    return _Run(experiment, model, dataset, tracks, devices).fit()


def as_trained(experiment: Experiment, model: Model) -> Model:
    """The model as its training asks it: with the experiment's terms, in its precision, in parts if it says so."""
    model, training = with_extra_losses(model, experiment.extra_losses), experiment.training
    if training.compute != "float32":
        model = in_precision(model, jnp.dtype(training.compute))
    return rematerialized(model) if training.remat else model


def check_seeds(experiment: Experiment, num_seeds: int) -> None:
    """Refuse early stopping with several seeds."""
    if num_seeds > 1 and experiment.training.patience is not None:
        raise ValueError(
            f"expected training.patience None with {num_seeds} seeds, got {experiment.training.patience}; "
            "seeds that train together have one length"
        )


def selected(
    experiment: Experiment, model: Model, dataset: Dataset, checkpoints: tuple[Checkpoints, Checkpoints]
) -> tuple[Any, int]:
    """Variables and their step as training selected them, or as they stand where it has not ended.

    Raises:
      ValueError: there is no intact checkpoint.
    """
    track = SeedTracker(experiment.name, 0, None, checkpoints)
    run = _Run(experiment, model, dataset, [track], None)
    one = jax.eval_shape(run.init, run.keys[0], run.first)
    latest = track.restore(run.template())
    if latest is None:
        raise ValueError(f"expected a checkpoint in {track.latest.folder.parent}, got none; train first")
    if track.best_step is None:
        return run.variables(place(latest.tree, run.devices), 0), latest.step
    return place(track.restore_best(evaluation_variables(one)), run.devices[:1]), track.best_step


class _Run:
    def __init__(self, experiment, model, dataset, tracks, devices):
        training = experiment.training
        rows = dataset.splits["train"]
        self.training, self.execution = training, experiment.execution
        self.model, self.dataset, self.tracks = model, dataset, tracks
        self.devices = choose_devices(training.micro_batch_size) if devices is None else list(devices)
        self.num_devices = num_all(self.devices)
        if training.batch_size % (self.num_devices * training.accumulate):
            raise ValueError(
                f"expected training.batch_size to be a multiple of {self.num_devices} devices times "
                f"{training.accumulate} parts (training.accumulate), got {training.batch_size}"
            )
        self.feed = Batches(training, experiment.execution.stream, rows, [track.seed for track in tracks], self.devices)
        self.per_epoch, self.total = self.feed.per_epoch, self.feed.total
        objective = experiment.objective
        self.reading_samples = objective.bound_samples  # selected by the bound that is trained
        optimizer = build(training, self.total, objective.optimizers())
        self.init = make_init(model, objective, optimizer, dataset.observe, training.ema is not None)
        model = as_trained(experiment, model)
        num_data, ema = self.feed.num_train, training.ema
        self.step = make_step(model, objective, optimizer, dataset.observe, num_data, ema, training.accumulate)
        self.keys = [jax.random.key(track.seed) for track in tracks]
        size = sum(leaf.nbytes // len(leaf) for leaf in rows.values())
        num = min(_FIRST, max(2, _FIRST_BYTES // size), self.feed.num_train)
        some = np.linspace(0, self.feed.num_train - 1, num).astype(int)
        self.first = {name: np.asarray(leaf[some]) for name, leaf in rows.items()}
        self.valid = None  # rows of the validation split, once they are needed
        self.pending: list[tuple[int, dict[str, jax.Array]]] = []  # dispatched, not yet looked at
        self.ahead = _ahead(0)  # steps that may be dispatched and not yet looked at

    def fit(self) -> list[Fitted]:
        state = self._begin()
        begun = step = int(state.step)
        if begun < self.total and not self._patience_is_over():
            state, step = self._advance(state, begun)
        self._save(state, step)
        fitted = []
        for i, track in enumerate(self.tracks):
            variables, at = track.selection(step, self.variables(state, i))
            fitted.append(Fitted(place(variables, self.devices[:1]), at, step - begun))
        return fitted

    def _advance(self, state: State, step: int) -> tuple[State, int]:
        """Train to the end, and give back the state and its step."""
        n = self.execution.dispatch or dispatch_size(self._has_loop_hazard(), self.per_epoch)
        dispatch = compile_dispatch(self.step, self.devices, self.feed.streamed, len(self.tracks))
        self.since_save = self.since_look = Stopwatch()
        votes = FlagReduction(self.devices)
        over = False
        with contextlib.closing(self.feed.portions(step, n)) as portions:
            while step < self.total and not over:
                size, rows, indices = next(portions)
                state, metrics = dispatch(state, rows, indices)
                self.pending.append((step, metrics))
                step += size
                end_of_epoch = step % self.per_epoch == 0 or step == self.total
                self._look(everything=end_of_epoch)
                if end_of_epoch:
                    self._end_epoch(state, step)
                    over = self._patience_is_over()
                stop, due = votes(
                    any(track.callback.should_stop() for track in self.tracks),
                    self.since_save() >= self.execution.checkpoint_seconds,
                )
                if stop or due:
                    self._save(state, step)
                if stop:
                    raise Interrupted(step)
        return state, step

    # Restoring and saving

    def template(self) -> State:
        """Shapes of one seed's state."""
        return stacked_shapes(jax.eval_shape(self.init, self.keys[0], self.first), self.num_devices)

    def _begin(self) -> State:
        """A fresh state, or that of the newest step of which every seed has an intact checkpoint.

        What is later is forgotten: a checkpoint that counted as one of those kept would push out the one all share.

        Raises:
          ValueError: some seeds stand where the others have never been.
        """
        template, upto = self.template(), None
        while True:
            found = [track.restore(template, upto) for track in self.tracks]
            if len({each and each.step for each in found}) == 1:
                break
            if None in found:
                if not all(each is None or each.progress.get("first") for each in found):
                    there = ", ".join(str(track.seed) for track, each in zip(self.tracks, found, strict=True) if each)
                    raise ValueError(
                        f"expected a checkpoint of one step for all of the seeds, got one of {there} alone; train them in turn"
                    )
                found = [None] * len(found)  # killed in their first checkpoint
                break
            upto = min(each.step for each in found)
        if None in found:
            states = [init_on(self.init, key, self.first, self.devices) for key in self.keys]
        else:
            states = [place(each.tree, self.devices) for each in found]
        for track in self.tracks:
            track.begin(int(states[0].step), self.total, [each.seed for each in self.tracks])
        return stack_seeds(states, self.devices)

    def _save(self, state: State, step: int) -> None:
        self._look(everything=True)  # a NaN must not reach the disk
        if any(track.latest for track in self.tracks):
            host = fetch(state)
            for i, track in enumerate(self.tracks):
                track.save(step, self._one(host, i))
        self.since_save = Stopwatch()

    # Metrics and readings

    def _look(self, everything: bool) -> None:
        """Fetch metrics of dispatches that have ended (all but the newest, so that the device never waits)."""
        steps = sum(len(metrics["loss"]) for _, metrics in self.pending)
        if not self.pending or not (everything or (steps >= self.ahead and len(self.pending) > 1)):
            return
        ready = self.pending if everything else self.pending[:-1]
        self.pending = [] if everything else self.pending[-1:]
        fetched = jax.device_get(ready)
        self.ahead = _ahead(sum(len(metrics["loss"]) for _, metrics in ready) / max(self.since_look(), 1e-6))
        self.since_look = Stopwatch()
        for start, metrics in fetched:
            for i, track in enumerate(self.tracks):
                own = metrics if len(self.tracks) == 1 else {name: value[:, i] for name, value in metrics.items()}
                track.absorb(start, own, self.total)

    def _end_epoch(self, state: State, step: int) -> None:
        every = self.training.validate_epochs * self.per_epoch
        reads = "valid" in self.dataset.splits and (step % every == 0 or step == self.total)
        if reads and self.valid is None:
            self.valid = self.dataset.fixed("valid")
        for i, track in enumerate(self.tracks):
            track.end_epoch(step)
            if reads:
                variables = self.variables(state, i)
                found = evaluate(self.model, variables, self.valid, self.keys[i], self.reading_samples)
                track.read(step, found, variables)

    def _patience_is_over(self) -> bool:
        patience = self.training.patience
        return patience is not None and self.tracks[0].bad_readings >= patience

    def variables(self, state: State, i: int) -> Any:
        """One seed's variables as they are to be evaluated, on one device."""
        variables = evaluation_variables(self._one(state, i))
        return from_one_device(variables) if self.num_devices > 1 else variables

    def _one(self, state: State, i: int) -> State:
        return one_seed(state, i, len(self.tracks), self.num_devices)

    def _has_loop_hazard(self) -> bool:
        """Whether the step has convolutions and runs on CPU, where XLA runs them 4 to 13 times slower inside a loop."""
        if self.devices[0].platform != "cpu":
            return False
        state = jax.eval_shape(self.init, self.keys[0], self.first)
        batch = self.training.batch_size
        rows = {name: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype) for name, leaf in self.first.items()}
        return "conv_general_dilated" in str(jax.make_jaxpr(self.step)(state, rows))


def _ahead(pace: float) -> int:
    """Steps that may wait on the device, at `pace` a second: half a second's, as a stop is heard only between dispatches.

    Several processes must look at the same time, whatever their clocks say.
    """
    return 64 if jax.process_count() > 1 else int(min(max(0.5 * pace, 1), 64))
