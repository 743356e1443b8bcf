"""Integrates densities over continuous x by quadrature and by importance sampling."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

MAX_DIMENSIONS = 6
MAX_TAIL_INDEX = 0.5  # of importance weights with a finite variance
_ROUNDS, _NUM_ADAPT, _NUM_POINTS, _MAX_POINTS = 6, 2000, 12_000, 48_000
_FREEDOM = 4.0  # of the Student t, whose tails are wider than those of most densities
_NUM_CELLS = 16

LogDensity = Callable[[np.ndarray], np.ndarray]  # [N, D] -> [N]


class Proposal(NamedTuple):
    """A multivariate Student t.

    >>> Proposal(np.zeros(2), np.eye(2)).whiten(np.ones((3, 2))).shape
    (3, 2)
    """

    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D, D]  lower triangular

    def whiten(self, points: np.ndarray) -> np.ndarray:
        """Points `[N, D]` in the coordinates in which the proposal is isotropic."""
        return np.linalg.solve(self.scale, (points - self.mean).T).T

    def colour(self, white: np.ndarray) -> np.ndarray:
        """Points `[N, D]` of isotropic coordinates."""
        return self.mean + white @ self.scale.T

    def sample(self, random: np.random.Generator, num: int) -> np.ndarray:
        """Samples `[num, D]`."""
        white = random.normal(size=(num, len(self.mean)))
        return self.colour(white / np.sqrt(random.chisquare(_FREEDOM, (num, 1)) / _FREEDOM))

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log density `[N]` of points `[N, D]`."""
        dims = len(self.mean)
        distance = np.square(self.whiten(points)).sum(1)
        constant = gammaln((_FREEDOM + dims) / 2) - gammaln(_FREEDOM / 2) - dims / 2 * np.log(_FREEDOM * np.pi)
        constant -= np.log(np.abs(np.diag(self.scale))).sum()
        return constant - (_FREEDOM + dims) / 2 * np.log1p(distance / _FREEDOM)


def importance_points(
    log_density: LogDensity, start: np.ndarray, precision: float
) -> tuple[Proposal, np.ndarray, np.ndarray]:
    """A proposal adapted to the density, its samples `[N, D]` and their importance weights `[N]`, with mean 1 for mass 1.

    The proposal takes the moments of its weighted samples in each round (population Monte Carlo, Cappe et al. 2004,
    "Population Monte Carlo"). New samples of the last proposal are returned, so that their mean weight is unbiased, and as
    many as give it a standard error of `precision`, up to a limit.

    Args:
      start: points `[N, D]` whose moments the first proposal has.

    >>> def normal(x):
    ...     return -0.5 * np.square(x - 3).sum(1) - np.log(2 * np.pi)
    >>> _, _, weight = importance_points(normal, np.zeros((5, 2)), precision=0.02)
    >>> bool(abs(weight.mean() - 1) < 0.05)
    True
    """
    random = np.random.default_rng(0)
    proposal = _proposal(start, np.full(len(start), 1 / len(start)), 4.0)
    for _ in range(_ROUNDS):
        points = proposal.sample(random, _NUM_ADAPT)
        log_weight = _finite(log_density(points)) - proposal.log_prob(points)
        # Tempered weights keep the proposal wide while few points reach the density.
        for temperature in (1.0, 0.5, 0.2, 0.05):
            share = np.exp(temperature * (log_weight - log_weight.max()))
            if effective(share) > 10 * points.shape[1] + 10:
                break
        proposal = _proposal(points, share / share.sum(), 1.5)
    points, weight = np.zeros((0, start.shape[1])), np.zeros(0)
    while len(points) < _MAX_POINTS and (not len(points) or weight.std() / len(points) ** 0.5 > precision):
        new = proposal.sample(random, _NUM_POINTS)
        new_weight = np.exp(_finite(log_density(new)) - proposal.log_prob(new))
        points, weight = np.concatenate([points, new]), np.concatenate([weight, new_weight])
    return proposal, points, weight


def _proposal(points: np.ndarray, share: np.ndarray, inflation: float) -> Proposal:
    mean = share @ points
    centred = points - mean
    covariance = inflation * (share[:, None] * centred).T @ centred
    smallest = 1e-3 * np.diag(covariance).mean() + 1e-8
    if np.diag(covariance).max() < 1e-8:  # all points are one
        smallest = 4.0
    return Proposal(mean, np.linalg.cholesky(covariance + smallest * np.eye(len(mean))))


