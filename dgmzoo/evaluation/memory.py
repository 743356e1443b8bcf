"""`live_bytes`: estimate the memory of a function from its traced program; `largest_batch`: the batch that fits a budget.

The estimate follows from shapes alone, so that the size of a batch, and with it the samples of an evaluation, are the same
on every machine.
"""

import math
from collections.abc import Callable
from typing import Any

import jax

BUDGET = 1 << 30  # bytes of a batch of an evaluation on a CPU
ACCELERATOR_BUDGET = 8 << 30


def live_bytes(function: Callable[..., Any], *shapes: Any) -> int:
    """The most bytes of intermediate arrays that are live at once in a function, without its arguments and constants.

    A loop counts as one of its iterations with its inputs and outputs. A compiler that fuses operations needs less.

    >>> import jax.numpy as jnp
    >>> live_bytes(lambda x: jnp.sum(x[:, None] * x), jax.ShapeDtypeStruct((1000,), jnp.float32)) >= 4_000_000
    True
    """
    return _live_bytes(jax.make_jaxpr(function)(*shapes).jaxpr)


def largest_batch(bytes_of: Callable[[int], int], largest: int, budget: int | None = None) -> int:
    """The number of examples, at most `largest` and at least 1, whose memory is within the budget.

    Args:
      bytes_of: number of examples -> bytes, about proportional.
      budget: bytes; None: that of the default device.

    >>> largest_batch(lambda num: 100 * num, largest=250, budget=1000)
    10
    """
    if budget is None:
        budget = BUDGET if jax.default_backend() == "cpu" else ACCELERATOR_BUDGET
    size = largest
    while size > 1 and (needed := bytes_of(size)) > budget:
        size = max(1, min(size - 1, size * budget // needed))
    return size


def _live_bytes(jaxpr: Any) -> int:
    last_use = {}
    for i, equation in enumerate(jaxpr.eqns):
        last_use |= {variable: i for variable in equation.invars if not hasattr(variable, "val")}
    last_use |= {variable: len(jaxpr.eqns) for variable in jaxpr.outvars if not hasattr(variable, "val")}
    sizes: dict[Any, int] = {}  # of the arrays that are live
    total = peak = 0
    for i, equation in enumerate(jaxpr.eqns):
        for variable in equation.outvars:
            sizes[variable] = _bytes(variable.aval)
            total += sizes[variable]
        peak = max(peak, total + max(map(_live_bytes, _inner(equation)), default=0))
        dead = [v for v in [*equation.invars, *equation.outvars] if not hasattr(v, "val") and last_use.get(v, -1) <= i]
        for variable in dead:
            total -= sizes.pop(variable, 0)
    return peak


def _inner(equation: Any) -> list[Any]:
    """The programs inside of an equation: bodies of loops, branches, compiled functions."""
    found = []
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else [value]:
            program = getattr(item, "jaxpr", item)
            if hasattr(program, "eqns"):
                found.append(program)
    return found


def _bytes(aval: Any) -> int:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return 0
    return math.prod(aval.shape) * dtype.itemsize
