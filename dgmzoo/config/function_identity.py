"""What a function is, in words that change when it does: a run must not go on with another."""

import contextlib
import dataclasses
import dis
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

_PLAIN = bool | int | float | complex | str | bytes | None


def named(function: Callable) -> str:
    """`module.name@digest` of a function.

    The digest is of what Python compiles it to, its defaults, the values it closes over, and what it reads from its module:
    functions, numbers, texts, arrays, and collections of these. Functions of installed packages are known by name. Comments
    and layout do not matter; another version of Python may compile otherwise.

    Raises:
      ValueError: it holds something of which nothing tells whether it changed.
    """
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    kind = inner if hasattr(inner, "__qualname__") else type(inner)  # a repr would tell an address
    return f"{_path(kind)}@{hashlib.sha256(_Words().of(function).encode()).hexdigest()[:12]}"


class _Words:
    """Values in words that are the same in another process.

    Of what a function holds every part must have words. Of what it merely reads from its module, which may be a data set or
    a trained run, an object has those of its class.
    """

    def __init__(self, reads: bool = False, within: Sequence[int] = ()):
        self.reads = reads  # whether it is what a function reads that is told
        self.within = [*within]  # what is being told, by id: a function may close over itself
        self.told: dict[int, int] = {}  # functions that were told, by id, in order

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
        if isinstance(value, list | tuple):
            return repr([self.of(item) for item in value])
        if isinstance(value, set | frozenset):  # whose order is another in each process
            return repr(sorted(_Words(self.reads, self.within).of(item) for item in value))
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
        if isinstance(value, type):
            return f"{_path(value)} {self._class(value)}"
        if callable(value) and hasattr(value, "__qualname__"):
            own = getattr(value, "__self__", None)  # of a method that is built in
            return _path(value) + ("" if own is None or isinstance(own, types.ModuleType) else f" of {self.of(own)}")
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(value) if is_key else value)
            if array.dtype.hasobject:
                return self.of(array.tolist())
            return f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        return f"{self.of(type(value))} of {self._held(value)}"

    def _function(self, function: types.FunctionType) -> str:
        own = _is_own(function.__module__)
        if not own and "<" not in function.__qualname__:
            return _path(function)
        if id(function) in self.told:
            return f"function {self.told[id(function)]}"
        self.told[id(function)] = len(self.told)
        held = (function.__defaults__, function.__kwdefaults__, _closed_over(function))
        return f"{self.of(function.__code__)} with {self.of(held)}{self._read(function) if own else ''}"

    def _read(self, function: types.FunctionType) -> str:
        """What it reads from its module; what it writes there is its own affair."""
        steps, there = list(_steps(function.__code__)), function.__globals__
        written = {step.argval for step in steps if step.opname == "STORE_GLOBAL"}
        names = dict.fromkeys(step.argval for step in steps if step.opname == "LOAD_GLOBAL")
        before, self.reads = self.reads, True
        try:
            return self.of({name: there[name] for name in names if name in there and name not in written})
        finally:
            self.reads = before

    def _class(self, cls: type) -> str:
        """What objects of a class do and share."""
        shared = {}
        for each in cls.__mro__:
            for name, value in vars(each).items() if _is_own(each.__module__) else ():
                value = getattr(value, "fget", None) or getattr(value, "__func__", value)
                if (name == "__call__" or not name.startswith("__")) and isinstance(value, types.FunctionType | _PLAIN):
                    shared[f"{each.__qualname__}.{name}"] = value
        return self.of(shared)

    def _held(self, value: Any) -> str:
        """What an object holds: its fields, or else what a copy of it is made from."""
        if dataclasses.is_dataclass(value):
            hidden = ("parent", "name") if isinstance(value, nn.Module) else ()
            names = [field.name for field in dataclasses.fields(value) if field.name not in hidden]
            return self.of({name: getattr(value, name, None) for name in names})
        if self.reads:
            return "something"
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


def _is_own(module: str) -> bool:
    """Whether a module is the user's, not one of Python or of an installed package."""
    top = module.partition(".")[0]
    if module == "__main__":  # of a notebook or a prompt, whichever program runs it
        return True
    if top == "dgmzoo" or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _steps(code: types.CodeType) -> Iterator[dis.Instruction]:
    """The instructions of a function and of those that are defined in it."""
    yield from dis.get_instructions(code)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _steps(inner)


def _closed_over(function: types.FunctionType) -> list[Any]:
    """Values from the functions around it, but for those that were not there yet."""
    found = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            found.append(cell.cell_contents)
    return found


def _path(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
