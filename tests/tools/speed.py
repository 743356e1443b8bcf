"""Speed of training and evaluation on this machine, as ratios of times that are taken in turns within one run.

    python -m tests.tools.speed                            over matrix products alone; eight seeds; convolutions
    python -m tests.tools.speed --peer "COMMAND" [...]     an epoch of vae/mnist_peers over one of another program

A peer's command prints `epoch SECONDS` or `epoch NUMBER SECONDS` for each epoch, or `epochs [SECONDS, ...]`; the first
epoch compiles and is left out. Run it on an idle machine; each ratio is measured `--pairs` times (7 by default).
"""

import argparse
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import dgmzoo
from dgmzoo import data
from dgmzoo.config.preflight import bind
from dgmzoo.evaluation.log_likelihood import examples_per_batch
from dgmzoo.layers.networks.convolutional import ConvDecoder, ConvEncoder
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.training.benchmark import bench
from dgmzoo.zoo.vae.vae import VAE
from tests.tools.products import evaluation_ratio, products_of_step, seconds_of_products


def compare_with_products(pairs: int) -> dict[str, list[float]]:
    """A training step, and an importance-weighted evaluation, over their matrix products alone."""
    experiment = dgmzoo.experiment("vae/mnist_peers", {"training.epochs": 1, "evaluation.num_samples": 1})
    run = dgmzoo.train(experiment, progress=False)
    products = products_of_step(experiment, run.model, run.dataset)
    rows = run.dataset.evaluation_rows("test", max(100, examples_per_batch(50)))
    training, evaluation = [], []
    for _ in range(pairs):
        step = 1 / bench(experiment, 2)["steps_per_second"]
        training.append(step / seconds_of_products(products, repeats=200))
        evaluation.append(evaluation_ratio(run.model, run.variables, rows))
    return {
        "training step / its products": training,
        "importance-weighted evaluation / its products": evaluation,
    }


def compare_seeds(pairs: int) -> dict[str, list[float]]:
    """Eight seeds in one program over eight runs, by the median epoch."""
    ratios = {}
    for name, epochs in (("vae/digits", 20), ("vae/mnist_peers", 3)):
        experiment = dgmzoo.experiment(name, {"training.epochs": epochs, "evaluation.num_samples": 1})

        def epoch(experiment=experiment, **seeds) -> float:
            runs = dgmzoo.train(experiment, progress=False, **seeds)
            run = runs[0] if isinstance(runs, list) else runs
            return _median_epoch(run)

        ratios[f"{name}: eight seeds / eight runs"] = [epoch(seeds=range(8)) / (8 * epoch()) for _ in range(pairs)]
    return ratios


def compare_convolutions(pairs: int) -> dict[str, list[float]]:
    """A convolutional VAE over the same network in a plain jitted loop."""
    x = data.load_dataset(data.Data("digits", encoding="gray"), print, None).splits["train"]["x"]
    x = np.tile(x, (1, 3, 3, 1))[:1000]
    vae = VAE(latent_dim=16, encoder=ConvEncoder((24, 24, 1), (16, 32)), decoder=ConvDecoder((24, 24, 1), (32, 16)))
    experiment = dgmzoo.Experiment(
        model=vae,
        data=dgmzoo.from_arrays(x, x[:100], x[:100], encoding="dynamic"),
        training=dgmzoo.Training(epochs=4, batch_size=100, validate_epochs=4),
        evaluation=dgmzoo.Evaluation(num_samples=1),
    )
    dataset = data.load_dataset(experiment.data, print, None)
    model, optimizer = functional(bind(vae, dataset)), optax.adam(1e-3)
    rows = jnp.asarray(dataset.splits["train"]["x"])
    init_batch = dataset.observe(jax.random.key(0), {"x": rows[:2]})

    @jax.jit
    def step(params, state, index, key):
        batch = dataset.observe(key, {"x": rows[index]})

        def loss(params):
            return ELBO()(model, {"params": params}, batch, key, jnp.int32(0), len(rows))[0]

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    def plain_epoch() -> float:
        params = model.init(jax.random.key(0), init_batch)["params"]
        state, seconds = optimizer.init(params), []
        for epoch in range(4):
            start = time.perf_counter()
            for i, index in enumerate(np.random.default_rng(epoch).permutation(len(rows)).reshape(-1, 100)):
                params, state = step(params, state, index, jax.random.key(i))
            jax.block_until_ready(params)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    def epoch() -> float:
        return _median_epoch(dgmzoo.train(experiment, progress=False))

    return {"convolutional VAE / a plain loop": [epoch() / plain_epoch() for _ in range(pairs)]}


def parse_epochs(output: str) -> list[float]:
    """Seconds of each epoch, from the output of a peer.

    >>> parse_epochs("epoch 1 9.5\\nepoch 2 3.25")
    [9.5, 3.25]
    """
    lists = ", ".join(re.findall(r"epochs?\s+\[([^]]*)\]", output))
    seconds = [float(text) for text in lists.split(",")] if lists else []
    seconds += [float(text) for text in re.findall(r"epoch\s+(?:\d+\s+)?(\d+(?:\.\d+)?)\b", output)]
    if not seconds:
        raise ValueError(f"expected a command that prints `epoch SECONDS`, got {output[-500:]!r}")
    return seconds


def compare_with_peer(command: str) -> Callable[[int], dict[str, list[float]]]:
    """A function that compares an epoch of `vae/mnist_peers` with one of another program."""

    def compare(pairs: int) -> dict[str, list[float]]:
        ratios = []
        for _ in range(pairs):
            own = bench(dgmzoo.experiment("vae/mnist_peers"), 3)["seconds_per_epoch"]
            output = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
            seconds = parse_epochs(output)
            ratios.append(own / statistics.median(seconds[1:] or seconds))
        return {f"an epoch / {command}": ratios}

    return compare


def _median_epoch(run: dgmzoo.Run) -> float:
    """Seconds of an epoch, without the first one, which compiles."""
    return statistics.median(np.diff([row["seconds"] for row in run.metrics if row["split"] == "train"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], metavar="COMMAND", help="command of another program")
    parser.add_argument("--pairs", type=int, default=7, help="measurements of each ratio")
    options = parser.parse_args()
    peers = [compare_with_peer(command) for command in options.peer]
    table = Table("ratio of times", "median", "least", "most", box=None, pad_edge=False)
    for compare in peers or (compare_with_products, compare_seeds, compare_convolutions):
        for name, ratios in compare(options.pairs).items():
            table.add_row(name, *(f"{statistic(ratios):.2f}" for statistic in (statistics.median, min, max)))
    Console().print(table)
    print(f"load at the end: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores; {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    main()
