import json
import math

import pytest

from dgmzoo import api, experiments
from dgmzoo.compare import table
from dgmzoo.evaluation import results
from tests.support.command import ROOT

RECORDS = experiments.records()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_can_be_had_again(path):
    """It names a commit, a measured value and an experiment that takes its overrides; its figure is that experiment's."""
    record = json.loads(path.read_text())
    exp = api.experiment(record["experiment"], record["overrides"])
    assert record["schema"] == 1 and record["dirty"] is False and len(record["commit"]) == 40
    assert math.isfinite(record["value"]) and record["standard_error"] > 0
    assert record["split"] == "test" and record["dataset"] == exp.data.name
    assert record["encoding"] == exp.data.encoding and record["ema"] == exp.training.ema
    published = [paper.value for paper in exp.papers]
    assert record["paper"] is None or record["paper"]["value"] in published
    assert results.table_row(record)[0] == record["experiment"]


COMPARISONS = sorted((ROOT / "experiments/results/comparisons").glob("*.json"))


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_the_page_of_a_comparison_has_its_table(path):
    records = json.loads(path.read_text())
    assert all(record["dirty"] is False and len(record["commit"]) == 40 for record in records)
    page = path.with_suffix(".md").read_text()
    for line in table.lines(records):
        assert f"| {line.title} | {' | '.join(line.words())} |" in page


def test_the_page_is_made_of_the_records():
    assert (ROOT / "experiments/results/README.md").read_text() == results.markdown_page(results.load_records())


def test_records_of_all_kinds_make_rows():
    """Without a commit (a wheel), a budget, or a bound (a point code)."""
    record = {"experiment": "a", "overrides": {}, "dataset": "d", "encoding": None, "steps": 1, "num_samples": 1}
    record |= {"value": 1.0, "standard_error": 0.1, "monte_carlo_error": None, "seed": 0, "commit": None, "bound": None}
    row = results.table_row(record | {"paper": {"value": 2.0, "budget": None}})
    assert row == ("a", "-", "d, as it is", "1", "1.00 ± 0.10", "-", "2.0", "0", "-")


def test_a_file_that_is_no_record_is_named(tmp_path, monkeypatch):
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    monkeypatch.setattr(experiments, "records", lambda: [wrong])
    with pytest.raises(ValueError, match=r"expected the record of a result in .*wrong\.json, got TypeError"):
        results.load_records()
