"""What a function is, in words that change when it does: a run must not go on with another."""

import functools
import hashlib
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np


def named(function: Callable) -> str:
    """`module.name@digest` of a function; the digest is of its source, its defaults and the values it closes over.

    What it reads from its module is not looked at.
    """
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inner.func
    kind = inner if hasattr(inner, "__qualname__") else type(inner)  # a repr would tell an address
    return f"{kind.__module__}.{kind.__qualname__}@{hashlib.sha256(_told(function, ()).encode()).hexdigest()[:12]}"


def _told(value: Any, within: tuple[int, ...]) -> str:
    """A value in words that are the same in another process."""
    if id(value) in within:  # a function that closes over itself
        return "itself"
    within = (*within, id(value))
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, list | tuple | set | frozenset):
        each = [_told(item, within) for item in value]
        return repr(sorted(each) if isinstance(value, set | frozenset) else each)
    if isinstance(value, dict):
        return repr([(_told(key, within), _told(item, within)) for key, item in value.items()])
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
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    call = value.__call__ if callable(value) else None
    return f"{_told(type(value), within)} {_told(call, within)} of {_told(getattr(value, '__dict__', {}), within)}"


def _source(function: Callable) -> str | None:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt
        return None
