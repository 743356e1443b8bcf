"""What a function is, in words that change when it does: a run must not go on with another."""

import contextlib
import dataclasses
import dis
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

_PLAIN = bool | int | float | complex | str | bytes | None


def named(function: Callable) -> str:
    """`module.name@digest` of a function.

    The digest is of what Python compiles it to, its defaults, the values it closes over, and what it reads from its module:
    functions of that module, numbers, texts, arrays, and collections of these. What other modules define is known by name.
    Comments and layout do not matter; another version of Python may compile otherwise.

    Raises:
      ValueError: it holds something of which nothing tells whether it changed.
    """
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    kind = inner if hasattr(inner, "__qualname__") else type(inner)  # a repr would tell an address
    told = _Words(kind.__module__).of(function)
    return f"{kind.__module__}.{kind.__qualname__}@{hashlib.sha256(told.encode()).hexdigest()[:12]}"


class _Words:
    """Values in words that are the same in another process."""

    def __init__(self, home: str):
        self.home = home  # the module whose functions are looked into
        self.within: list[int] = []  # what is being told: a function may close over itself
        self.told: dict[int, int] = {}  # functions that were told, by id: the how manieth

    def of(self, value: Any) -> str:
        """The words.

        Raises:
          ValueError: there are none.
        """
        if id(value) in self.within:
            return "itself"
        self.within.append(id(value))
        try:
            return self._of(value)
        finally:
            self.within.pop()

    def _of(self, value: Any) -> str:
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, list | tuple | set | frozenset):
            each = [self.of(item) for item in value]
            return repr(sorted(each) if isinstance(value, set | frozenset) else each)
        if isinstance(value, Mapping):
            return repr([(self.of(key), self.of(item)) for key, item in value.items()])
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, types.CodeType):
            return f"{value.co_code.hex()} {value.co_names} {self.of(value.co_consts)}"
        if isinstance(value, functools.partial):
            return f"partial of {self.of(value.func)} with {self.of((value.args, value.keywords))}"
        if inspect.ismethod(value):
            return f"{self.of(value.__func__)} of {self.of(value.__self__)}"
        if inspect.isfunction(value):
            return self._function(value)
        if hasattr(value, "__wrapped__"):
            return self.of(value.__wrapped__)
        if callable(value) and hasattr(value, "__qualname__"):
            own = getattr(value, "__self__", None)  # of a method that is built in
            of = "" if own is None or isinstance(own, types.ModuleType) else f" of {self.of(own)}"
            return f"{_path(value)}{of}"
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(value) if is_key else value)
            if array.dtype.hasobject:
                return self.of(array.tolist())
            return f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        return f"{self.of(type(value))} {self._methods(value)} of {self._held(value)}"

    def _function(self, function: types.FunctionType) -> str:
        if function.__module__ != self.home:
            return _path(function)
        if id(function) in self.told:
            return f"function {self.told[id(function)]}"
        self.told[id(function)] = len(self.told)
        there = function.__globals__
        names = [name for name in _globals(function.__code__) if name in there]  # the others are built in
        read = {name: there[name] for name in names if self._is_looked_at(there[name])}
        held = (function.__defaults__, function.__kwdefaults__, _closed_over(function), read)
        return f"{self.of(function.__code__)} with {self.of(held)}"

    def _methods(self, value: Any) -> str:
        """What an object that can be called does: the functions of its class."""
        if not callable(value):
            return ""
        named = vars(type(value)).items()
        own = {name: each for name, each in named if inspect.isfunction(each) and not name.startswith("__")}
        return self.of({"__call__": type(value).__call__, **own})

    def _is_looked_at(self, value: Any) -> bool:
        """Whether a value of the module is told: others, such as data sets and runs, may hold anything."""
        if isinstance(value, list | tuple | set | frozenset):
            return all(map(self._is_looked_at, value))
        if isinstance(value, Mapping):
            return all(map(self._is_looked_at, value.values()))
        inner = inspect.unwrap(value) if callable(value) else value
        is_own = inspect.isfunction(inner) and inner.__module__ == self.home
        return is_own or isinstance(value, _PLAIN | jax.Array | np.ndarray | np.generic)

    def _held(self, value: Any) -> str:
        """What an object holds: its fields, or else what a copy of it is made from."""
        if dataclasses.is_dataclass(value):
            hidden = ("parent", "name") if isinstance(value, nn.Module) else ()
            names = [field.name for field in dataclasses.fields(value) if field.name not in hidden]
            return self.of({name: getattr(value, name) for name in names})
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:
            raise ValueError(
                f"expected a function that holds numbers, arrays, functions or dataclasses, got one with a "
                f"{type(value).__name__}, of which nothing tells whether it changed"
            ) from error
        if isinstance(made, str):
            return made
        return self.of([list(part) if isinstance(part, Iterator) else part for part in made])


def _globals(code: types.CodeType) -> list[str]:
    """Names that a function, or one defined in it, reads from its module, in order."""
    found = [step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"]
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found += _globals(inner)
    return list(dict.fromkeys(found))


def _closed_over(function: types.FunctionType) -> list[Any]:
    """Values from the functions around it, but for those that were not there yet."""
    found = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            found.append(cell.cell_contents)
    return found


def _path(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
