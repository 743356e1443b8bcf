"""Committed records: they can be reproduced, and the pages are made of them."""

import json
import math

import pytest

from dgmzoo import api, experiments
from dgmzoo.comparison import table
from dgmzoo.evaluation import results
from dgmzoo.evaluation.record import SCHEMA
from tests.support.command import ROOT

RECORDS = experiments.records()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_can_be_reproduced(path):
    """It contains a commit, a value, and an experiment that accepts its overrides and lists its published value."""
    record = json.loads(path.read_text())
    exp = api.experiment(record["experiment"], record["overrides"])
    assert record["schema"] in (1, SCHEMA) and record["dirty"] is False and len(record["commit"]) == 40
    assert math.isfinite(record["value"]) and record["standard_error"] > 0
    assert record["split"] == "test" and record["dataset"] == exp.data.name
    assert record["encoding"] == exp.data.encoding and record["ema"] == exp.training.ema
    published = [paper.value for paper in exp.papers]
    assert record["paper"] is None or record["paper"]["value"] in published
    assert results.table_row(record)[0] == record["experiment"]


COMPARISONS = sorted((ROOT / "experiments/results/comparisons").glob("*.json"))


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_the_page_of_a_comparison_contains_its_table_and_notes(path):
    records = json.loads(path.read_text())
    assert all(record["dirty"] is False and len(record["commit"]) == 40 for record in records)
    page = path.with_suffix(".md").read_text()
    for line in table.table_lines(records):
        title = line.title.replace("|", "\\|")  # in Markdown
        assert f"| {title} | {' | '.join(line.one_line_texts())} |" in page
    for note in table.table_notes(records):
        assert f"- {note}\n" in page


def test_the_results_page_is_made_of_the_records():
    assert (ROOT / "experiments/results/README.md").read_text() == results.markdown_page(results.load_records())


def test_a_record_without_commit_budget_or_bound_has_a_row():
    """An installed wheel has no commit, a point code has no bound."""
    record = {
        "schema": SCHEMA,
        "experiment": "a",
        "overrides": {},
        "dataset": "d",
        "encoding": None,
        "steps": 1,
        "num_samples": 1,
    }
    record |= {"value": 1.0, "standard_error": 0.1, "monte_carlo_error": None, "seed": 0, "commit": None, "bound": None}
    row = results.table_row(record | {"paper": {"value": 2.0, "budget": None}})
    assert row == ("a", "-", "d, as it is", "1", "1.00 ± 0.10", "-", "2.0", "0", "-")
    assert results.table_row(record | {"schema": 1, "paper": None})[5] == "-, stale"
    other = {"value": 2.0, "budget": None, "differences": {"evaluation.num_samples": [1, 5]}}
    assert results.table_row(record | {"paper": other})[6] == "-"


def test_a_file_that_is_not_a_record_is_refused_by_name(tmp_path, monkeypatch):
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    monkeypatch.setattr(experiments, "records", lambda: [wrong])
    with pytest.raises(ValueError, match=r"expected the record of a result in .*wrong\.json, got TypeError"):
        results.load_records()
