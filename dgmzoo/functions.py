"""What a function is, in words that change when it does: a run must not go on with another."""

import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np


def named(function: Callable) -> str:
    """`module.name@digest` of a function; the digest is of its source, its defaults and the values it closes over.

    What it reads from its module is not looked at.

    Raises:
      ValueError: it holds something of which nothing tells whether it changed.
    """
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inner.func
    kind = inner if hasattr(inner, "__qualname__") else type(inner)  # a repr would tell an address
    return f"{kind.__module__}.{kind.__qualname__}@{hashlib.sha256(_told(function, ()).encode()).hexdigest()[:12]}"


def _told(value: Any, within: tuple[int, ...]) -> str:
    """A value in words that are the same in another process.

    Raises:
      ValueError: there are none.
    """
    if id(value) in within:  # a function that closes over itself
        return "itself"
    within = (*within, id(value))
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, list | tuple | set | frozenset):
        each = [_told(item, within) for item in value]
        return repr(sorted(each) if isinstance(value, set | frozenset) else each)
    if isinstance(value, Mapping):
        return repr([(_told(key, within), _told(item, within)) for key, item in value.items()])
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, types.CodeType):
        return f"{value.co_code.hex()} {value.co_names} {_told(value.co_consts, within)}"
    if isinstance(value, functools.partial):
        return f"partial of {_told(value.func, within)} with {_told((value.args, value.keywords), within)}"
    if inspect.ismethod(value):
        return f"{_told(value.__func__, within)} of {_told(value.__self__, within)}"
    if inspect.isfunction(value):
        held = (value.__defaults__, value.__kwdefaults__, inspect.getclosurevars(value).nonlocals)
        return f"{_source(value) or _told(value.__code__, within)} with {_told(held, within)}"
    if hasattr(value, "__wrapped__"):
        return _told(value.__wrapped__, within)
    if callable(value) and hasattr(value, "__qualname__"):
        own = getattr(value, "__self__", None)  # of a method that is built in
        of = "" if own is None or isinstance(own, types.ModuleType) else f" of {_told(own, within)}"
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}{of}"
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(value) if is_key else value)
        if array.dtype.hasobject:
            return _told(array.tolist(), within)
        return f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    call = f" {_told(value.__call__, within)}" if callable(value) else ""
    return f"{_told(type(value), within)}{call} of {_held(value, within)}"


def _held(value: Any, within: tuple[int, ...]) -> str:
    """What an object holds: its fields, or else what a copy of it is made from."""
    if dataclasses.is_dataclass(value):
        hidden = ("parent", "name") if isinstance(value, nn.Module) else ()
        names = [field.name for field in dataclasses.fields(value) if field.name not in hidden]
        return _told({name: getattr(value, name) for name in names}, within)
    try:
        made = value.__reduce_ex__(4)
    except Exception as error:
        raise ValueError(
            f"expected a function that holds numbers, arrays, functions or dataclasses, got one with a "
            f"{type(value).__name__}, of which nothing tells whether it changed"
        ) from error
    if isinstance(made, str):
        return made
    return _told([list(part) if isinstance(part, Iterator) else part for part in made], within)


def _source(function: Callable) -> str | None:
    try:
        source = inspect.getsource(function.__code__)
    except (OSError, TypeError):  # typed at a prompt
        return None
    # Two on one line are told apart by what they were compiled to.
    return source if function.__name__ != "<lambda>" else f"{source} {_told(function.__code__, ())}"
