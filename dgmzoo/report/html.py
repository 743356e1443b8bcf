"""`write_report`: write the report of a run as an HTML file; `headline`: state its result in a sentence."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgmzoo.files import write_text
from dgmzoo.report.pictures.base import Picture
from dgmzoo.report.plots import inline_image

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2430}
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.1rem;margin:2rem 0 .6rem}.lead{font-size:1.15rem;margin:.2rem 0 1rem}
img,svg{max-width:100%;height:auto}img{image-rendering:pixelated;border:1px solid #dde2ea}
body:has(.drawn){max-width:90rem}.drawn img,.smooth img{image-rendering:auto;border:0}
table{border-collapse:collapse;font-size:.9rem;display:block;overflow-x:auto}
td{padding:.15rem 1.2rem .15rem 0;vertical-align:top}th{text-align:left;padding:.15rem 1.2rem .15rem 0}
.notes{color:#5a6474;font-size:.9rem}p,.notes{max-width:60rem}
details{margin:2rem 0}summary{font-size:1.1rem;cursor:pointer}
td:first-child{color:#5a6474;white-space:nowrap}figure{margin:0 0 1rem}figcaption{color:#5a6474;font-size:.9rem}
"""

_BOUNDS = {
    "exact": "negative log-likelihood (exact)",
    "iw": "negative log-likelihood, importance-weighted",
    "elbo": "negative ELBO",
    "predictive": "negative predictive log-likelihood",
    None: "loss (no bound on log p(x))",
}


def subject(model: str, data: str, objective: str, num_samples: int) -> str:
    """The subject of a result: model, data and objective.

    >>> subject("VAE", "digits", "IWAE", 5)
    'VAE on digits, IWAE with 5 samples'
    """
    return f"{model} on {data}, {objective}" + (f" with {num_samples} samples" if num_samples > 1 else "")


def headline(record: Mapping[str, Any]) -> str:
    """One sentence with the value, its error, the kind of bound and the split.

    >>> headline(
    ...     {"bound": "iw", "num_samples": 50, "value": 86.431, "standard_error": 0.23, "split": "test", "monte_carlo_error": 0}
    ... )
    '86.43 ± 0.23 nats, negative log-likelihood, importance-weighted with 50 samples, test split'
    """
    estimate = _BOUNDS.get(record["bound"], record["bound"])
    if record["bound"] == "iw":
        estimate += f" with {record['num_samples']} samples"
    if record["bound"] == "predictive":
        draws = record["weight_draws"]
        estimate += f" over {draws} draws of the weights" if draws else " at the mean weights"
    value = "not finite" if record["value"] is None else f"{record['value']:.2f}"
    error = "" if record["standard_error"] is None else f" ± {record['standard_error']:.2f}"
    text = f"{value}{error} nats, {estimate}, {record['split']} split"
    return f"{text}{_sampling(record)}"


def _sampling(record: Mapping[str, Any]) -> str:
    """The Monte Carlo error and the effective samples, or the reason why no error is given."""
    quality = record.get("effective_samples")
    if quality is not None and record["monte_carlo_error"] is None:
        if _num_draws(record) < 10:
            return " (fewer than 10 samples give no Monte Carlo error)"
        loose = ": a loose bound" if (quality["median"] or 0) < 10 else ""
        return (
            f" (effective samples {quality['median'] or 0:.0f} of {_num_draws(record)}{loose}; no Monte Carlo error: "
            f"{100 * quality['few']:.0f} % of the examples have fewer than 10)"
        )
    parts = [f"Monte Carlo error {record['monte_carlo_error']:.3f}"] if record["monte_carlo_error"] else []
    if quality is not None:
        parts.append(f"effective samples {quality['median']:.0f} of {_num_draws(record)}")
        if (quality.get("heavy") or 0) > 0.05:
            parts.append(f"weights of {100 * quality['heavy']:.0f} % of the examples are heavy-tailed: a loose bound")
    return f" ({', '.join(parts)})" if parts else ""


def _num_draws(record: Mapping[str, Any]) -> int:
    return (
        record["weight_draws"] if record["bound"] == "predictive" and record["weight_draws"] else record["num_samples"]
    )


