"""`fit`: train with checkpoints; `fit_seeds`: train several seeds at once; `selected`: load the best parameters.

All values that affect a result are in the state, or follow from the seed and the step. A resumed run is therefore
bit-identical to an uninterrupted one.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from dgmzoo.config.experiment import Experiment
from dgmzoo.data import Dataset
from dgmzoo.model.contract import Model
from dgmzoo.training import devices as placement
from dgmzoo.training.batches import Batches, default_dispatch_size
from dgmzoo.training.checkpoint import Checkpoints
from dgmzoo.training.optimizer import build
from dgmzoo.training.pace import Pace
from dgmzoo.training.readings import Readings
from dgmzoo.training.seed_tracker import Callback, NonFinite, SeedTracker, restore_common_step
from dgmzoo.training.step import State, evaluation_variables, make_init, make_step
from dgmzoo.training.stopwatch import Stopwatch
from dgmzoo.training.training_model import training_model, warn_about_precision

__all__ = ["Fitted", "Interrupted", "NonFinite", "fit", "fit_seeds", "selected"]


class Interrupted(KeyboardInterrupt):
    """Training was stopped on request (Ctrl-C, SIGTERM), after its checkpoint was written.

    >>> Interrupted(step=190).step
    190
    """

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step
        self.signal: int | None = None  # the signal that requested the stop


class Fitted(NamedTuple):
    """The result of a training."""

    variables: Any  # selected variables, for evaluation
    step: int  # step of these variables
    trained: int  # number of steps that this call has run


def fit(
    experiment: Experiment,
    model: Model,
    dataset: Dataset,
    seed: int,
    callback: Callback,
    checkpoints: tuple[Checkpoints, Checkpoints] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Fitted:
    """Train, or resume a training from its checkpoints.

    Args:
      seed: seed of initial values, order of the rows and noise.
      checkpoints: latest and best; None keeps nothing on disk.
      devices: local devices that share each batch. Default: as many as divide the batch.

    Raises:
      NonFinite: a NaN or infinity, with the step and the terms; the last checkpoint is kept.
      Interrupted: the callback requested a stop; the checkpoint of that step is written.
    """
    tracker = SeedTracker(experiment.name, seed, callback, checkpoints)
    return fit_seeds(experiment, model, dataset, [tracker], devices)[0]


def fit_seeds(
    experiment: Experiment,
    model: Model,
    dataset: Dataset,
    trackers: Sequence[SeedTracker],
    devices: Sequence[jax.Device] | None = None,
) -> list[Fitted]:
    """Train several seeds in one compiled program, each with its own tracker.

    Raises:
      ValueError: the experiment stops early, which would end the seeds at different steps.
      NonFinite, Interrupted: as `fit`, for the first such seed.
    """
    check_seeds(experiment, len(trackers))
    return _Loop(experiment, model, dataset, trackers, devices).fit()


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
    """The selected variables of a run and their step; without a validation result yet, the latest ones.

    Raises:
      ValueError: there is no intact checkpoint.
    """
    devices = placement.choose_devices(experiment.training.micro_batch_size)
    num_devices = placement.num_global(devices)
    shapes = _state_shapes(experiment, model, dataset)
    tracker = SeedTracker(experiment.name, 0, None, checkpoints)
    latest = tracker.restore(placement.shapes_on_devices(shapes, num_devices))
    if latest is None:
        raise ValueError(f"expected a checkpoint in {tracker.latest.directory.parent}, got none; train first")
    if tracker.best_step is None:
        return _variables(placement.place(latest.tree, devices), num_devices), latest.step
    best = tracker.restore_best(evaluation_variables(shapes))
    return placement.place(best, devices[:1]), tracker.best_step


def variable_shapes(experiment: Experiment, model: Model, dataset: Dataset) -> Any:
    """The shapes and dtypes of the variables for evaluation. No row is read."""
    return evaluation_variables(_state_shapes(experiment, model, dataset))


def _state_shapes(experiment: Experiment, model: Model, dataset: Dataset) -> State:
    _, init = _optimizer_and_init(experiment, model, dataset)
    return jax.eval_shape(init, jax.random.key(0), dataset.row_shapes())


def _optimizer_and_init(experiment: Experiment, model: Model, dataset: Dataset) -> tuple[Any, Any]:
    training, objective = experiment.training, experiment.objective
    optimizer = build(training, training.total_steps(len(dataset.splits["train"]["x"])), objective.optimizers())
    return optimizer, make_init(model, objective, optimizer, dataset.observe, training.ema is not None)


def _variables(state: State, num_devices: int) -> Any:
    """The variables of one seed for evaluation, on one device."""
    variables = evaluation_variables(state)
    return placement.from_one_device(variables) if num_devices > 1 else variables


class _Loop:
    """The training of some seeds in one program."""

    def __init__(self, experiment, model, dataset, trackers, devices):
        training, objective = experiment.training, experiment.objective
        rows = dataset.splits["train"]
        self.training, self.execution = training, experiment.execution
        self.model, self.dataset, self.trackers = model, dataset, trackers
        self.devices = placement.choose_devices(training.micro_batch_size) if devices is None else list(devices)
        self.num_devices = placement.num_global(self.devices)
        if training.batch_size % (self.num_devices * training.accumulate):
            raise ValueError(
                f"expected training.batch_size to be a multiple of {self.num_devices} devices times "
                f"{training.accumulate} micro-batches (training.accumulate), got {training.batch_size}"
            )
        seeds = [tracker.seed for tracker in trackers]
        self.batches = Batches(training, experiment.execution.stream, rows, seeds, self.devices)
        self.steps_per_epoch, self.total = self.batches.steps_per_epoch, self.batches.total_steps
        self.readings = Readings(experiment, model, dataset)
        optimizer, self.init = _optimizer_and_init(experiment, model, dataset)
        self.step = make_step(
            training_model(experiment, model, self.batches.num_train),
            objective,
            optimizer,
            dataset.observe,
            self.batches.num_train,
            training.ema,
            training.accumulate,
        )
        self.keys = [jax.random.key(seed) for seed in seeds]
        self.init_rows = dataset.initial_rows()
        self.pace = Pace(1)
        self.unread_metrics: list[
            tuple[int, int, dict[str, jax.Array]]
        ] = []  # first step, steps, metrics on the device

    def fit(self) -> list[Fitted]:
        state = self._initial_state()
        first = step = int(state.step)
        if first < self.total and not self._is_out_of_patience():
            state, step = self._train(state, first)
        self._save(state, step)
        fitted = []
        for i, tracker in enumerate(self.trackers):
            variables, selected_step = tracker.selection(step, self.variables(state, i))
            fitted.append(Fitted(placement.place(variables, self.devices[:1]), selected_step, step - first))
        return fitted

    def _train(self, state: State, step: int) -> tuple[State, int]:
        """Train to the end; the final state and its step."""
        n = self.execution.dispatch or default_dispatch_size(self._is_slow_in_loop(), self.steps_per_epoch)
        warn_about_precision(self.training.compute, self.step, *self._step_shapes())
        dispatch = placement.compile_dispatch(self.step, self.devices, self.batches.is_streamed, len(self.trackers))
        self.since_save, self.pace = Stopwatch(), Pace(n)
        reduce_flags = placement.FlagReduction(self.devices)
        is_done = False
        stops = [diagnostic.every_steps for diagnostic in self.readings.diagnostics.values()]
        with contextlib.closing(self.batches.dispatches(step, n, self.pace.next_size, stops)) as inputs:
            while step < self.total and not is_done:
                size, rows, indices = next(inputs)
                state, metrics = dispatch(state, rows, indices, size)
                self.unread_metrics.append((step, size, metrics))
                step += size
                is_epoch_end = step % self.steps_per_epoch == 0 or step == self.total
                self._read_metrics(everything=is_epoch_end or self.pace.waits)
                self._diagnose(state, step - size, step)
                if is_epoch_end:
                    self._end_epoch(state, step)
                    is_done = self._is_out_of_patience()
                stop, save = reduce_flags(
                    any(tracker.callback.should_stop() for tracker in self.trackers),
                    self.since_save() >= self.execution.checkpoint_seconds,
                )
                if stop or save:
                    self._save(state, step)
                if save or is_epoch_end or self.readings.is_due(step - size, step):
                    self.pace.restart()  # the time of readings and checkpoints is not that of steps
                if stop:
                    raise Interrupted(step)
        return state, step

    # States and checkpoints

    def template(self) -> State:
        """The shapes of one seed's state."""
        shapes = jax.eval_shape(self.init, self.keys[0], self.init_rows)
        return placement.shapes_on_devices(shapes, self.num_devices)

    def _initial_state(self) -> State:
        """A new state, or that of the newest step for which every seed has an intact checkpoint."""
        restored = restore_common_step(self.trackers, self.template())
        if restored is None:
            states = [placement.init_on(self.init, key, self.init_rows, self.devices) for key in self.keys]
        else:
            states = [placement.place(checkpoint.tree, self.devices) for checkpoint in restored]
        for tracker in self.trackers:
            tracker.begin(int(states[0].step), self.total, [other.seed for other in self.trackers])
        return placement.stack_seeds(states, self.devices)

    def _save(self, state: State, step: int) -> None:
        self._read_metrics(everything=True)  # a NaN must not reach the disk
        if any(tracker.latest for tracker in self.trackers):
            host = placement.to_host(state)
            for i, tracker in enumerate(self.trackers):
                tracker.save(step, self._one_seed(host, i))
        self.since_save = Stopwatch()

    # Metrics and validation

    def _read_metrics(self, everything: bool) -> None:
        """Fetch metrics from the device. The newest are left there, unless all are needed, so that it never waits."""
        num_steps = sum(size for _, size, _ in self.unread_metrics)
        is_due = num_steps >= self.pace.max_unread_steps and len(self.unread_metrics) > 1
        if not self.unread_metrics or not (everything or is_due):
            return
        ready = self.unread_metrics if everything else self.unread_metrics[:-1]
        self.unread_metrics = [] if everything else self.unread_metrics[-1:]
        fetched = jax.device_get([metrics for *_, metrics in ready])
        self.pace.measure(sum(size for _, size, _ in ready))
        for (start, size, _), metrics in zip(ready, fetched, strict=True):
            for i, tracker in enumerate(self.trackers):
                each = (slice(size),) if len(self.trackers) == 1 else (slice(size), i)
                tracker.add_metrics(start, {name: value[each] for name, value in metrics.items()}, self.total)

    def _end_epoch(self, state: State, step: int) -> None:
        interval = self.training.validate_epochs * self.steps_per_epoch
        validates = "valid" in self.dataset.splits and (step % interval == 0 or step == self.total)
        for i, tracker in enumerate(self.trackers):
            tracker.end_epoch(step)
            if validates:
                self.readings.read_bounds(tracker, step, self.variables(state, i), self.keys[i])

    def _diagnose(self, state: State, before: int, step: int) -> None:
        if self.readings.is_due(before, step):
            for i, tracker in enumerate(self.trackers):
                self.readings.diagnose(tracker, before, step, self.variables(state, i))

    def _is_out_of_patience(self) -> bool:
        patience = self.training.patience
        return patience is not None and self.trackers[0].bad_readings >= patience

    def variables(self, state: State, i: int) -> Any:
        """The variables of seed number `i` for evaluation, on one device."""
        return _variables(self._one_seed(state, i), self.num_devices)

    def _one_seed(self, state: State, i: int) -> State:
        return placement.one_seed(state, i, len(self.trackers), self.num_devices)

    def _is_slow_in_loop(self) -> bool:
        return placement.is_slow_in_loop(self.step, *self._step_shapes(), self.devices[0])

    def _step_shapes(self) -> tuple[State, dict[str, jax.ShapeDtypeStruct]]:
        state = jax.eval_shape(self.init, self.keys[0], self.init_rows)
        shape = (self.training.batch_size,)
        rows = {name: jax.ShapeDtypeStruct(shape + leaf.shape[1:], leaf.dtype) for name, leaf in self.init_rows.items()}
        return state, rows
