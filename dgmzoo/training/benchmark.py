"""`bench`: measure the training speed of an experiment; `bench_layers`: compare the speed of latent layers."""

import contextlib
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dgmzoo import data
from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment
from dgmzoo.config.preflight import Resolved, resolve
from dgmzoo.data.fetch_progress import console_progress
from dgmzoo.model.contract import Query
from dgmzoo.training import devices
from dgmzoo.training.loop import fit
from dgmzoo.training.optimizer import build
from dgmzoo.training.step import make_init, make_step
from dgmzoo.training.training_model import training_model


def bench(experiment: Experiment, epochs: int = 5, profile: Path | None = None) -> dict[str, Any]:
    """Time the training of an experiment. Validation, checkpoints and the final evaluation are left out.

    Args:
      epochs: number of epochs that are timed, after a first one that compiles.
      profile: directory for a JAX trace of one further epoch, to be opened in TensorBoard or Perfetto.

    Returns:
      `seconds_per_epoch` (median), `steps_per_second`, `compile_seconds` (first epoch minus a later one), and
      `memory_bytes` (peak of the device, or of the process on CPU).
    """
    num = epochs + 2
    changes = {"training.epochs": num, "training.validate_epochs": num, "training.patience": None}
    timed = overrides.override(experiment, changes)
    resolved = _load(timed)
    timer = _EpochTimer(profiled_epoch=num, profile=profile)
    fit(timed, resolved.model, resolved.dataset, 0, timer)
    seconds = statistics.median(timer.seconds[1 : epochs + 1])
    steps = timed.training.steps_per_epoch(len(resolved.dataset.splits["train"]["x"]))
    return {
        "seconds_per_epoch": seconds,
        "steps_per_second": steps / seconds,
        "compile_seconds": max(0.0, timer.seconds[0] - seconds),
        "memory_bytes": _peak_memory(),
    }


def bench_layers(
    experiment: Experiment, layers: Sequence[str], rounds: int = 30, steps: int = 50
) -> dict[str, dict[str, float]]:
    """Time training steps of the experiment with different variational layers, in turns.

    The layers take turns so that other load on the machine affects all of them alike.

    Args:
      layers: names (`normal`, `horseshoe`, ...) for `model.latent`; the others are compared with the first.
      rounds: number of times that each layer is timed.
      steps: number of steps in each of them.

    Returns:
      Layer -> `seconds_per_step` (median over rounds), `ratio` to the first layer, `compile_seconds` of the training
      program, and `layer_compile_seconds` (processor time) of the layer alone.
    """
    programs = {}
    for name in layers:
        changed = overrides.override(experiment, {"training.accumulate": 1, "model.latent": name})
        programs[name] = _Program(changed, steps)
    seconds: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(rounds):
        for name, program in programs.items():
            seconds[name].append(program.time() / steps)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        name: {
            "seconds_per_step": median[name],
            "ratio": median[name] / median[layers[0]],
            "compile_seconds": program.compile_seconds,
            "layer_compile_seconds": seconds_to_compile(program.experiment),
        }
        for name, program in programs.items()
    }


class _Program:
    """A compiled dispatch of `steps` training steps, which has run once."""

    def __init__(self, experiment: Experiment, steps: int):
        self.experiment, training, objective = experiment, experiment.training, experiment.objective
        resolved = _load(experiment)
        rows, observe = resolved.dataset.splits["train"], resolved.dataset.observe
        optimizer = build(training, 1000, objective.optimizers())
        init = make_init(resolved.model, objective, optimizer, observe, ema=training.ema is not None)
        model = training_model(experiment, resolved.model, len(rows["x"]))
        step = make_step(model, objective, optimizer, observe, len(rows["x"]), training.ema)
        self._rows = {key: jnp.asarray(leaf[:10_000]) for key, leaf in rows.items()}
        num_rows = len(self._rows["x"])
        self._indices = jax.random.randint(jax.random.key(1), (steps, training.batch_size), 0, num_rows)
        self._state = jax.jit(init)(jax.random.key(0), {key: leaf[:2] for key, leaf in self._rows.items()})
        dispatch = devices.compile_dispatch(step, jax.local_devices()[:1])
        start = time.perf_counter()
        self._dispatch = dispatch
        first = self.time()
        self.compile_seconds = time.perf_counter() - start - min(first, self.time())

    def time(self) -> float:
        """Run the steps; the seconds that they took."""
        start = time.perf_counter()
        self._state, _ = jax.block_until_ready(self._dispatch(self._state, self._rows, self._indices))
        return time.perf_counter() - start


def seconds_to_compile(experiment: Experiment) -> float:
    """Processor seconds to compile the experiment's variational layer alone: a sample, the KL, and their gradient."""
    layer = experiment.model.latent.clone(units=20)
    features, query = jnp.zeros((experiment.training.batch_size, 200)), Query(train=True)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = jax.jit(lambda rngs, features: layer.init(rngs, features, query, "z"))(rngs, features)

    @jax.jit
    def gradient(variables, features, key):
        def loss(variables, features):
            latent = layer.apply(variables, features, query, "z", rngs={"sample": key})
            return jnp.square(latent.value).sum() + latent.kl.sum() + latent.log_p.sum() - latent.log_q.sum()

        return jax.grad(loss, (0, 1))(variables, features)

    start = time.process_time()
    gradient.lower(variables, features, jax.random.key(0)).compile()
    return time.process_time() - start


class _EpochTimer:
    """A callback that times each epoch, and traces the last one if a directory for the profile is given."""

    def __init__(self, profiled_epoch: int, profile: Path | None):
        self.seconds: list[float] = []
        self._profiled_epoch, self._profile = profiled_epoch, profile

    def begin(self, step: int, total: int) -> None:
        self._start = time.perf_counter()

    def write(self, row: Mapping[str, Any]) -> None:
        self.seconds.append(time.perf_counter() - self._start)
        epoch = len(self.seconds)
        if self._profile and epoch == self._profiled_epoch - 1:
            jax.profiler.start_trace(str(self._profile))
        elif self._profile and epoch == self._profiled_epoch:
            jax.profiler.stop_trace()
        self._start = time.perf_counter()

    def progress(self, step: int, total: int, latest: Mapping[str, float]) -> None: ...

    def should_stop(self) -> bool:
        return False


def _load(experiment: Experiment) -> Resolved:
    with console_progress() as (log, report_progress):
        dataset = data.load_dataset(experiment.data, log, report_progress)
    return resolve(experiment, dataset)


def _peak_memory() -> int:
    with contextlib.suppress(Exception):  # some devices have no statistics
        return int(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