def published_line(record: Mapping[str, Any]) -> str:
    """One line with the published figure and the comparison with it; empty if the record has none.

    >>> paper = {"value": 86.76, "source": "Burda 2016", "protocol": "IW-5000", "budget": None}
    >>> published_line({"value": 87.17, "num_samples": 5000, "paper": paper})
    'published: 86.76 (Burda 2016; IW-5000), same protocol: behind by 0.41'
    >>> fewer = {**paper, "differences": {"evaluation.num_samples": [100, 5000]}}
    >>> published_line({"value": 87.17, "num_samples": 100, "paper": fewer})
    'published: 86.76 (Burda 2016; IW-5000), not compared: num_samples 100 for 5000; dgmzoo evaluate RUN_DIR --num-samples 5000'
    """
    paper = record["paper"]
    if not paper:
        return ""
    budget = "" if paper["budget"] is None else f"; this run took {paper['budget']:.2g} times the paper's steps"
    line = f"published: {paper['value']} ({paper['source']}; {paper['protocol']})"
    if differences := paper.get("differences"):
        shown = [f"{path.rpartition('.')[2]} {own} for {other}" for path, (own, other) in differences.items()]
        more = f" and {len(shown) - 3} more settings" if len(shown) > 3 else ""
        options = " ".join(f"--{path.replace('_', '-')} {other}" for path, (_, other) in differences.items())
        options = options.replace("--evaluation.", "--")
        advice = f"; dgmzoo evaluate RUN_DIR {options}" if all(map(_is_of_evaluation, differences)) else ""
        return f"{line}, not compared: {', '.join(shown[:3])}{more}{advice}"
    if record["value"] is None:
        return line
    return f"{line}, same protocol: {_verdict(record['value'] - paper['value'], paper['value'])}{budget}"


def _is_of_evaluation(path: str) -> bool:
    return path in ("evaluation.num_samples", "evaluation.num_examples", "evaluation.weight_draws")


def _verdict(behind: float, figure: float) -> str:
    """Reproduced within 0.3 % of the figure, as for a single seed, and otherwise the distance."""
    if abs(behind) <= 0.003 * abs(figure):
        return f"reproduced ({behind:+.2f})"
    return f"behind by {behind:.2f}" if behind > 0 else f"better by {-behind:.2f}"


def write_report(
    path: Path,
    title: str,
    record: Mapping[str, Any],
    pictures: Sequence[Picture],
    figures: Mapping[str, str],
    facts: Mapping[str, str],
):
    """Write the report of a run to `path`.

    Args:
      facts: title -> text, of what was trained.
      record: the record of the result.
      pictures: of samples and reconstructions.
      figures: caption -> SVG.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p class=lead>{html.escape(headline(record))}</p>"]
    if text := published_line(record):
        parts.append(f"<p>{html.escape(text)}</p>")
    parts.append(table(facts))
    for caption, svg in figures.items():
        parts.append(f"<h2>{html.escape(caption)}</h2><figure>{svg}</figure>")
    for picture in pictures:
        kind = " class=smooth" if picture.is_drawn else ""
        image = inline_image(picture.png, picture.caption)
        parts.append(f"<h2>{html.escape(picture.caption)}</h2><figure{kind}>{image}</figure>")
    parts.append(f"<details><summary>The record</summary>{table(record)}</details>")
    write_text(path, page(title, parts))


def page(title: str, parts: Sequence[str]) -> str:
    """HTML page with a title and a body made of HTML fragments.

    >>> page("Results", ["<p>none</p>"]).startswith("<!doctype html>")
    True
    """
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def table(record: Mapping[str, Any]) -> str:
    """HTML table with a row for every entry of a record.

    >>> table({"seed": 0, "paper": None})
    '<table><tr><td>seed</td><td>0</td></tr><tr><td>paper</td><td>none</td></tr></table>'
    """
    rows = "".join(
        f"<tr><td>{html.escape(str(key))}</td><td>{html.escape(_readable(value))}</td></tr>"
        for key, value in record.items()
    )
    return f"<table>{rows}</table>"


def _readable(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_readable(item)}" for key, item in value.items()) or "none"
    return "none" if value is None else str(value)
