"""How fast this machine trains and measures, as ratios of times taken in turns within one run.

    python -m tests.tools.speed                            the products alone, eight seeds, convolutions
    python -m tests.tools.speed --peer "COMMAND" [...]     an epoch of vae/mnist_peers over one of another program's

A peer's command prints `epoch SECONDS` or `epoch NUMBER SECONDS` for each epoch, or `epochs [SECONDS, ...]`; the first
epoch compiles and is left out. Run it while nothing else runs; ratios are medians over `--pairs` (7).
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
from dgmzoo.layers.networks.convolutional import ConvDecoder, ConvEncoder
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.training.benchmark import bench
from dgmzoo.zoo.vae.vae import VAE


def products(pairs: int) -> dict[str, list[float]]:
    """What the matrix products alone take, of a training step and of an importance-weighted evaluation."""
    found = [bench(dgmzoo.experiment("vae/mnist_peers"), 2) for _ in range(pairs)]
    return {
        "training step / its products": [1 / each["matmul_share"] for each in found],
        "importance-weighted evaluation / its products": [1 / each["iw_matmul_share"] for each in found],
    }


def seeds(pairs: int) -> dict[str, list[float]]:
    """Eight seeds in one program against eight runs, by the median epoch."""
    found = {}
    for name, epochs in (("vae/digits", 20), ("vae/mnist_peers", 3)):
        exp = dgmzoo.experiment(name, {"training.epochs": epochs, "evaluation.num_samples": 1})

        def epoch(exp=exp, **how) -> float:
            runs = dgmzoo.train(exp, progress=False, **how)
            run = runs[0] if isinstance(runs, list) else runs
            return _median_epoch([row["seconds"] for row in run.metrics if row["split"] == "train"])

        found[f"{name}: eight seeds / eight runs"] = [epoch(seeds=range(8)) / (8 * epoch()) for _ in range(pairs)]
    return found


def convolutions(pairs: int) -> dict[str, list[float]]:
    """A convolutional VAE against the same net in a plain jitted loop."""
    x = data.load(data.Data("digits", encoding="gray"), print, None).splits["train"]["x"]
    x = np.tile(x, (1, 3, 3, 1))[:1000]
    net = VAE(latent_dim=16, encoder=ConvEncoder((24, 24, 1), (16, 32)), decoder=ConvDecoder((24, 24, 1), (32, 16)))
    exp = dgmzoo.Experiment(
        model=net,
        data=dgmzoo.from_arrays(x, x[:100], x[:100], encoding="dynamic"),
        training=dgmzoo.Training(epochs=4, batch_size=100, validate_epochs=4),
        evaluation=dgmzoo.Evaluation(num_samples=1),
    )
    dataset = data.load(exp.data, print, None)
    model, optimizer = functional(bind(net, dataset)), optax.adam(1e-3)
    rows = jnp.asarray(dataset.splits["train"]["x"])
    first = dataset.observe(jax.random.key(0), {"x": rows[:2]})

    @jax.jit
    def step(params, state, index, key):
        batch = dataset.observe(key, {"x": rows[index]})

        def loss(params):
            return ELBO()(model, {"params": params}, batch, key, jnp.int32(0), len(rows))[0]

        change, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, change), state

    def plain() -> float:
        params = model.init(jax.random.key(0), first)["params"]
        state, seconds = optimizer.init(params), []
        for epoch in range(4):
            start = time.perf_counter()
            for i, index in enumerate(np.random.default_rng(epoch).permutation(len(rows)).reshape(-1, 100)):
                params, state = step(params, state, index, jax.random.key(i))
            jax.block_until_ready(params)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    def ours() -> float:
        short = dgmzoo.train(exp, progress=False)
        return _median_epoch([row["seconds"] for row in short.metrics if row["split"] == "train"])

    return {"convolutional VAE / a plain loop": [ours() / plain() for _ in range(pairs)]}


def epochs_told(said: str) -> list[float]:
    """Seconds of each epoch, from what a peer printed."""
    listed = ", ".join(re.findall(r"epochs?\s+\[([^]]*)\]", said))
    found = [float(each) for each in listed.split(",")] if listed else []
    found += [float(each) for each in re.findall(r"epoch\s+(?:\d+\s+)?(\d+(?:\.\d+)?)\b", said)]
    if not found:
        raise ValueError(f"expected a command that prints `epoch SECONDS`, got {said[-500:]!r}")
    return found


def peer(command: str) -> Callable[[int], dict[str, list[float]]]:
    """An epoch of `vae/mnist_peers` against one of another program."""

    def against(pairs: int) -> dict[str, list[float]]:
        ratios = []
        for _ in range(pairs):
            ours = bench(dgmzoo.experiment("vae/mnist_peers"), 3)["seconds_per_epoch"]
            said = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
            theirs = epochs_told(said)
            ratios.append(ours / statistics.median(theirs[1:] or theirs))
        return {f"an epoch / {command}": ratios}

    return against


def _median_epoch(passed: list[float]) -> float:
    """Of the seconds passed at the end of each epoch; the first compiles."""
    return statistics.median(np.diff(passed))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", action="append", default=[], metavar="COMMAND")
    parser.add_argument("--pairs", type=int, default=7)
    asked = parser.parse_args()
    table = Table("ratio of times", "median", "least", "most", box=None, pad_edge=False)
    for measure in [peer(command) for command in asked.peer] or (products, seeds, convolutions):
        for name, ratios in measure(asked.pairs).items():
            table.add_row(name, *(f"{f(ratios):.2f}" for f in (statistics.median, min, max)))
    Console().print(table)
    print(f"load at the end: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores; {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    main()
