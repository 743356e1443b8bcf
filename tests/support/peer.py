"""One of several processes that train together: `python -m tests.support.peer OUT [HOST:PORT PROCESSES PROCESS]`.

Leaves what it found as arrays in OUT/PROCESS.npz, and the refusals it met in OUT/PROCESS.json.
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


def main(out: str, coordinator: str | None = None, number: str | None = None, process: str | None = None) -> None:
    given = (coordinator, number and int(number), process and int(process))
    with multihost.joined(*given):
        found = trained() | chains(Path(out))
        np.savez(Path(out) / f"{jax.process_index()}.npz", **found)
        if coordinator:
            (Path(out) / f"{jax.process_index()}.json").write_text(json.dumps(refusals()))


def rows(num: int) -> np.ndarray:
    return np.random.default_rng(num).integers(0, 2, (num, 2, 2)).astype(np.float32)


def experiment(**training):
    import dgmzoo
    from dgmzoo.layers.networks.mlp import MLP
    from dgmzoo.zoo.vae.vae import VAE

    settings = {"steps": 12, "batch_size": 16, "learning_rate": 0.1, "checkpoint_seconds": 0.0} | training
    return dgmzoo.Experiment(
        model=VAE(2, encoder=MLP((16,)), decoder=MLP((16,))),
        data=dgmzoo.from_arrays(rows(64), rows(30), rows(217)),
        training=dgmzoo.Training(**settings),
        evaluation=dgmzoo.Evaluation(num_samples=60),
    )


def flat(tree, prefix: str) -> dict[str, np.ndarray]:
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def trained() -> dict[str, np.ndarray]:
    """Parameters, readings and result after Adam."""
    import dgmzoo

    run = dgmzoo.train(experiment(ema=0.9, accumulate=2), progress=False)
    losses = [[row["step"], row["loss"]] for row in run.metrics]
    result = [run.record[name] for name in ("value", "monte_carlo_error", "train_value")]
    return flat(run.variables, "adam") | {"losses": np.array(losses), "result": np.array(result)}


class Patient:
    """A watcher; in the last process alone it asks to stop at a step."""

    def __init__(self, until: int):
        self.at, self.until = 0, until

    def begin(self, step, total): ...
    def write(self, row): ...
    def progress(self, step, total, latest):
        self.at = step

    def should_stop(self):
        return self.at >= self.until and jax.process_index() == jax.process_count() - 1


def chains(out: Path) -> dict[str, np.ndarray]:
    """A state with chains on each device, all of it as on disk after SGD, in which no factor of the gradient hides.

    Rows come from the host; one process stops, and all go on.
    """
    import dgmzoo
    from dgmzoo import data
    from dgmzoo.config.preflight import bind
    from dgmzoo.training.loop import Interrupted, _Loop, fit
    from dgmzoo.training.run_directory import RunDirectory
    from dgmzoo.training.seed_tracker import SeedTracker
    from tests.support import probes

    exp = experiment(steps_per_dispatch=1, optimizer="sgd", stream=True)
    exp = dataclasses.replace(exp, model=probes.BoltzmannPrior(shape=(2, 2, 1)), objective=probes.Enumeration())
    dataset = data.load_dataset(exp.data)
    model = dgmzoo.functional(bind(exp.model, dataset))
    folder = RunDirectory(out / "chains")
    kept = tuple(multihost.SharedCheckpoints(each) for each in (folder.latest, folder.best))
    stopped = np.array(0)
    try:
        fit(exp, model, dataset, 0, Patient(5), kept)
    except Interrupted as error:
        stopped = np.array(error.step)
    fit(exp, model, dataset, 0, Patient(10**9), kept)
    run = _Loop(exp, model, dataset, [SeedTracker("", 0, None, kept)], None)
    state = run.trackers[0].restore(run.template()).tree
    state = state._replace(key=jax.random.key_data(state.key))
    return flat(state, "chains") | {"stopped": stopped}


def no_number(evidence, batch):
    """NaN for the rows that are all ones; with seed 14 the first batch has them in process 1's share alone."""
    return jnp.where(batch["x"].all((1, 2, 3)), jnp.nan, 0.0)


def refusals() -> dict[str, str]:
    """What processes together do not do."""
    import dgmzoo

    first = multihost.is_first()
    asked = {
        "batch": lambda: dgmzoo.train(experiment(batch_size=18), progress=False),
        "seeds": lambda: dgmzoo.train(experiment(), progress=False, seeds=[0, 1]),
        "differ": lambda: dgmzoo.train(experiment(learning_rate=0.1 if first else 0.2), progress=False),
        "one": lambda: dgmzoo.train(experiment(), seed=0, run_dir=None if not first else __file__, progress=False),
        "nan": lambda: dgmzoo.train(
            dataclasses.replace(experiment(), terms={"bad": no_number}), seed=14, progress=False
        ),
        "file": lambda: dgmzoo.train(experiment(), seed=0, run_dir=__file__ if first else "peer-never", progress=False),
    }
    told = {}
    for name, ask in asked.items():
        try:
            ask()
        except (ValueError, ArithmeticError) as error:
            told[name] = str(error)
    return told


if __name__ == "__main__":
    signal.alarm(600)  # whoever started it may be gone
    main(*sys.argv[1:])