def _finite(log_density: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(log_density), log_density, -np.inf)


def effective(weight: np.ndarray) -> float:
    """Effective number of samples of weights.

    >>> effective(np.ones(5))
    5.0
    """
    total = np.square(weight).sum()
    return float(np.square(weight.sum()) / total) if total > 0 else 0.0


def tail_index(weight: np.ndarray) -> float:
    """Index of the upper tail of weights: from 0.5 on their variance is infinite, and an estimate of it is too small.

    Source: the estimator of Hill 1975 over as many of the largest weights as Vehtari et al. 2024, "Pareto smoothed
    importance sampling" (arXiv 1507.02646), fit.

    >>> random = np.random.default_rng(0)
    >>> tail_index(random.uniform(size=5000)) < 0.1 < 0.8 < tail_index(random.pareto(1.0, 5000) + 1)
    True
    """
    num = int(min(0.2 * len(weight), 3 * len(weight) ** 0.5))
    largest = np.sort(weight)[-num - 1 :]
    return float(np.log(largest[1:] / largest[0]).mean()) if largest[0] > 0 else math.inf


def quadrature(log_density: LogDensity, proposal: Proposal, dims: int) -> tuple[float, float]:
    """Mass of a density in one or two dimensions by the trapezoid rule, and its difference from a grid of half as many points.

    The grid is dense at the mean of the proposal and reaches to 200 of its scales: its points are `sinh(s)`.

    >>> wide = Proposal(np.zeros(1), np.eye(1))
    >>> mass, error = quadrature(lambda x: -0.5 * np.square(x[:, 0] - 1) - 0.5 * np.log(2 * np.pi), wide, 1)
    >>> round(mass, 6), error < 1e-6
    (1.0, True)
    """
    num = 2001 if dims == 1 else 241
    s = np.linspace(-6, 6, num)
    step = s[1] - s[0]
    axes = np.meshgrid(*[np.sinh(s)] * dims, indexing="ij")
    white = np.stack([axis.ravel() for axis in axes], -1)
    volume = np.abs(np.prod(np.diag(proposal.scale)))
    stretch = np.prod(np.meshgrid(*[np.cosh(s)] * dims, indexing="ij"), axis=0)
    value = np.exp(_finite(log_density(proposal.colour(white)))).reshape(stretch.shape) * stretch * volume
    fine = value.sum() * step**dims
    coarse = value[(slice(None, None, 2),) * dims].sum() * (2 * step) ** dims
    return float(fine), float(abs(fine - coarse))


class Partition:
    """Sixteen cells of about equal mass: half-spaces at the weighted medians of one coordinate after another.

    >>> points = np.random.default_rng(0).normal(size=(1000, 2))
    >>> bool(np.bincount(Partition(points, np.ones(1000))(points)).min() > 50)
    True
    """

    num_cells = _NUM_CELLS

    def __init__(self, points: np.ndarray, weight: np.ndarray):
        self.thresholds: list[np.ndarray] = []  # per level, one for each cell of the level above
        cell = np.zeros(len(points), int)
        for level in range(int(np.log2(self.num_cells))):
            coordinate = points[:, self._axis(level, points.shape[1])]
            medians = [_median(coordinate[cell == i], weight[cell == i]) for i in range(2**level)]
            self.thresholds.append(np.array(medians))
            cell = 2 * cell + (coordinate > self.thresholds[-1][cell])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Number of the cell `[N]` of points `[N, D]`."""
        cell = np.zeros(len(points), int)
        for level, threshold in enumerate(self.thresholds):
            cell = 2 * cell + (points[:, self._axis(level, points.shape[1])] > threshold[cell])
        return cell

    @staticmethod
    def _axis(level: int, dims: int) -> int:
        return dims - 1 - level % dims  # the last coordinate depends on all


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    if not len(values) or weight.sum() == 0:
        return 0.0
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def cell_probabilities(cell: np.ndarray, weight: np.ndarray, num_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `[C]` of cells by importance weights `[N]`, and the covariance of their shares times the mass squared.

    >>> cell_probabilities(np.array([0, 1]), np.ones(2), 2)[0].tolist()
    [0.5, 0.5]
    """
    inside = np.eye(num_cells)[cell]  # [N, C]
    probability = (weight[:, None] * inside).mean(0)
    residual = weight[:, None] * (inside - probability / weight.mean())
    return probability, residual.T @ residual / len(weight) ** 2
