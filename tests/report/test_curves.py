"""Training curves: bounds of both splits on one axis, losses that are no bounds beside (F43, F51), means over seeds."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dgmzoo.report import plots
from dgmzoo.report.plots import draw_mean_curves, metric_curves, training_curves


def rows(split, **metrics):
    num = len(next(iter(metrics.values())))
    return [{"step": 10 * i, "split": split} | {name: v[i] for name, v in metrics.items()} for i in range(num)]


@pytest.fixture
def curves(monkeypatch):
    """Label of the y-axis -> {label of a curve: values}, of all figures."""
    panels = {}

    def note(figure, axes):
        for panel in axes:
            panels[panel.get_ylabel()] = {line.get_label(): list(line.get_ydata()) for line in panel.lines}
        return "<svg"

    monkeypatch.setattr(plots, "_svg", note)
    return panels


def test_f51_a_loss_that_is_no_bound_has_an_axis_of_its_own(curves):
    metrics = rows("train", loss=[5.0, 4.0]) + rows("train_bound", elbo=[-9.0, -8.0]) + rows("valid", elbo=[-9.5, -8.5])
    assert training_curves(metrics) and metric_curves(metrics)
    assert curves == {
        "bound on log p(x) [nats]": {"train": [-9.0, -8.0], "valid": [-9.5, -8.5]},
        "loss": {"train": [5.0, 4.0]},
    }


def test_the_curve_is_that_of_the_bound_that_is_trained(curves):
    training_curves(rows("train", elbo=[-9.0, -8.0], bound=[-7.0, -6.0]) + rows("valid", elbo=[-9, -9], bound=[-5, -5]))
    assert list(curves.values()) == [{"train": [-7.0, -6.0], "valid": [-5, -5]}]


def test_the_loss_is_drawn_where_it_differs_from_the_bound_and_extra_losses_always(curves):
    same = rows("train", loss=[12.0, 11.0], elbo=[-9.0, -8.0])  # by a constant: the units of a table
    assert metric_curves(same) == ""
    assert metric_curves(rows("train", loss=[12.0, 10.0], elbo=[-9.0, -8.0]))
    assert curves.pop("loss") == {"train": [12.0, 10.0]}
    metric_curves(rows("train", **{"loss": [9.0, 8.0], "elbo": [-8.0, -7.0], "extra_loss/size": [1.0, 1.0]}))
    assert set(curves) == {"loss", "extra_loss/size"}


def test_f43_points_of_a_run_within_one_epoch_lie_inside_of_the_axes():
    axes = Figure().add_subplot()
    plots._limit(axes, [[-9.0], [-8.0]])
    low, high = axes.get_ylim()
    assert low < -9 and high > -8
    plots._limit(axes, [[-9.0]])
    assert axes.get_ylim()[0] < -9 < axes.get_ylim()[1]


def test_a_model_without_a_bound_has_no_curve_of_one(curves):
    training_curves(rows("train", elbo=[-9.0]), has_bound=False)
    assert list(curves) == ["log p(x | z) [nats], no bound"]
    assert training_curves([]) == ""


def test_learning_curves_are_means_over_seeds_with_a_band():
    axes = Figure().add_subplot()
    seeds = [rows("valid", elbo=[-9.0, -8.0, -7.0], bound=[0, 0, 0]), rows("valid", elbo=[-7.0, -6.0], bound=[0, 0])]
    draw_mean_curves(axes, {"base": seeds, "wide": [rows("valid", elbo=[-5.0, -4.0])], "point": []})
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert lines == {"base": [-8.0, -7.0], "wide": [-5.0, -4.0]}, "the ELBO, which both have, at the steps of all seeds"
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [-8 - np.sqrt(2), -7 + np.sqrt(2)])
    assert "validation split" in axes.get_title()
