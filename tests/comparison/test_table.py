"""The table of a comparison: paired differences, measures that do not compare, and the width of a terminal."""

import math

import numpy as np
import pytest
from rich.console import Console

from dgmzoo.comparison import table
from tests.support.small_comparison import flat_record


def test_differences_are_paired_by_seed():
    nll = {"a": (100.0, 110.0, 120.0), "b": (101.0, 112.0, 121.0)}
    records = [flat_record(name, seed, nll=value) for name, values in nll.items() for seed, value in enumerate(values)]
    (line,) = table.table_lines(records)
    first, second = line.cells
    assert (first.mean, first.difference) == (110, None) and first.error == pytest.approx(10 / math.sqrt(3))
    assert second.mean == pytest.approx(334 / 3) and second.difference == pytest.approx(4 / 3)
    assert second.error == pytest.approx(np.std([1, 2, 1], ddof=1) / math.sqrt(3)) == pytest.approx(1 / 3)
    assert line.one_line_texts() == ["110.00 ± 5.77", "111.33 (+1.33 ± 0.33)"]


def test_values_under_different_bounds_have_no_difference():
    records = [
        flat_record("a", 0, nll=100.0, elbo=-101.0),
        flat_record("b", 0, "exact", nll=90.0),
        flat_record("c", 0, None),
    ]
    nll, elbo = table.table_lines(records)
    assert nll.one_line_texts() == ["100.00 ± –", "90.00", "–"]
    assert elbo.one_line_texts() == ["-101.00 ± –", "–", "–"]


def test_a_measure_that_is_not_finite_for_one_seed_is_left_out():
    assert table.table_lines([flat_record("a", 0, nll=1.0), flat_record("a", 1, nll=None)]) == []


def test_each_of_several_layers_has_its_own_lines():
    records = [flat_record("a", 0, kl=3.0, **{"kl/z1": 1.0, "kl/z2": 2.0, "sparsity/z1": 0.5, "sparsity/z2": 0.25})]
    titles = {line.title: line.one_line_texts() for line in table.table_lines(records)}
    assert titles["KL"] == ["3.00 ± –"] and titles["KL of z2"] == ["2.00 ± –"]
    assert titles["sparsity z1"] == ["0.500 ± –"] and list(titles)[1:3] == ["KL of z1", "KL of z2"]


def test_the_kl_of_a_single_layer_is_shown_once():
    titles = [line.title for line in table.table_lines([flat_record("a", 0, kl=3.0, **{"kl/z": 3.0})])]
    assert titles == ["KL"]


def test_the_table_fits_a_terminal_of_80_columns(capsys):
    names = (
        "normal",
        "horseshoe",
        "model.latent.prior=Laplace",
        "model.latent.prior=StudentT",
        "spherical",
        "a [b] name",
    )
    records = [
        flat_record(name, seed, nll=100.0 + seed * i, elbo=-101.5 * (1 + seed * i), robustness=-1234.56 - seed)
        for i, name in enumerate(names)
        for seed in range(3)
    ]
    Console(width=80).print(table.rich_table(records, "six"))
    output = capsys.readouterr().out
    for line in table.table_lines(records):
        for text in line.one_line_texts():
            mean, _, difference = text.rstrip(")").partition(" (")
            assert mean in output and difference in output
    assert "…" not in output and "a [b] name" in output
