"""`identity`: a string that identifies a Python function by its name and a digest of its source.

Identities are compared when a run is resumed, so that the run does not continue with a different loss function.

A function defined in a file is known by its qualified name and the digest of that file, a function of a notebook or
prompt by its source text and the globals that it reads. Plain values that a function closes over belong to its identity.
A function that holds anything else has none, and a run with it cannot be resumed.
"""

import dataclasses
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PLAIN = bool | int | float | complex | str | bytes | None


def identity(function: Callable) -> str:
    """`file.name@digest` of a function.

    The digest covers the file that defines the function (in a notebook, the source text), its default arguments, and the
    values that it closes over.

    >>> identity(functools.partial(max, 1)) == identity(functools.partial(max, 1))
    True

    Raises:
      ValueError: the function holds a value other than numbers, text, collections of these, or functions.
    """
    name, text = _describe(function, set())
    return f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _describe(function: Callable, seen: set[int]) -> tuple[str, str]:
    """The name of a function and the text that its digest is taken of."""
    if isinstance(function, functools.partial):
        name, text = _describe(function.func, seen)
        return name, f"{text} with {_text((function.args, function.keywords), seen)}"
    if inspect.ismethod(function):
        name, text = _describe(function.__func__, seen)
        return name, f"{text} of {_text(function.__self__, seen)}"
    if isinstance(function, types.FunctionType):
        if id(function) in seen:  # a recursive function closes over itself
            return function.__qualname__, function.__qualname__
        closure = [_content(cell) for cell in function.__closure__ or ()]
        held = _text((function.__defaults__, function.__kwdefaults__, closure), seen | {id(function)})
        name, source = _source(function, function.__code__.co_firstlineno)
        text = f"{source} holding {held}"
        if not _file_of(function):  # a notebook's cell: the globals that it reads are in no file either
            globals_read = inspect.getclosurevars(function).globals
            text += f" reading {_text(globals_read, seen | {id(function)})}"
        return name, text
    if isinstance(function, type) or isinstance(function, types.BuiltinFunctionType):
        return _source(function, None)
    if dataclasses.is_dataclass(function):
        name, source = _source(type(function), None)
        values = {field.name: getattr(function, field.name) for field in dataclasses.fields(function)}
        return name, f"{source} holding {_text(values, seen)}"
    raise ValueError(
        f"expected a function, a partial of one, or a dataclass that can be called, got {type(function).__name__}, of "
        "which no file says whether it changed; write it as a function of the evidence and the batch"
    )


def _source(definition: Any, line: int | None) -> tuple[str, str]:
    """The name of a function or class, and the text of its definition: file digest and name, or source."""
    if file := _file_of(definition):
        name = f"{file.stem}.{definition.__qualname__}"
        return name, f"{name} {line} {hashlib.sha256(file.read_bytes()).hexdigest()}"
    name = f"{definition.__module__}.{definition.__qualname__}"
    if definition.__module__ in sys.builtin_module_names:
        return name, name
    try:
        return name, f"{name} {inspect.getsource(definition)}"
    except (OSError, TypeError):
        raise ValueError(
            f"expected a function whose source can be read, got {name}, which is defined in no file; define it in a file "
            "or in a notebook's cell"
        ) from None


def _file_of(definition: Any) -> Path | None:
    """The file that defines a function or class; None in a notebook or prompt."""
    file = getattr(sys.modules.get(definition.__module__ or ""), "__file__", None)
    return Path(file) if file is not None and Path(file).is_file() else None


def _text(value: Any, seen: set[int]) -> str:
    """A value as text that is the same in every process.

    Raises:
      ValueError: the value is none of those that `identity` accepts.
    """
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, list | tuple):
        return repr([_text(item, seen) for item in value])
    if isinstance(value, set | frozenset):
        return repr(sorted(_text(item, seen) for item in value))
    if isinstance(value, Mapping):
        return repr([(_text(key, seen), _text(item, seen)) for key, item in value.items()])
    if isinstance(value, types.ModuleType):
        return value.__name__
    if callable(value):
        return " ".join(_describe(value, seen))
    raise ValueError(
        f"expected a function that closes over numbers, text, collections of these or functions, got one that holds a "
        f"{type(value).__name__}; pass that value as a plain number, or define the function in a file"
    )


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
