"""Variants of an experiment side by side: the differences over paired seeds, as a table."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Record = Mapping[str, Any]  # of one variant and seed, flat
_COLUMNS, _HEAD = 80, 18  # of a terminal, and of a variant's name before it is broken


class Measure(NamedTuple):
    """A row of the table: what is measured, and how it is to be read."""

    key: str  # in the records; "kl/" stands for that of every layer
    title: str
    better: str  # "lower" | "higher" | "" where neither is
    digits: int
    meaning: str
    bound: bool = False  # whether figures under different bounds must not be held against each other
    paired: bool = True  # whether differences over seeds say anything


MEASURES = (
    Measure("nll", "-log p(x)", "lower", 2, "negative log-likelihood, {bound}", True),
    Measure("elbo", "ELBO", "higher", 2, "evidence lower bound of the test split"),
    Measure("gap", "train-test gap", "lower", 2, "-log p(x) of the test split less that of training rows", True),
    Measure("kl", "KL", "", 2, "mean KL(q(z | x) || p(z))"),
    Measure("kl/", "KL of", "", 2, "of one layer, given the layers above"),
    Measure(
        "mutual_information",
        "I(x; z)",
        "",
        2,
        "mutual information under q: mean KL(q(z | x) || p) less KL(aggregate q || p), by one sample for each row under "
        "the aggregate of all rows, which sees at most {most:.2f} nats (log {num_aggregate}); more may be there",
    ),
    Measure(
        "active_units/", "active units", "", 1, "units whose posterior mean has variance above 0.01 over x (Burda)"
    ),
    Measure(
        "sparsity/",
        "sparsity",
        "",
        3,
        "Hoyer's measure of a sampled code, units scaled to one standard deviation: 0 dense, 1 one unit alone; "
        "a normal code has 0.34 with 2 units, 0.25 with 20, toward 0.20 with many",
    ),
    Measure("reconstruction", "log p(x | z)", "higher", 2, "z drawn from q(z | x)"),
    Measure(
        "robustness",
        "log p(x | z flipped)",
        "higher",
        2,
        "of the clean x, z drawn from q(z | x with 10 % of its pixels flipped)",
    ),
    Measure("seconds", "seconds", "", 0, "of training, all seeds that were trained together", paired=False),
)


class Cell(NamedTuple):
    """One figure of one variant, over seeds."""

    mean: float
    error: float  # standard error over seeds: of the mean for the first variant, else of the difference; NaN for one
    difference: float | None  # to the first variant, seed by seed; None for the first, or where they do not compare


class Line(NamedTuple):
    """One measure of all variants."""

    measure: Measure
    title: str
    cells: list[Cell | None]  # None where it has no meaning

    def parts(self) -> list[tuple[str, str]]:
        """`103.90 ± 0.12` and nothing for the first variant, `105.10` and `+1.20 ± 0.15` for the others."""
        digits, found = self.measure.digits, []
        for i, cell in enumerate(self.cells):
            if cell is None:
                found.append(("–", ""))
                continue
            error = "–" if math.isnan(cell.error) else f"{cell.error:.{digits}f}"
            mean, difference = f"{cell.mean:.{digits}f}", ""
            if i == 0 and self.measure.paired:
                mean += f" ± {error}"
            elif cell.difference is not None:
                difference = f"{cell.difference:+.{digits}f} ± {error}"
            found.append((mean, difference))
        return found

    def words(self) -> list[str]:
        """Both in one line: `105.10 (+1.20 ± 0.15)`."""
        return [f"{mean} ({difference})" if difference else mean for mean, difference in self.parts()]


def lines(records: Sequence[Record]) -> list[Line]:
    """The table's lines, in order; those in which no variant has a figure are left out."""
    variants = list(dict.fromkeys(record["variant"] for record in records))
    rows = {variant: {r["seed"]: r for r in records if r["variant"] == variant} for variant in variants}
    found = []
    for measure in MEASURES:
        keys = sorted({key for record in records for key in record if _matches(key, measure.key)})
        for key in keys:
            layers = len(keys) > 1 and measure.key.endswith("/")
            title = f"{measure.title} {key.partition('/')[2]}" if layers else measure.title
            cells = [_cell(key, measure, rows[variant], rows[variants[0]]) for variant in variants]
            if any(cells):
                found.append(Line(measure, title, cells))
    if sum(line.measure.key == "kl/" for line in found) < 2:  # one layer's KL is the whole
        found = [line for line in found if line.measure.key != "kl/"]
    return found


def _matches(key: str, pattern: str) -> bool:
    return key.startswith(pattern) if pattern.endswith("/") else key == pattern


