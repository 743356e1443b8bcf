"""The command `dgmzoo check`: run the property tests on the model of an experiment."""

import argparse
import functools

from dgmzoo.command.output import console, keep_programs

_STYLE = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def check(words: list[str]) -> int:
    """Test the entry of an experiment, at a small shape where its networks allow one. Exit status 1 if a law failed."""
    parser = argparse.ArgumentParser(
        prog="dgmzoo check",
        description="Test that the entry of an experiment keeps the contract and that its density is a density: shapes, "
        "given samples, total mass, samples, masks, gradients. The entry is tested at a small shape, with rows of the "
        "same kind, where its networks allow one; otherwise on the first rows of the data.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="an experiment, or the path of a file that defines `experiment`")
    parser.add_argument("--only", metavar="LAW,LAW", help="test these laws only")
    parser.add_argument("--full-shape", action="store_true", help="keep the shape of the data")
    options = parser.parse_args(words)
    keep_programs()
    from rich.table import Table

    from dgmzoo import data, testing
    from dgmzoo.config.experiment import load_experiment
    from dgmzoo.config.layer_check import compatible
    from dgmzoo.config.preflight import bind, trace
    from dgmzoo.testing.small import Small, small

    experiment = load_experiment(options.name)
    dataset = data.load_dataset(experiment.data)
    on_data = functools.partial(trace, experiment, dataset)
    module, _ = compatible(bind(experiment.model, dataset), experiment.objective, on_data)
    rows = dataset.evaluation_rows("train", 16)
    if options.full_shape:
        chosen = Small(module, rows, dataset.shape, "as requested")
    else:
        chosen = small(module, rows)
    only = None if options.only is None else [law.strip() for law in options.only.split(",")]
    report = testing.check(chosen.module, chosen.batch, objective=experiment.objective, only=only, raises=False)

    out = console()
    note = f" ({chosen.note})" if chosen.note else ""
    out.print(f"{options.name}: {report.name} at shape {chosen.shape}{note}", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("law", "outcome", "detail"):
        table.add_column(column, no_wrap=column != "detail", overflow="fold")
    for outcome in report.outcomes:
        table.add_row(outcome.law, f"[{_STYLE[outcome.status]}]{outcome.status}[/]", _escaped(outcome.detail))
    out.print(table, highlight=False)
    for line in report.unproved:
        out.print(line, highlight=False, markup=False)
    return 1 if report.failed else 0


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
