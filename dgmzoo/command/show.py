"""`dgmzoo show`: describe an experiment, its published figures with the command that makes each, and its records."""

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgmzoo import experiments


def show(words: list[str]) -> int:
    """Print the description of an experiment, its settings, its published figures and its committed records."""
    if len(words) != 1 or words[0].startswith("-"):
        raise ValueError(f"expected the name of one experiment after show, got {' '.join(words) or 'nothing'}")
    name = words[0]
    from dgmzoo.config.experiment import load_experiment
    from dgmzoo.config.overrides import flatten
    from dgmzoo.evaluation.results import format_value, load_records

    experiment = load_experiment(name)
    parts = [f"{name}\n\n{_docstring(name)}"]
    entry = type(experiment.model)
    parts.append(f"model: {entry.__name__} ({entry.__module__})\n{inspect.getdoc(entry).partition(chr(10) * 2)[0]}")
    parts.append(
        "settings\n" + "\n".join(f"  --{_option(path)} {_text(value)}" for path, value in flatten(experiment).items())
    )
    rows = [
        f"  {paper.value}  {paper.source}; {paper.protocol}"
        + (f"; {paper.steps:,} steps" if paper.steps else "")
        + f"\n      {command(name, paper.when)}"
        for paper in experiment.papers
    ]
    parts.append("published figures, nats an example\n" + "\n".join(rows or ["  none"]))
    records = [record for record in load_records() if record["experiment"] == name]
    ours = [
        f"  {format_value(record)}  {record['steps']:,} steps, seed {record['seed']}, {record['device']}"
        f"\n      {command(name, record['overrides'])}"
        for record in records
    ]
    parts.append("committed records, nats an example\n" + "\n".join(ours or ["  none"]))
    print("\n\n".join(parts))
    return 0


def command(name: str, overrides: Mapping[str, Any]) -> str:
    """The command that trains an experiment with some overrides.

    >>> command("vae/digits", {"model.latent_dim": 5, "model.encoder.hidden": (64, 32)})
    'dgmzoo train vae/digits --model.latent-dim 5 --model.encoder.hidden 64 32'
    """
    return " ".join(
        [f"dgmzoo train {name}", *(f"--{_option(path)} {_text(value)}" for path, value in overrides.items())]
    )


def _docstring(name: str) -> str:
    """The docstring of an experiment's file."""
    path = Path(name) if name.endswith(".py") else experiments.path(name)
    return ast.get_docstring(ast.parse(path.read_text())) or "no description"


def _option(path: str) -> str:
    return path.replace("_", "-")


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
