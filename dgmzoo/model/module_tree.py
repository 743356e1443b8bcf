"""`parts`: list the submodules of a module with their paths; `map_fields`: copy a module with changed field values.

A path names a place in the tree: `model.latent`, `model.latents.0`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

Change = Callable[[str, Any], Any]  # (path, value) -> value


def field_values(module: nn.Module, path: str = "model") -> list[tuple[str, Any]]:
    """Path and value of every field of a module; a tuple, list or mapping contributes its items.

    >>> class Block(nn.Module):
    ...     sizes: tuple[int, ...]
    ...     scale: float = 1.0
    >>> field_values(Block((3, 4)), "block")
    [('block.sizes.0', 3), ('block.sizes.1', 4), ('block.scale', 1.0), ('block.name', None)]
    """
    values = []
    map_fields(module, lambda field_path, value: values.append((field_path, value)) or value, path)
    return values


def map_fields(module: nn.Module, change: Change, path: str = "model") -> nn.Module:
    """A copy of a module with `change(path, value)` in place of each value of `field_values`.

    The module itself is returned where nothing changes, so that a module used in two places stays one.

    >>> class Block(nn.Module):
    ...     sizes: tuple[int, ...]
    >>> doubled = map_fields(Block((3, 4)), lambda path, value: 2 * value if path.startswith("model.sizes") else value)
    >>> doubled.sizes
    (6, 8)
    """
    changes = {}
    for field in dataclasses.fields(module):
        if field.name != "parent":
            before = getattr(module, field.name, None)
            after = _map_value(before, change, f"{path}.{field.name}")
            changes |= {} if after is before else {field.name: after}
    return module.clone(**changes) if changes else module


def _map_value(value: Any, change: Change, path: str) -> Any:
    if (items := members(value)) is None:
        return change(path, value)
    after = {key: _map_value(item, change, f"{path}.{key}") for key, item in items.items()}
    return value if all(after[key] is item for key, item in items.items()) else with_members(value, after)


def members(value: Any) -> dict[Any, Any] | None:
    """Key or index -> item of a tuple, list or mapping, in order; None for any other value.

    >>> members((5, 6)), members("text")
    ({0: 5, 1: 6}, None)
    """
    if isinstance(value, Mapping):
        return dict(value)
    return dict(enumerate(value)) if isinstance(value, tuple | list) else None


def with_members(value: Any, items: Mapping[Any, Any]) -> Any:
    """A tuple, list or mapping of the same kind as `value`, with the items of `items`.

    >>> with_members((5, 6), {0: 7, 1: 8})
    (7, 8)
    """
    if isinstance(value, Mapping):
        return dict(items)
    return type(value)(*items.values()) if hasattr(value, "_fields") else type(value)(items.values())


def parts(module: nn.Module, path: str = "model") -> list[tuple[str, nn.Module]]:
    """Path and module of a module and of all modules among its fields, at any depth.

    >>> [path for path, _ in parts(nn.Sequential([nn.Dense(3), nn.tanh]))]
    ['model', 'model.layers.0']
    """
    modules = [(path, module)]
    for field_path, value in field_values(module, path):
        if isinstance(value, nn.Module):
            modules += parts(value, field_path)
    return modules


def has_random_weights(module: nn.Module) -> bool:
    """True if a field of the module, or of a module below it, holds random weights.

    >>> has_random_weights(nn.Dense(3))
    False
    """
    return any(getattr(value, "is_random", False) for _, part in parts(module) for _, value in field_values(part))
