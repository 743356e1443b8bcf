"""`samples`: a picture of samples of a run's model; `reconstructions`: one of test rows and their reconstructions.

Functions accept any object with the fields of `dgmzoo.Run`. They do not import `Run`, whose notebook view uses this module.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dgmzoo.evaluation.predictive import predictive_log_likelihood
from dgmzoo.report.pictures.base import Density, Picture, observed
from dgmzoo.report.pictures.draw import renderer
from dgmzoo.report.pictures.tables import Points

_SHOWN = 50  # test rows that are drawn with their reconstructions
_DENSITY_SAMPLES = 64  # importance samples of a point of the plane, at most


def samples(run: Any, num: int | None = None, seed: int = 0, context: Mapping[str, Any] | None = None) -> Picture:
    """Picture of samples of a run's model: images as means where the entry gives them, other data beside test rows.

    Args:
      num: number of samples; None: as many as suit the kind of data.
      seed: seed of the samples.
      context: conditions of a conditional model, as for `run.sample`.

    Raises:
      ValueError: the entry does not generate.
    """
    drawn = renderer(run.dataset)
    num = drawn.num_samples if num is None else num
    x = run.sample(num, seed, True, context) if drawn.shows_means else None
    are_means = x is not None
    if not are_means:
        x = run.sample(num, seed, context=context)
    density = density_of(run) if isinstance(drawn, Points) else None
    return drawn.picture(x, drawn.caption(are_means), beside=True, density=density)


def reconstructions(run: Any, rows: Mapping[str, np.ndarray], means: np.ndarray) -> Picture:
    """Picture of rows of the data with their reconstructions, the means of p(x | z) `[N, ...]`."""
    x = observed({name: leaf[:_SHOWN] for name, leaf in rows.items()})
    return renderer(run.dataset).pairs(x, means[:_SHOWN], "Test rows and their reconstructions")


def density_of(run: Any) -> Density | None:
    """The density of a model of points, or its importance-weighted estimate; None where x alone has no density.

    None too with several processes, all of which would have to take part in the evaluation: one draws.
    """
    model, variables, dataset = run.model, run.variables, run.dataset
    row = {"x": np.zeros((2, *dataset.shape), np.float32)}
    if model.bound is None or jax.process_count() > 1:
        return None
    try:
        jax.eval_shape(model.evidence, variables, row, jax.random.key(0))
    except KeyError:  # the model reads a label or a context
        return None
    num_samples = min(run.experiment.evaluation.num_samples, _DENSITY_SAMPLES)

    def density(points: np.ndarray) -> np.ndarray:
        scaled = points.astype(np.float32)
        if dataset.standardization:
            scaled = dataset.standardization.apply(points)
        estimate = predictive_log_likelihood(model, variables, {"x": scaled}, jax.random.key(0), num_samples)
        return np.exp(estimate.per_example - dataset.log_det)

    return density
