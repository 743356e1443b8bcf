"""The figure of a comparison, drawn from arrays without a trained model."""

import numpy as np
import pytest

from dgmzoo.comparison.figure import TRAVERSAL_STEPS, FigureRow, _panels, draw_figure, leading_units
from dgmzoo.data import from_arrays, load_dataset
from dgmzoo.report.pictures.draw import renderer

RNG = np.random.default_rng(0)


def row(units=2, kl=(2.0, 0.5), **changes) -> FigureRow:
    images = RNG.random((6 * TRAVERSAL_STEPS, 4, 4, 1))
    full = FigureRow(
        kl={"z": np.array(kl)},
        values={"z": RNG.normal(size=(50, units))},
        prior={"z": RNG.normal(size=(50, units))},
        labels=RNG.integers(0, 3, 50),
        samples=images[:36],
        traversal=images,
        flipped=images[:24],
    )
    return full._replace(**changes)


FOUR = renderer(load_dataset(from_arrays(RNG.integers(0, 2, (30, 4, 4)))))
CURVES = {"base": [[{"step": 1, "split": "valid", "elbo": -3.0}]]}


def is_png(figure: bytes) -> bool:
    return figure.startswith(b"\x89PNG")


ROWS = {
    "all arrays": row(),
    "an infinite KL": row(kl=(np.inf, 0.5)),
    "a KL of the whole code": row(units=3, kl=(4.0,)),
    "no arrays": FigureRow({}, {}, {}, None, None, None, None),
    "codes that are not finite": row(values={"z": np.full((50, 2), np.nan)}),
    "no images": row(samples=None, traversal=None, flipped=None, labels=None),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_figure_is_drawn_for(name):
    assert is_png(draw_figure({name: ROWS[name]}, FOUR, CURVES))


def test_a_variant_without_the_arrays_of_others_has_blank_panels():
    assert is_png(draw_figure({name: ROWS[name] for name in ("all arrays", "no arrays")}, FOUR, {}))


def test_panels_are_those_that_a_variant_can_fill():
    titles = [panel.title for panel in _panels({"three units": row(units=3, kl=(1.0, 2.0, 3.0))}, FOUR)]
    assert "q(z) against p, leading units" in titles and not any("one sample" in title for title in titles)
    assert any("one sample" in panel.title for panel in _panels({"two units": row()}, FOUR))
    assert [panel.title for panel in _panels({"density model": ROWS["no arrays"]}, FOUR)] == ["samples (means)"]


def test_f43_tables_have_no_panels_of_images():
    table = renderer(load_dataset(from_arrays(RNG.normal(size=(40, 3)))))
    titles = [panel.title for panel in _panels({"a": row()}, table)]
    assert titles[-1] == "samples beside test rows" and not any("traversal" in title for title in titles)
    arrays = RNG.normal(size=(20, 3))
    assert is_png(draw_figure({"a": row(samples=arrays, traversal=arrays, flipped=None)}, table, CURVES))


def test_leading_units_have_the_largest_kl_or_variance():
    values = np.array([[0.0, 0.0], [1.0, 5.0]])
    assert leading_units(values, np.array([2.0, 1.0])).tolist() == [0, 1]
    assert leading_units(values, None).tolist() == [1, 0]
    assert leading_units(values, np.array([7.0])).tolist() == [1, 0], "a KL of the whole code"
