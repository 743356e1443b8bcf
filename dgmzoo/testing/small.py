"""`small`: reduce the data shape of a model if possible, so that its density can be integrated."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.testing.subject import MAX_ROWS, values_of

_MAX_X = 256  # values of x in all that a small shape may have


class Small(NamedTuple):
    """A module and a batch for `check`.

    >>> Small(None, {}, (2, 2), "").shape
    (2, 2)
    """

    module: nn.Module
    batch: Mapping[str, np.ndarray]
    shape: tuple[int, ...]
    note: str
    """Reason why the shape is that of the data; empty where it is small."""


def small(module: nn.Module, rows: Mapping[str, np.ndarray]) -> Small:
    """The module at a small shape with rows of the same kind of values, or as it is where it has no other shape.

    Discrete x has as many elements as leave 256 values of x, at most four; continuous x has two. Labels and contexts are
    those of the rows. The number of axes stays.

    Args:
      module: with or without its `shape`.
      rows: `{"x": [N, *shape]}` with further fields; the first 16 are used.

    >>> from dgmzoo import MADE
    >>> rows = {"x": np.zeros((20, 8, 8, 1), np.float32)}
    >>> small(MADE(hidden=(5,)), rows).batch["x"].shape
    (16, 2, 2, 1)
    """
    rows = {name: np.asarray(leaf[:MAX_ROWS]) for name, leaf in rows.items()}
    data_shape = tuple(rows["x"].shape[1:])
    if "shape" not in {field.name for field in dataclasses.fields(module)}:
        return Small(module, rows, data_shape, "the module has no field `shape`")
    as_is = module if module.shape is not None else module.clone(shape=data_shape)
    if "length" in rows:
        return Small(as_is, rows, data_shape, "the rows are sequences with lengths")
    shape = _small_shape(data_shape, values_of(module, rows))
    if math.prod(shape) >= math.prod(data_shape):
        return Small(as_is, rows, data_shape, "x is small")
    candidate, batch = module.clone(shape=shape), _rows(module, rows, shape)
    try:
        model = functional(candidate)
        variables = jax.eval_shape(model.init, jax.random.key(0), batch)
        jax.eval_shape(model.evidence, variables, batch, jax.random.key(0), Query(2))
    except Exception as error:  # the networks are bound to the shape of the data
        reason = str(error).strip().partition("\n")[0]
        return Small(as_is, rows, data_shape, f"a shape of {shape} is refused: {reason}")
    return Small(candidate, batch, shape, "")


def _small_shape(data_shape: tuple[int, ...], values: np.ndarray | None) -> tuple[int, ...]:
    """A shape with as many axes, and at most four elements."""
    most = 2 if values is None else max(1, min(4, int(math.log(_MAX_X) / math.log(len(values)) + 1e-9)))
    if len(data_shape) > 1 and most == 4:
        return (2, 2, *(1,) * (len(data_shape) - 2))
    return (min(most, data_shape[0]), *(1,) * (len(data_shape) - 1)) if data_shape else ()


def _rows(module: nn.Module, rows: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    values, num = values_of(module, rows), len(rows["x"])
    if values is None:
        x = random.normal(rows["x"].mean(), rows["x"].std() + 1e-3, (num, *shape))
    else:
        x = random.choice(values, (num, *shape))
    batch = {**rows, "x": x.astype(rows["x"].dtype)}
    if "mask" in rows:
        batch["mask"] = random.uniform(size=batch["x"].shape) < 0.7
    return batch
