"""`html_table`: the table that compares the variants, as HTML; `rich_table`: the same table for the terminal."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Record = Mapping[str, Any]  # flat record of one variant and seed
_TERMINAL_WIDTH, _NAME_WIDTH = 80, 18  # characters; longer names of variants are broken into lines


class Measure(NamedTuple):
    """A row of the table, with the text that explains it."""

    key: str  # in the records; a key that ends in "/" stands for one row per layer
    title: str
    better: str  # "lower" | "higher" | "" if neither is better
    digits: int
    meaning: str
    bound: bool = False  # values under different bounds must not be compared
    paired: bool = True  # differences over paired seeds are shown


MEASURES = (
    Measure("nll", "-log p(x)", "lower", 2, "negative log-likelihood, {bound}", True),
    Measure(
        "effective_samples",
        "effective samples",
        "higher",
        0,
        "of the importance samples of an example, median; below 10 the value is a loose bound",
        True,
    ),
    Measure("elbo", "ELBO", "higher", 2, "evidence lower bound of the test split"),
    Measure("gap", "train-test gap", "lower", 2, "-log p(x) of the test split minus that of training rows", True),
    Measure("kl", "KL", "", 2, "mean KL(q(z | x) || p(z))"),
    Measure("kl/", "KL of", "", 2, "of one layer, given the layers above"),
    Measure(
        "mutual_information",
        "I(x; z)",
        "",
        2,
        "mutual information under q: mean KL(q(z | x) || p) minus KL(aggregate q || p), from one sample for each row under "
        "the aggregate of all rows; the estimate cannot exceed {most:.2f} nats (log {num_aggregate})",
    ),
    Measure(
        "active_units/", "active units", "", 1, "units whose posterior mean has variance above 0.01 over x (Burda)"
    ),
    Measure(
        "codes_used/", "codes used", "", 1, "classes that are the most probable one of an example, mean over units"
    ),
    Measure("code_perplexity/", "code perplexity", "", 1, "of the use of the classes over examples, mean over units"),
    Measure(
        "sparsity/",
        "sparsity",
        "",
        3,
        "Hoyer's measure of a sampled code, units scaled to one standard deviation: 0 dense, 1 a single unit; "
        "a normal code has 0.34 with 2 units, 0.25 with 20, toward 0.20 with many",
    ),
    Measure("reconstruction", "log p(x | z)", "higher", 2, "z sampled from q(z | x)"),
    Measure(
        "robustness",
        "log p(x | z flipped)",
        "higher",
        2,
        "of the clean x, z sampled from q(z | x with 10 % of its pixels flipped)",
    ),
    Measure("seconds", "seconds", "", 0, "of training, all seeds that were trained together", paired=False),
)


class Cell(NamedTuple):
    """One measure of one variant, over seeds."""

    mean: float
    error: (
        float  # standard error over seeds, of the mean for the first variant, else of the difference; NaN for one seed
    )
    difference: float | None  # mean difference to the first variant; None for the first, or if they do not compare


class Line(NamedTuple):
    """One measure of all variants."""

    measure: Measure
    title: str
    cells: list[Cell | None]  # None: the measure does not apply to the variant

    def cell_texts(self) -> list[tuple[str, str]]:
        """Mean and difference of every variant: `103.90 ± 0.12` and "" for the first, `105.10` and `+1.20 ± 0.15`."""
        digits, texts = self.measure.digits, []
        for i, cell in enumerate(self.cells):
            if cell is None:
                texts.append(("–", ""))
                continue
            error = "–" if math.isnan(cell.error) else f"{cell.error:.{digits}f}"
            mean, difference = f"{cell.mean:.{digits}f}", ""
            if i == 0 and self.measure.paired:
                mean += f" ± {error}"
            elif cell.difference is not None:
                difference = f"{cell.difference:+.{digits}f} ± {error}"
            texts.append((mean, difference))
        return texts

    def one_line_texts(self) -> list[str]:
        """Mean and difference of every variant in one string: `105.10 (+1.20 ± 0.15)`."""
        return [f"{mean} ({difference})" if difference else mean for mean, difference in self.cell_texts()]


def table_lines(records: Sequence[Record]) -> list[Line]:
    """Lines of the table in order, without measures that no variant has.

    >>> (line,) = table_lines([{"variant": "normal", "seed": seed, "elbo": elbo} for seed, elbo in ((0, -1.0), (1, -3.0))])
    >>> line.title, line.one_line_texts()
    ('ELBO', ['-2.00 ± 1.00'])
    """
    variants = list(dict.fromkeys(record["variant"] for record in records))
    by_seed = {variant: {r["seed"]: r for r in records if r["variant"] == variant} for variant in variants}
    lines = []
    for measure in MEASURES:
        keys = sorted({key for record in records for key in record if _matches(key, measure.key)})
        for key in keys:
            several_layers = len(keys) > 1 and measure.key.endswith("/")
            title = f"{measure.title} {key.partition('/')[2]}" if several_layers else measure.title
            cells = [_cell(key, measure, by_seed[variant], by_seed[variants[0]]) for variant in variants]
            if any(cells):
                lines.append(Line(measure, title, cells))
    if sum(line.measure.key == "kl/" for line in lines) < 2:  # the KL of a single layer equals the total
        lines = [line for line in lines if line.measure.key != "kl/"]
    return lines


def _matches(key: str, pattern: str) -> bool:
    return key.startswith(pattern) if pattern.endswith("/") else key == pattern


def _cell(key: str, measure: Measure, records: Mapping[int, Record], first: Mapping[int, Record]) -> Cell | None:
    """Cell of a variant, from its records by seed and those of the first variant."""
    values = {seed: record.get(key) for seed, record in records.items()}
    if any(value is None for value in values.values()):
        return None
    values = {seed: float(value) for seed, value in values.items()}
    mean = float(np.mean(list(values.values())))
    if records is first or not measure.paired:
        return Cell(mean, _standard_error(list(values.values())), None)
    pairs = [(values[seed], first[seed].get(key), records[seed], first[seed]) for seed in values if seed in first]
    comparable = all(_bound(a) == _bound(b) for _, _, a, b in pairs) or not measure.bound
    if not pairs or not comparable or any(other is None for _, other, _, _ in pairs):
        return Cell(mean, math.nan, None)
    differences = [value - other for value, other, _, _ in pairs]
    return Cell(mean, _standard_error(differences), float(np.mean(differences)))


def _bound(record: Record) -> tuple:
    return record["bound"], record["num_samples"]


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def table_notes(records: Sequence[Record]) -> list[str]:
    """Notes below the table: corrections, the data, how to read the cells, and the meaning of each measure."""
    seeds = sorted({record["seed"] for record in records})
    corrections = dict.fromkeys((r["variant"], r["corrections"]) for r in records if r.get("corrections"))
    notes = [
        *(f"{variant}: {correction}" for variant, correction in corrections),
        f"{records[0]['dataset']}, {records[0]['num_examples']} rows of the {records[0]['split']} split, nats per example; "
        f"mean over seeds {', '.join(map(str, seeds))}",
        "first variant: mean ± standard error over seeds; others: mean, and difference to the first ± its standard error over "
        "paired seeds (which share initial keys, order and data); no error of a single seed, and none over test examples; "
        "a dash means not applicable: an autoencoder without a prior has no bound, and its latent scale and origin are "
        "arbitrary",
    ]
    variants_by_bound: dict[str, list[str]] = {}
    for record in records:
        variants = variants_by_bound.setdefault(_bound_name(record), [])
        variants += [record["variant"]] * (record["variant"] not in variants)
    listed = [f"{bound} ({', '.join(variants)})" for bound, variants in variants_by_bound.items()]
    fields = {"bound": "; ".join(listed if len(listed) > 1 else variants_by_bound)}
    informed = next((r for r in records if r.get("mutual_information_most") is not None), None)
    if informed:
        fields |= {"most": informed["mutual_information_most"], "num_aggregate": informed["num_aggregate"]}
    for measure in dict.fromkeys(line.measure for line in table_lines(records)):
        better = f" ({measure.better} is better)" if measure.better else ""
        notes.append(f"{measure.title}{better}: {measure.meaning.format(**fields)}")
    return notes


def _bound_name(record: Record) -> str:
    bound, num = record["bound"], record["num_samples"]
    names = {"exact": "exact", "iw": f"importance-weighted with {num} samples", "elbo": "negative ELBO"}
    draws = record.get("weight_draws")
    weights = f"over {draws} draws of the weights" if draws else "at mean weights"
    names |= {None: "no bound", "predictive": f"predictive, {weights}, which is no bound"}
    return names[bound]


def html_table(records: Sequence[Record], notes: Sequence[str]) -> str:
    """The table as HTML, followed by a list of notes."""
    variants = list(dict.fromkeys(record["variant"] for record in records))
    head = "".join(f"<th>{html.escape(variant)}</th>" for variant in variants)
    body = ""
    for line in table_lines(records):
        cells = "".join(f"<td>{text}</td>" for text in line.one_line_texts())
        body += f"<tr><td>{html.escape(line.title)}</td>{cells}</tr>"
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table><ul class=notes>{items}</ul>"


def rich_table(records: Sequence[Record], title: str) -> Any:
    """The table for the terminal (rich). Means stand above differences.

    Variants that do not fit into 80 columns continue in further tables below.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines = table_lines(records)
    texts = [line.cell_texts() for line in lines]
    blocks, free = [], 0  # columns (index, variant, width) of each table, and free characters in the last
    for i, variant in enumerate(dict.fromkeys(record["variant"] for record in records)):
        width = 1 + max(map(len, [variant[:_NAME_WIDTH], *(text for row in texts for text in row[i])]))
        if width > free:
            blocks.append([])
            free = _TERMINAL_WIDTH - max((len(line.title) for line in lines), default=0)
        blocks[-1].append((i, variant, width))
        free -= width
    tables = []
    for columns in blocks:
        table = Table(title=None if tables else title, box=None, pad_edge=False, padding=(0, 0, 0, 1))
        table.add_column("", no_wrap=True)
        for _, variant, width in columns:
            table.add_column(Text(variant), justify="right", overflow="fold", min_width=width - 1)
        for line, row in zip(lines, texts, strict=True):
            table.add_row(line.title, *("\n".join(filter(None, row[i])) for i, _, _ in columns))
        tables += ["", table] if tables else [table]
    return Group(*tables)
