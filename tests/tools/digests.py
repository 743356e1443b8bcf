"""Digests of what every kind of entry trains to, to compare one commit with another on the same machine.

    python tests/tools/digests.py > ../after.txt        # from the root of the checkout, in its virtual environment
    cd ../parent && .venv/bin/python ../clone/tests/tools/digests.py > ../before.txt && diff ../before.txt ../after.txt

Each entry is trained for 50 steps on scikit-learn's digits: on one device, on two devices, and with two seeds in one
program. A line holds the digests of its parameters, of its metrics, and of its evaluation. The digests depend on the
processor and on the versions of JAX and XLA, so they are no part of the test suite.
"""

import argparse
import hashlib
import os
import sys
from typing import Any

STEPS = {"training.steps": 50, "evaluation.num_samples": 20, "evaluation.num_examples": 200}
MLPS = {"model.encoder.hidden": (30,), "model.decoder.hidden": (30,), "model.latent_dim": 5}

# Entry -> names of its experiment (the newest first) and the overrides that make it small.
ENTRIES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "vae": (("vae/digits",), MLPS),
    "vae-horseshoe": (("vae/digits",), {**MLPS, "model.latent": "horseshoe"}),
    "vae-rectified": (("vae/digits",), {**MLPS, "model.latent": "rectified"}),
    "vae-piecewise": (("vae/digits",), {**MLPS, "model.latent": "piecewise"}),
    "vae-spherical": (("vae/digits",), {**MLPS, "model.latent": "spherical"}),
    "vae-iwae": (("vae/digits",), {**MLPS, "objective": "iwae", "objective.num_samples": 5}),
    "vae-bayes": (("vae/digits_bayes",), MLPS),
    "vae-conv": (
        ("vae/fashion_mnist_conv",),
        {
            "data.name": "digits",
            "data.num_validation": 100,
            "model.encoder.shape": (8, 8, 1),
            "model.decoder.shape": (8, 8, 1),
            "model.likelihood.levels": 17,
        },
    ),
    "hierarchical-vae": (
        ("vae/mnist_hierarchical_vae", "vae/mnist_iwae_2l"),
        {"data.name": "digits", "objective": "dreg", "model.latent_dims": (6, 3), "model.hidden": (20, 10)},
    ),
    "sigmoid-belief-network": (
        ("dvae/digits_sigmoid_belief_network", "dvae/digits_nvil"),
        {"model.latent_dims": (8, 4)},
    ),
    "made": (("ddnn/digits_made",), {"model.hidden": (40,)}),
    "made-bayes": (("ddnn/digits_made_bayes",), {"model.hidden": (40,)}),
    "regression": (("ddnn/toy_sparse_linear_regression", "ddnn/sparse_regression"), {}),
}
WAYS = {"one device": (1, (0,)), "two devices": (2, (0,)), "two seeds": (1, (0, 1))}


def digest(values: Any) -> str:
    """The first 12 digits of the sha256 of arrays or numbers, in the order in which they stand."""
    import jax
    import numpy as np

    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(values):
        sha.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return sha.hexdigest()[:12]


def experiment(names: tuple[str, ...], changes: dict[str, Any]):
    """The first experiment of these names that the checkout has."""
    import dgmzoo
    from dgmzoo import experiments

    made = dgmzoo.experiment(next(name for name in names if name in experiments.names()))
    if not hasattr(made.model, "likelihood"):  # version 0.1 called it so
        changes = {path.replace("model.likelihood", "model.output"): value for path, value in changes.items()}
    return dgmzoo.experiment(made.name, STEPS | changes)


def measure(entry: str, way: str) -> list[str]:
    """A line of digests for each seed."""
    import dgmzoo

    _, seeds = WAYS[way]
    runs = dgmzoo.train(experiment(*ENTRIES[entry]), seeds=seeds, progress=False)
    lines = []
    for run in runs:
        names = ("step", "loss", "elbo", "grad_norm")
        metrics = [[row[name] for name in names if name in row] for row in run.metrics]
        evaluation = [run.record["value"], run.record["standard_error"], run.record["monte_carlo_error"] or 0.0]
        found = " ".join(digest(part) for part in (run.variables, metrics, evaluation))
        lines.append(f"{entry:24}{way:14}seed {run.seed}  {found}  {run.record['value']:.6f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", help="comma-separated; all by default")
    parser.add_argument("--way", choices=WAYS, help="measure in this process (used by the program itself)")
    options = parser.parse_args()
    entries = options.entries.split(",") if options.entries else list(ENTRIES)
    if options.way is None:  # each number of devices needs a process of its own
        import subprocess

        for way, (devices, _) in WAYS.items():
            flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
            line = [sys.executable, __file__, "--way", way, "--entries", ",".join(entries)]
            environment = {"PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "ignore", "JAX_PLATFORMS": "cpu"}
            environment |= {"DGMZOO_TRACEBACK": "1", "XLA_FLAGS": flags}
            subprocess.run(line, env=os.environ | environment, check=True)
        return
    for entry in entries:
        print(*measure(entry, options.way), sep="\n", flush=True)


if __name__ == "__main__":
    main()
