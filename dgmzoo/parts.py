"""What a Linen module holds: its fields, and what tuples, lists and mappings among them hold."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax


def held(module: nn.Module, path: str = "model") -> list[tuple[str, Any]]:
    """What the fields of a module hold, with its paths, such as `model.latent` or `model.latents.0`."""
    found = []
    mapped(module, lambda where, value: found.append((where, value)) or value, path)
    return found


def mapped(module: nn.Module, change: Callable[[str, Any], Any], path: str = "model") -> nn.Module:
    """The module with `change(path, value)` in place of all that its fields hold; itself where that changes nothing."""
    changes = {}
    for field in dataclasses.fields(module):
        if field.name == "parent":
            continue
        before, where = getattr(module, field.name, None), f"{path}.{field.name}"
        after = jax.tree.map_with_path(
            lambda keys, value, where=where: change(_joined(where, keys), value), before, is_leaf=_is_one
        )
        leaves = (jax.tree.leaves(value, is_leaf=_is_one) for value in (before, after))
        if any(old is not new for old, new in zip(*leaves, strict=True)):
            changes[field.name] = after
    return module.clone(**changes) if changes else module


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


def _joined(path: str, keys: tuple) -> str:
    return ".".join([path, *(jax.tree_util.keystr((key,), simple=True) for key in keys)])


def _is_one(value: Any) -> bool:
    return not isinstance(value, tuple | list | Mapping)
