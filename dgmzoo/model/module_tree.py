"""What a Linen module holds: its fields, and what tuples, lists and mappings among them hold."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

Change = Callable[[str, Any], Any]  # (path, value) -> value


def held(module: nn.Module, path: str = "model") -> list[tuple[str, Any]]:
    """What the fields of a module hold, with its paths, such as `model.latent` or `model.latents.0`."""
    found = []
    mapped(module, lambda where, value: found.append((where, value)) or value, path)
    return found


def mapped(module: nn.Module, change: Change, path: str = "model") -> nn.Module:
    """The module with `change(path, value)` in place of all that its fields hold; itself where that changes nothing."""
    changes = {}
    for field in dataclasses.fields(module):
        if field.name != "parent":
            before = getattr(module, field.name, None)
            after = _walked(before, change, f"{path}.{field.name}")
            changes |= {} if after is before else {field.name: after}
    return module.clone(**changes) if changes else module


def _walked(value: Any, change: Change, path: str) -> Any:
    if (items := members(value)) is None:
        return change(path, value)
    after = {key: _walked(item, change, f"{path}.{key}") for key, item in items.items()}
    return value if all(after[key] is item for key, item in items.items()) else with_members(value, after)


def members(value: Any) -> dict[Any, Any] | None:
    """Key or place -> item of a tuple, list or mapping, in its order; None for any other value."""
    if isinstance(value, Mapping):
        return dict(value)
    return dict(enumerate(value)) if isinstance(value, tuple | list) else None


def with_members(value: Any, items: Mapping[Any, Any]) -> Any:
    """A tuple, list or mapping of the same kind with other items."""
    if isinstance(value, Mapping):
        return dict(items)
    return type(value)(*items.values()) if hasattr(value, "_fields") else type(value)(items.values())


def parts(module: nn.Module, path: str = "model") -> list[tuple[str, nn.Module]]:
    """A module and those that its fields hold, at any depth, with their paths."""
    found = [(path, module)]
    for where, value in held(module, path):
        if isinstance(value, nn.Module):
            found += parts(value, where)
    return found


def has_random_weights(module: nn.Module) -> bool:
    """Whether a layer of the module, or of those among its fields, has random weights."""
    return any(getattr(value, "is_random", False) for _, part in parts(module) for _, value in held(part))