def _cell(key: str, measure: Measure, own: Mapping[int, Record], first: Mapping[int, Record]) -> Cell | None:
    values = {seed: record.get(key) for seed, record in own.items()}
    if any(value is None for value in values.values()):
        return None
    values = {seed: float(value) for seed, value in values.items()}
    mean = float(np.mean(list(values.values())))
    if own is first or not measure.paired:
        return Cell(mean, _standard_error(list(values.values())), None)
    pairs = [(values[seed], first[seed].get(key), own[seed], first[seed]) for seed in values if seed in first]
    same = all(_bound(a) == _bound(b) for _, _, a, b in pairs) or not measure.bound
    if not pairs or not same or any(other is None for _, other, _, _ in pairs):
        return Cell(mean, math.nan, None)
    differences = [value - other for value, other, _, _ in pairs]
    return Cell(mean, _standard_error(differences), float(np.mean(differences)))


def _bound(record: Record) -> tuple:
    return record["bound"], record["num_samples"]


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def notes(records: Sequence[Record], shown: Sequence[Line]) -> list[str]:
    """What a reader must know of the table."""
    seeds = sorted({record["seed"] for record in records})
    corrected = dict.fromkeys((r["variant"], r["corrections"]) for r in records if r.get("corrections"))
    facts = [
        *(f"{variant}: {words}" for variant, words in corrected),
        f"{records[0]['dataset']}, {records[0]['num_examples']} rows of the {records[0]['split']} split, nats per example; "
        f"mean over seeds {', '.join(map(str, seeds))}",
        "first variant: mean ± standard error over seeds; others: mean, and difference to the first ± its standard error over "
        "paired seeds (which share initial keys, order and data); no error of a single seed, and none over test examples; "
        "– where a figure has no meaning: without a prior a code has no bound, no unit of length and no zero",
    ]
    bounds: dict[str, list[str]] = {}
    for record in records:
        named = bounds.setdefault(_named_bound(record), [])
        named += [record["variant"]] * (record["variant"] not in named)
    apart = [f"{bound} ({', '.join(named)})" for bound, named in bounds.items()]
    fill = {"bound": "; ".join(apart if len(apart) > 1 else bounds)}
    known = next((r for r in records if r.get("mutual_information_most") is not None), None)
    fill |= {"most": known["mutual_information_most"], "num_aggregate": known["num_aggregate"]} if known else {}
    for measure in dict.fromkeys(line.measure for line in shown):
        arrow = f" ({measure.better} is better)" if measure.better else ""
        facts.append(f"{measure.title}{arrow}: {measure.meaning.format(**fill)}")
    return facts


def _named_bound(record: Record) -> str:
    bound, num = record["bound"], record["num_samples"]
    names = {"exact": "exact", "iw": f"importance-weighted with {num} samples", "elbo": "negative ELBO"}
    draws = record.get("weight_draws")
    how = f"over {draws} draws of the weights" if draws else "at mean weights"
    names |= {None: "no bound", "predictive": f"predictive, {how}, which is no bound"}
    return names[bound]


def html_table(records: Sequence[Record], said: Sequence[str]) -> str:
    """The table as HTML, and below it what is said of it."""
    shown = lines(records)
    variants = list(dict.fromkeys(record["variant"] for record in records))
    head = "".join(f"<th>{html.escape(variant)}</th>" for variant in variants)
    body = ""
    for line in shown:
        body += (
            f"<tr><td>{html.escape(line.title)}</td>" + "".join(f"<td>{each}</td>" for each in line.words()) + "</tr>"
        )
    items = "".join(f"<li>{html.escape(note)}</li>" for note in said)
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table><ul class=notes>{items}</ul>"


def rich_table(records: Sequence[Record], title: str) -> Any:
    """The table for a terminal: figures above their differences, and as many variants side by side as 80 columns hold."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown = lines(records)
    parts = [line.parts() for line in shown]
    tables, room = [], 0
    for i, variant in enumerate(dict.fromkeys(record["variant"] for record in records)):
        width = 1 + max(map(len, [variant[:_HEAD], *(part for row in parts for part in row[i])]))
        if width > room:
            tables.append([])
            room = _COLUMNS - max((len(line.title) for line in shown), default=0)
        tables[-1].append((i, variant, width))
        room -= width
    shown_tables = []
    for columns in tables:
        table = Table(title=None if shown_tables else title, box=None, pad_edge=False, padding=(0, 0, 0, 1))
        table.add_column("", no_wrap=True)
        for _, variant, width in columns:
            table.add_column(Text(variant), justify="right", overflow="fold", min_width=width - 1)
        for line, row in zip(shown, parts, strict=True):
            table.add_row(line.title, *("\n".join(filter(None, row[i])) for i, _, _ in columns))
        shown_tables += ["", table] if shown_tables else [table]
    return Group(*shown_tables)
