"""`sample_splits`: sample the splits of a toy data set from a seed; `TOYS`: the samplers of the toy data sets.

The sets are sampled on the host, with the seed `data.seed`. Each distribution of points is a function (seed, rows) ->
float64 [rows, 2]; `sample_splits` gives a set in float32.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.host_random import philox_words


def _uniform(seed: int, stream: int, *shape: int) -> np.ndarray:
    """Uniform samples in (0, 1)."""
    return ((philox_words(seed, "toy", int(np.prod(shape)), stream) >> 11) + 0.5).reshape(shape) / 2.0**53


def _normal(seed: int, stream: int, rows: int) -> np.ndarray:
    """Standard normal samples [rows, 2], by the Box-Muller transform."""
    radius, angle = _uniform(seed, stream, 2, rows)
    radius, angle = np.sqrt(-2 * np.log(radius)), 2 * np.pi * angle
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), 1)


def _circle(angle: np.ndarray) -> np.ndarray:
    """Points [N, 2] of the unit circle at angles [N]."""
    return np.stack((np.cos(angle), np.sin(angle)), 1)


def gaussians(seed: int, rows: int) -> np.ndarray:
    """Sample eight normals of scale .2 on a circle of radius 2."""
    component = np.floor(8 * _uniform(seed, 0, rows))
    return 2 * _circle(component * np.pi / 4) + 0.2 * _normal(seed, 1, rows)


def moons(seed: int, rows: int) -> np.ndarray:
    """Sample two half circles that interlock, with noise of scale .1."""
    side, angle = _uniform(seed, 0, rows) < 0.5, np.pi * _uniform(seed, 1, rows)
    x = np.where(side[:, None], _circle(angle), np.array([1.0, 0.5]) - _circle(angle))
    return x + 0.1 * _normal(seed, 2, rows)


def rings(seed: int, rows: int) -> np.ndarray:
    """Sample two circles of radius 1 and 2, with noise of scale .08."""
    radius = np.where(_uniform(seed, 0, rows) < 0.5, 1.0, 2.0)
    return radius[:, None] * _circle(2 * np.pi * _uniform(seed, 1, rows)) + 0.08 * _normal(seed, 2, rows)


def spirals(seed: int, rows: int) -> np.ndarray:
    """Sample two spirals of one and a half turns, with noise of scale .1."""
    angle = 3 * np.pi * np.sqrt(_uniform(seed, 0, rows))
    side = np.where(_uniform(seed, 1, rows) < 0.5, -1.0, 1.0)
    return (side * angle / 3)[:, None] * _circle(angle) + 0.1 * _normal(seed, 2, rows)


def checkerboard(seed: int, rows: int) -> np.ndarray:
    """Sample the uniform distribution on the black squares of a 4x4 board over [-4, 4]^2; its density is 1/32."""
    first, inside, row = _uniform(seed, 0, 3, rows)
    column = np.floor(4 * first)
    black = 2 * np.floor(2 * row) + column % 2
    return 2 * np.stack((column + inside, black + _uniform(seed, 1, rows)), 1) - 4


def pinwheel(seed: int, rows: int) -> np.ndarray:
    """Sample five bent arms."""
    arm_angle = 2 * np.pi / 5 * np.floor(5 * _uniform(seed, 0, rows))
    radial, tangential = (_normal(seed, 1, rows) * np.array([0.3, 0.1]) + np.array([1.0, 0.0])).T
    angle = arm_angle + 0.25 * np.exp(radial)
    return 2 * np.stack(
        (
            radial * np.cos(angle) - tangential * np.sin(angle),
            radial * np.sin(angle) + tangential * np.cos(angle),
        ),
        1,
    )


def sparse_coefficients(seed: int) -> np.ndarray:
    """The 200 coefficients of the sparse regression, of norm 1: 8 are not zero, within a factor of 4 in magnitude.

    >>> int((sparse_coefficients(seed=0) != 0).sum())
    8
    """
    rank, magnitude, sign = _uniform(seed, 0, 3, 200)
    coefficients = np.zeros(200)
    relevant = np.argsort(rank)[:8]
    coefficients[relevant] = np.where(sign < 0.5, -1, 1)[relevant] * (0.5 + 1.5 * magnitude[relevant])
    return coefficients / np.linalg.norm(coefficients)


def sparse_linear(seed: int, rows: int) -> dict[str, np.ndarray]:
    """Sample x [N, 1] = context . coefficients + noise of half the signal's scale, context [N, 200] ~ N(0, 1)."""
    context = _normal(seed, 1, 100 * rows).reshape(rows, 200)
    x = context @ sparse_coefficients(seed) + 0.5 * _normal(seed, 2, rows)[:, 0]
    return {"x": x[:, None], "context": context}


_TOYS = (gaussians, moons, rings, spirals, checkerboard, pinwheel, sparse_linear)
TOYS: dict[str, Callable[[int, int], np.ndarray | dict[str, np.ndarray]]] = {
    f"toy_{toy.__name__}": toy for toy in _TOYS
}


def sample_splits(entry: Entry, seed: int) -> dict[str, np.ndarray]:
    """Sample the splits of a toy set by `seed`: `{"train/x": float32 [N, ...], ...}`.

    >>> from dgmzoo.data import find
    >>> sample_splits(find("toy_moons"), seed=0)["valid/x"].shape
    (1000, 2)
    """
    samples = TOYS[entry.name](seed, sum(entry.splits.values()))
    boundaries = np.cumsum(list(entry.splits.values()))[:-1]
    return {
        f"{split}/{field}": rows
        for field, values in (samples if isinstance(samples, dict) else {"x": samples}).items()
        for split, rows in zip(entry.splits, np.split(values.astype(np.float32), boundaries), strict=True)
    }


def decode(paths: Mapping[str, Path], entry: Entry) -> dict[str, np.ndarray]:
    """The toy set of seed 0, for `fetch` and `verify`, which have no seed; there are no files."""
    return sample_splits(entry, 0)
