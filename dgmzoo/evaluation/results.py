"""`load_records`: load the stored results of experiments; `markdown_page`: write results as a Markdown page."""

import json
from collections.abc import Sequence
from typing import Any

from dgmzoo import experiments

SCHEMA = 2
"""Of a record. Schema 1 had other rules: subsets were the first rows, Monte Carlo errors were given wherever computed."""
COLUMNS = ("experiment", "overrides", "data", "steps", "-log p(x), nats", "estimate", "published", "seed", "commit")
INTRODUCTION = """\
# Results

Each row is a record beside this page, with the digest of the data, the seed, the versions and the device. Values are
negative log-likelihoods of the test split in nats per example with their standard error over examples (and the Monte
Carlo error of the estimate); lower is better. A published value belongs to the same model, objective, data and estimate.
In brackets: our number of steps divided by the paper's, regardless of batch sizes. "stale": made by the rules of before
version 0.3, whose subsets were the first rows and whose Monte Carlo errors are too small where few samples carry the
weight; the value stands, and the row awaits another run. `dgmzoo results --markdown` prints this page. Comparisons of variational layers over paired seeds, with conclusions, are in [comparisons](comparisons).
"""


def load_records() -> list[dict[str, Any]]:
    """Load all records, sorted by experiment and value.

    Raises:
      ValueError: a file is not a record.
    """
    records = []
    for path in experiments.records():
        try:
            record = json.loads(path.read_text())
            records.append((record["experiment"], record["value"], record))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"expected the record of a result in {path}, got {type(error).__name__}: {error}"
            ) from error
    return [record for *_, record in sorted(records, key=lambda entry: entry[:2])]


def format_value(record: dict[str, Any]) -> str:
    """Value and standard error of a record.

    >>> format_value({"value": 86.431, "standard_error": 0.23})
    '86.43 ± 0.23'
    """
    return f"{record['value']:.2f} ± {record['standard_error']:.2f}"


def table_row(record: dict[str, Any]) -> tuple[str, ...]:
    """Cells of a record in the order of `COLUMNS`.

    >>> table_row(load_records()[0])[0].split("/")[0] in ("vae", "dvae", "ddnn")
    True
    """
    paper = record["paper"]
    changes = " ".join(f"{path}={value}" for path, value in record["overrides"].items())
    if paper is not None and paper.get("differences"):
        paper = None  # of another protocol
    stale = ", stale" if record["schema"] < SCHEMA else ""
    kinds = {"exact": "exact", "iw": f"IW-{record['num_samples']}", "elbo": "ELBO", "predictive": "predictive"}
    error = record["monte_carlo_error"]
    return (
        record["experiment"],
        changes or "-",
        f"{record['dataset']}, {record['encoding'] or 'as it is'}",
        f"{record['steps']:,}",
        format_value(record) + (f" (MC {error:.3f})" if error else ""),
        kinds.get(record["bound"], "-") + stale,
        "-" if paper is None else f"{paper['value']}" + (f" [{paper['budget']:.2g}]" if paper["budget"] else ""),
        str(record["seed"]),
        (record["commit"] or "-")[:7],
    )


def markdown_page(records: Sequence[dict[str, Any]]) -> str:
    """The Markdown page of the given records."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(table_row, records)]
    return INTRODUCTION + "\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
