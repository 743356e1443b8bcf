"""`total_mass`: test that p(x) sums or integrates to 1; `samples`: test that the samples of a model follow its p(x).

Discrete x is enumerated. Continuous x is integrated by quadrature in one and two dimensions, and by importance sampling
from a Student t in up to six. The density of a model with latents is an importance-sampling estimate, whose own error is
the error that a law allows.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats
from scipy.special import logsumexp

from dgmzoo.testing import continuous
from dgmzoo.testing.marginal_likelihood import MAX_ERROR, density, log_weights
from dgmzoo.testing.report import LawFailed, LawSkipped, require
from dgmzoo.testing.subject import AMPLITUDES, Subject

MAX_CONFIGURATIONS = 4096
NUM_DRAWS = 3000
_IMPOSSIBLE_MASS = 1e3
"""An unbiased estimate of a mass of 1 that is never negative exceeds this with probability 1e-3 at most (Markov)."""


class Cells(NamedTuple):
    """Probabilities of the cells of a partition of x, with their error, and the number of the cell of each x.

    >>> Cells(np.array([0.5, 0.5]), np.zeros((2, 2)), lambda draw: draw.x.astype(int), 1.0, 0.0, "").mass
    1.0
    """

    probability: np.ndarray  # [C], sums to `mass`
    covariance: np.ndarray  # [C, C] of the estimated probabilities
    assign: object  # draw -> [num] numbers of cells; -1: outside the support
    mass: float  # of the density
    error: float  # standard error of the mass, or bound of its quadrature error
    method: str
    variables: Any = None  # of the model whose density they have


def total_mass(subject: Subject) -> str:
    """The density sums, or integrates, to 1."""
    details = []
    for cells in _cells_of_contexts(subject):
        # The mean of importance weights with a long tail mostly lies a little below its expectation.
        allowed = 4 * cells.error + (0.02 if subject.drawn.latents else 2e-3)
        require(
            abs(cells.mass - 1) <= allowed,
            f"expected a density of mass 1 +- {allowed:.2g} by {cells.method}, got {cells.mass:.5g}; look at the sign, at "
            "normalizing constants and log-determinants, and at elements that are conditioned on themselves",
        )
        details.append(f"{cells.mass:.5f} +- {cells.error:.1g}")
    return f"{', '.join(details)} by {cells.method}"


def samples(subject: Subject) -> str:
    """Samples of `generate` follow the density, by a chi-square test over cells of x."""
    if subject.generate is None:
        raise LawSkipped("the module has no generate")
    pvalues = []
    for context, cells in zip(subject.contexts, _cells_of_contexts(subject), strict=True):
        x_shape, dtype = subject.batch["x"].shape[1:], subject.batch["x"].dtype
        repeated = {name: np.repeat(leaf[None], NUM_DRAWS, 0) for name, leaf in context.items()} or None
        draw = jax.device_get(subject.generate(cells.variables, subject.keys(8), NUM_DRAWS, repeated))
        require(draw.x.shape == (NUM_DRAWS, *x_shape), f"expected samples {(NUM_DRAWS, *x_shape)}, got {draw.x.shape}")
        require(draw.x.dtype == dtype, f"expected samples of dtype {dtype}, as x of the batch, got {draw.x.dtype}")
        if draw.mean is not None and "length" not in subject.batch:
            require(draw.mean.shape[:1] == (NUM_DRAWS,), f"expected a mean of each sample, got {draw.mean.shape}")
        numbers = cells.assign(draw)
        require((numbers >= 0).all(), f"expected samples in the support of x, got {draw.x[numbers < 0][:1].tolist()}")
        counts = np.bincount(numbers, minlength=len(cells.probability))
        pvalue = goodness_of_fit(counts, cells.probability / cells.mass, cells.covariance / cells.mass**2)
        worst = int(np.abs(counts / NUM_DRAWS - cells.probability / cells.mass).argmax())
        require(
            pvalue > 1e-5,
            f"expected samples that follow the density, got p = {pvalue:.2g} in a chi-square test of {NUM_DRAWS}: cell "
            f"{worst} has density {cells.probability[worst] / cells.mass:.3g} and {counts[worst] / NUM_DRAWS:.3g} of the "
            "samples; look at the order of sampling, and at parameters that `evidence` and `generate` use differently",
        )
        pvalues.append(f"{pvalue:.2g}")
    return f"p = {', '.join(pvalues)}"


def goodness_of_fit(counts: np.ndarray, probability: np.ndarray, covariance: np.ndarray) -> float:
    """p-value of counts `[C]` under estimated probabilities `[C]` with a covariance `[C, C]`.

    Cells with fewer than five expected counts are merged.

    >>> goodness_of_fit(np.array([480, 520]), np.array([0.5, 0.5]), np.zeros((2, 2))) > 0.1
    True
    """
    num = counts.sum()
    order = np.argsort(probability)
    small = order[: max(1, int(np.searchsorted(np.cumsum(probability[order]) * num, 5.0)) + 1)]
    merge = np.delete(np.eye(len(counts)), small, 0)
    merge = np.concatenate([merge, np.isin(np.arange(len(counts)), small)[None].astype(float)])
    counts, p, covariance = merge @ counts, merge @ probability, merge @ covariance @ merge.T
    if len(p) < 2:
        return 1.0
    # The last cell follows from the others.
    spread = (np.diag(p) - np.outer(p, p)) / num + covariance
    difference, spread = (counts / num - p)[:-1], spread[:-1, :-1]
    statistic = difference @ np.linalg.solve(spread, difference)
    return float(stats.chi2(len(difference)).sf(statistic))


def _cells_of_contexts(subject: Subject) -> list[Cells]:
    """The cells of x in each context. The noise in the parameters shrinks until the density is precisely known."""
    if subject.model.bound is None:
        raise LawSkipped("the module has no bound on log p(x)")
    if "cells" not in subject.shared:
        subject.shared["cells"] = _precise_cells(subject)
    if isinstance(cells := subject.shared["cells"], str):
        raise LawSkipped(cells)
    return cells


def _precise_cells(subject: Subject) -> list[Cells] | str:
    method = _discrete_cells if subject.values is not None else _continuous_cells
    reason = ""
    for amplitude in AMPLITUDES if subject.drawn.latents else AMPLITUDES[:1]:
        variables = subject.variables_at(amplitude)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # an infinite mass fails below
                cells = [method(subject, variables, context) for context in subject.contexts]
        except LawSkipped as skipped:
            return str(skipped)
        error = max(each.error for each in cells)
        if error <= MAX_ERROR:
            return [each._replace(variables=variables) for each in cells]
        for each in cells:
            require(
                each.mass < _IMPOSSIBLE_MASS and abs(each.mass - 1) < 10 * each.error + MAX_ERROR,
                f"expected a density of mass 1 by {each.method}, got {each.mass:.3g} +- {each.error:.2g}; look at the sign, "
                "and at normalizing constants and log-determinants",
            )
        reason = "too few effective samples: " + (
            f"the mass is known to {error:.2g} only" if error < math.inf else "a few weights decide the estimate"
        )
    return reason


def _discrete_cells(subject: Subject, variables, context) -> Cells:
    x, length = _every_x(subject)
    rows = subject.rows(x, context, length)
    p, variance = density(subject, variables, rows)
    codes = [row.tobytes() for row in _coded(rows["x"], length)]
    number_of = {code: i for i, code in enumerate(codes)}

    def assign(draw):
        lengths = draw.length if length is not None else None
        if length is not None and lengths is None:
            lengths = np.full(len(draw.x), x.shape[1])
        return np.array([number_of.get(row.tobytes(), -1) for row in _coded(draw.x, lengths)])

    mass = float(p.sum())
    method = f"enumeration of {len(p)} x"
    if not np.isfinite(variance).all():
        return Cells(p, np.zeros((len(p), len(p))), assign, mass, math.inf, method)
    share = p / mass  # probabilities are divided by their sum, which moves with each of them
    jacobian = np.eye(len(p)) - share[:, None]
    covariance = (jacobian * variance) @ jacobian.T
    return Cells(p, covariance, assign, mass, float(np.sqrt(variance.sum())), method)


def _coded(x: np.ndarray, length: np.ndarray | None) -> np.ndarray:
    """x `[N, ...]` rounded, so that equal values have equal bytes; steps beyond the length are -1, and so is the length."""
    x = (
        np.round(np.asarray(x, np.float64) * 1e4)
        .astype(np.int64)
        .reshape(*x.shape[:1], x.shape[1] if x.ndim > 1 else 1, -1)
    )
    if length is None:
        return x
    return np.where(np.arange(x.shape[1])[None, :, None] < np.asarray(length)[:, None, None], x, -1)


def _every_x(subject: Subject) -> tuple[np.ndarray, np.ndarray | None]:
    """Every x `[N, ...]`, and the lengths `[N]` of sequences: all that end, and all that do not within the longest."""
    shape, values = subject.batch["x"].shape[1:], subject.values
    size = int(np.prod(shape))
    limit = MAX_CONFIGURATIONS if not subject.drawn.latents else 512
    if size * np.log(len(values)) > np.log(limit) + 1e-9:
        raise LawSkipped(f"x takes {len(values)}^{size} values, and {limit} can be enumerated")
    every = np.array(list(itertools.product(values, repeat=size)), subject.batch["x"].dtype).reshape(-1, *shape)
    if "length" not in subject.batch:
        return every, None
    if subject.end is None or len(shape) != 1:
        return every, np.full(len(every), shape[0])
    is_end = every == subject.end
    length = np.where(is_end.any(1), is_end.argmax(1) + 1, shape[0])
    beyond = np.arange(shape[0])[None] >= length[:, None]
    is_first = (np.where(beyond, every, values[0]) == values[0]).all(1, where=beyond)  # one of those that differ beyond
    return every[is_first], length[is_first]


def _continuous_cells(subject: Subject, variables, context) -> Cells:
    shape, dtype = subject.batch["x"].shape[1:], subject.batch["x"].dtype
    size = int(np.prod(shape))
    if size > continuous.MAX_DIMENSIONS:
        raise LawSkipped(f"x is continuous in {size} dimensions, and {continuous.MAX_DIMENSIONS} can be integrated")
    is_exact, evaluations = not subject.drawn.latents, itertools.count()

    def log_density(points):  # [N, D] -> [N], unbiased for the density where there are latents
        rows = subject.rows(points.reshape(-1, *shape).astype(dtype), context)
        weights = log_weights(subject, variables, rows, 1 if is_exact else 20, next(evaluations))
        return logsumexp(weights, 0) - np.log(len(weights))

    start = np.asarray(subject.batch["x"], np.float64).reshape(subject.num_rows, size)
    if subject.generate is not None:
        repeated = {name: np.repeat(leaf[None], 200, 0) for name, leaf in context.items()} or None
        drawn = np.asarray(subject.generate(variables, subject.keys(9), 200, repeated).x, np.float64)
        if np.isfinite(drawn).all():
            start = drawn.reshape(200, size)
    proposal, points, weight = continuous.importance_points(log_density, start, MAX_ERROR / 2)
    if not np.isfinite(weight).all():
        raise LawFailed("expected a density of mass 1, got weights that overflow; look at the sign of log_likelihood")
    if continuous.effective(weight) < 200:
        raise LawSkipped(
            f"{continuous.effective(weight):.0f} effective points of the density: it is too narrow or too wide"
        )
    partition = continuous.Partition(proposal.whiten(points), weight)
    cell = partition(proposal.whiten(points))
    probability, covariance = continuous.cell_probabilities(cell, weight, partition.num_cells)

    def assign(draw):
        flat = np.asarray(draw.x, np.float64).reshape(len(draw.x), size)
        if not np.isfinite(flat).all():
            raise LawFailed("expected finite samples of x, got NaN or infinity; look at the inverse of a bijection")
        return partition(proposal.whiten(flat))

    mass, error = float(weight.mean()), float(weight.std() / len(weight) ** 0.5)
    error = math.inf if continuous.tail_index(weight) > continuous.MAX_TAIL_INDEX else error
    method = f"importance sampling over {size} elements"
    if is_exact and size <= 2:
        grid_mass, grid_error = continuous.quadrature(log_density, proposal, size)
        if grid_error < MAX_ERROR:
            # Cells keep their shares; the mass is that of the grid, which is more precise.
            probability, covariance = (probability * grid_mass / mass, covariance * (grid_mass / mass) ** 2)
            mass, error, method = grid_mass, grid_error, f"quadrature over {size} elements"
    return Cells(probability, covariance, assign, mass, error, method)
