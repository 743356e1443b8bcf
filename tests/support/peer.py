"""One of several processes that train together: `python -m tests.support.peer OUT HOST:PORT PROCESSES PROCESS TASK...`.

Tasks are names of functions in `TASKS`. Their arrays are written to OUT/PROCESS.npz, the error messages of `refusals` to
OUT/PROCESS.json.
"""

import dataclasses
import json
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.training import multihost


def main(out: str, coordinator: str, processes: str, process: str, *tasks: str) -> None:
    with multihost.joined(coordinator, int(processes), int(process)):
        directory, arrays = Path(out), {}
        for task in tasks:
            if task == "refusals":
                (directory / f"{jax.process_index()}.json").write_text(json.dumps(refusals()))
            else:
                arrays |= TASKS[task](directory)
        np.savez(directory / f"{jax.process_index()}.npz", **arrays)


def rows(num: int) -> np.ndarray:
    return np.random.default_rng(num).integers(0, 2, (num, 2, 2)).astype(np.float32)


def experiment(execution: dict | None = None, **training):
    import dgmzoo
    from dgmzoo.layers.networks.mlp import MLP
    from dgmzoo.zoo.vae.vae import VAE

    settings = {"steps": 12, "batch_size": 16, "learning_rate": 0.1} | training
    return dgmzoo.Experiment(
        model=VAE(2, encoder=MLP((16,)), decoder=MLP((16,))),
        data=dgmzoo.from_arrays(rows(64), rows(30), rows(217)),
        training=dgmzoo.Training(**settings),
        execution=dgmzoo.Execution(checkpoint_seconds=0.0, **(execution or {})),
        evaluation=dgmzoo.Evaluation(num_samples=60),
    )


def flatten(tree, prefix: str) -> dict[str, np.ndarray]:
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def run_with_adam(directory: Path) -> dict[str, np.ndarray]:
    """Parameters, losses and result of a run with Adam, micro-batches and a moving average."""
    import dgmzoo

    run = dgmzoo.train(experiment(ema=0.9, accumulate=2), progress=False)
    losses = [[row["step"], row["loss"]] for row in run.metrics]
    result = [run.record[name] for name in ("value", "monte_carlo_error", "train_value")]
    return flatten(run.variables, "adam") | {"losses": np.array(losses), "result": np.array(result)}


class StopInLastProcess:
    """A callback that requests a stop at a step, in the last process alone."""

    def __init__(self, stop_at: int):
        self.step, self.stop_at = 0, stop_at

    def begin(self, step, total): ...
    def write(self, row): ...
    def progress(self, step, total, latest):
        self.step = step

    def should_stop(self):
        return self.step >= self.stop_at and jax.process_index() == jax.process_count() - 1


def stopped_chains_with_sgd(directory: Path) -> dict[str, np.ndarray]:
    """The last checkpoint of a training by SGD with chains on each device and streamed rows, which is stopped and resumed.

    SGD does not hide a constant factor of the gradient.
    """
    from dgmzoo import data
    from dgmzoo.config.preflight import resolve
    from dgmzoo.training.loop import Interrupted, fit
    from dgmzoo.training.run_directory import RunDirectory
    from tests.support import probes
    from tests.support.interruptions import checkpoint_of

    exp = experiment({"dispatch": 1, "stream": True}, optimizer="sgd")
    exp = dataclasses.replace(exp, model=probes.BoltzmannPrior(shape=(2, 2, 1)), objective=probes.Enumeration())
    dataset = data.load_dataset(exp.data)
    model = resolve(exp, dataset).model
    run = RunDirectory(directory / "chains")
    run.path.mkdir(parents=True, exist_ok=True)
    checkpoints = tuple(multihost.SharedCheckpoints(own) for own in (run.latest, run.best))
    stopped = np.array(0)
    try:
        fit(exp, model, dataset, 0, StopInLastProcess(5), checkpoints)
    except Interrupted as error:
        stopped = np.array(error.step)
    fit(exp, model, dataset, 0, StopInLastProcess(10**9), checkpoints)
    return flatten(checkpoint_of(directory / "chains")[2], "chains") | {"stopped": stopped}


TASKS = {task.__name__: task for task in (run_with_adam, stopped_chains_with_sgd)}


def nan_for_ones(evidence, batch):
    """NaN for rows of ones. With seed 14 the first batch has such rows in the share of process 1 alone."""
    return jnp.where(batch["x"].all((1, 2, 3)), jnp.nan, 0.0)


def refusals() -> dict[str, str]:
    """Error messages of trainings that several processes refuse, in every process."""
    import dgmzoo

    is_first = multihost.is_first()
    with_nan = dataclasses.replace(experiment(), extra_losses={"bad": nan_for_ones})
    trainings = {
        "batch": lambda: dgmzoo.train(experiment(batch_size=18), progress=False),
        "seeds": lambda: dgmzoo.train(experiment(), progress=False, seeds=[0, 1]),
        "differ": lambda: dgmzoo.train(experiment(learning_rate=0.1 if is_first else 0.2), progress=False),
        "one": lambda: dgmzoo.train(experiment(), run_dir=None if not is_first else __file__, progress=False),
        "nan": lambda: dgmzoo.train(with_nan, seed=14, progress=False),
        "file": lambda: dgmzoo.train(experiment(), run_dir=__file__ if is_first else "peer-never", progress=False),
    }
    messages = {}
    for name, train in trainings.items():
        try:
            train()
        except (ValueError, ArithmeticError) as error:
            messages[name] = str(error)
    return messages


if __name__ == "__main__":
    signal.alarm(600)  # the process that started this one may be gone
    main(*sys.argv[1:])
