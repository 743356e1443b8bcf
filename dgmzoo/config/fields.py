"""`fields`: the fields of a config or module that users can set; `axis_of`: the kind of class that a field holds."""

import dataclasses
import inspect
import sys
import typing
from typing import Any

import flax.linen as nn

from dgmzoo.config.names import AXES, BASES


def fields(part: Any) -> dict[str, dataclasses.Field]:
    """Name -> field of a config dataclass or a Linen module, without the fields that are not a user's to set."""
    internal = ("parent", "name") if isinstance(part, nn.Module) else ()
    return {
        field.name: field
        for field in dataclasses.fields(part)
        if field.name not in internal and field.metadata.get("cli", True)
    }


def is_part(value: Any) -> bool:
    """True if a value has fields that overrides can set."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def type_hints(kind: type) -> dict[str, Any]:
    """Field name -> type.

    Names in the annotations of a class are looked up among the globals of its own methods: another module may have taken
    the name of the class's module since.
    """
    hints = {}
    for cls in reversed(kind.__mro__):
        methods = (inspect.unwrap(method) for method in vars(cls).values() if inspect.isfunction(method))
        spaces = (method.__globals__ for method in methods if method.__globals__.get("__name__") == cls.__module__)
        space = next(spaces, None) or vars(sys.modules[cls.__module__])
        annotated = type(cls.__name__, (), {"__annotations__": vars(cls).get("__annotations__", {})})
        hints |= typing.get_type_hints(annotated, space, include_extras=True)
    return hints


def axis_of(kind: type, name: str) -> str | None:
    """The axis of the registry that a field of a class is chosen from, by its metadata or declared type; None: none.

    >>> from dgmzoo import VAE
    >>> axis_of(VAE, "latent"), axis_of(VAE, "encoder"), axis_of(VAE, "latent_dim")
    ('latent', 'network', None)
    """
    if axis := fields(kind)[name].metadata.get("axis"):
        return axis
    classes, hints = [], [type_hints(kind).get(name)]
    while hints:
        hint = hints.pop()
        (classes.append if isinstance(hint, type) else hints.extend)(
            hint
            if isinstance(hint, type)
            else [arg for arg in typing.get_args(hint) if typing.get_origin(hint) is not type]
        )
    axes = (axis for axis in AXES if axis not in ("network", "family"))
    return next((axis for axis in axes for cls in classes if issubclass(cls, BASES[axis])), None)
