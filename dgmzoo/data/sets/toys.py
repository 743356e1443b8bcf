"""Toys, drawn from `data.seed` on the host, float32: points in the plane [N, 2], and a sparse regression."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.host_random import words


def _uniform(seed: int, stream: int, *shape: int) -> np.ndarray:
    """Uniform draws in (0, 1)."""
    return ((words(seed, "toy", int(np.prod(shape)), stream) >> 11) + 0.5).reshape(shape) / 2.0**53


def _normal(seed: int, stream: int, rows: int) -> np.ndarray:
    """Pairs of standard normals [rows, 2], by Box and Muller."""
    radius, angle = _uniform(seed, stream, 2, rows)
    radius, angle = np.sqrt(-2 * np.log(radius)), 2 * np.pi * angle
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), 1)


def _circle(angle: np.ndarray) -> np.ndarray:
    return np.stack((np.cos(angle), np.sin(angle)), 1)


def gaussians(seed: int, rows: int) -> np.ndarray:
    """Eight normals of scale .2 on a circle of radius 2."""
    which = np.floor(8 * _uniform(seed, 0, rows))
    return 2 * _circle(which * np.pi / 4) + 0.2 * _normal(seed, 1, rows)


def moons(seed: int, rows: int) -> np.ndarray:
    """Two half circles that interlock, noise .1."""
    side, angle = _uniform(seed, 0, rows) < 0.5, np.pi * _uniform(seed, 1, rows)
    x = np.where(side[:, None], _circle(angle), np.array([1.0, 0.5]) - _circle(angle))
    return x + 0.1 * _normal(seed, 2, rows)


def rings(seed: int, rows: int) -> np.ndarray:
    """Two circles of radius 1 and 2, noise .08."""
    radius = np.where(_uniform(seed, 0, rows) < 0.5, 1.0, 2.0)
    return radius[:, None] * _circle(2 * np.pi * _uniform(seed, 1, rows)) + 0.08 * _normal(seed, 2, rows)


def spirals(seed: int, rows: int) -> np.ndarray:
    """Two spirals of one and a half turns, noise .1."""
    angle = 3 * np.pi * np.sqrt(_uniform(seed, 0, rows))
    side = np.where(_uniform(seed, 1, rows) < 0.5, -1.0, 1.0)
    return (side * angle / 3)[:, None] * _circle(angle) + 0.1 * _normal(seed, 2, rows)


def checkerboard(seed: int, rows: int) -> np.ndarray:
    """Uniform on the black squares of a 4x4 board over [-4, 4]^2; density 1/32 there."""
    first, inside, row = _uniform(seed, 0, 3, rows)
    column = np.floor(4 * first)
    black = 2 * np.floor(2 * row) + column % 2
    return 2 * np.stack((column + inside, black + _uniform(seed, 1, rows)), 1) - 4


def pinwheel(seed: int, rows: int) -> np.ndarray:
    """Five bent arms."""
    arm = 2 * np.pi / 5 * np.floor(5 * _uniform(seed, 0, rows))
    radial, tangential = (_normal(seed, 1, rows) * np.array([0.3, 0.1]) + np.array([1.0, 0.0])).T
    turn = arm + 0.25 * np.exp(radial)
    return 2 * np.stack(
        (
            radial * np.cos(turn) - tangential * np.sin(turn),
            radial * np.sin(turn) + tangential * np.cos(turn),
        ),
        1,
    )


def sparse_coefficients(seed: int) -> np.ndarray:
    """The 200 coefficients of the sparse regression: 8 of them between .5 and 2 in size before the norm is made 1."""
    place, size, sign = _uniform(seed, 0, 3, 200)
    coefficients = np.zeros(200)
    relevant = np.argsort(place)[:8]
    coefficients[relevant] = np.where(sign < 0.5, -1, 1)[relevant] * (0.5 + 1.5 * size[relevant])
    return coefficients / np.linalg.norm(coefficients)


def sparse_linear(seed: int, rows: int) -> dict[str, np.ndarray]:
    """x = context . coefficients + noise of half the signal's scale; context [N, 200] standard normal."""
    context = _normal(seed, 1, 100 * rows).reshape(rows, 200)
    x = context @ sparse_coefficients(seed) + 0.5 * _normal(seed, 2, rows)[:, 0]
    return {"x": x[:, None], "context": context}


_TOYS = (gaussians, moons, rings, spirals, checkerboard, pinwheel, sparse_linear)
TOYS: dict[str, Callable[[int, int], np.ndarray | dict[str, np.ndarray]]] = {
    f"toy_{toy.__name__}": toy for toy in _TOYS
}


def draw(known: Entry, seed: int) -> dict[str, np.ndarray]:
    """The splits of a toy set, `{"train/x": [N, ...], ...}`, drawn by `seed`."""
    splits = known.splits
    drawn = TOYS[known.name](seed, sum(splits.values()))
    cuts = np.cumsum(list(splits.values()))[:-1]
    return {
        f"{split}/{field}": part
        for field, rows in (drawn if isinstance(drawn, dict) else {"x": drawn}).items()
        for split, part in zip(splits, np.split(rows.astype(np.float32), cuts), strict=True)
    }


def decode(paths: Mapping[str, Path], known: Entry) -> dict[str, np.ndarray]:
    """The toy of seed 0, for those who ask for it by its name alone."""
    return draw(known, 0)
