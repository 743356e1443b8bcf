"""`check_modules`: refuse nnx and Equinox modules inside a Linen module, because Linen would not train them."""

import dataclasses
import functools
import inspect
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import numpyro.distributions as dist

from dgmzoo.model.module_tree import field_values, members, parts

_PLAIN = bool | int | float | complex | str | bytes | None | type | jax.Array | np.ndarray | np.generic | np.dtype


def check_modules(resolved: Any) -> None:
    """Refuse a field of the entry that holds parameters which are not those of a Linen module.

    An `nnx.Module`, an Equinox module or another object with arrays of its own would stay as it was initialized.

    Args:
      resolved: an object with the entry as `module`.

    Raises:
      ValueError: with the path and the class.
    """
    for path, part in parts(resolved.module):
        for field_path, value in field_values(part, path):
            if (foreign := foreign_module(value)) is not None:
                kind = f"{type(foreign).__module__}.{type(foreign).__qualname__}"
                raise ValueError(
                    f"expected Flax Linen modules (flax.linen.Module) and plain data in the fields of the entry, got "
                    f"{kind} in {field_path}, whose parameters would never be trained; write it as a Linen module"
                )


def foreign_module(value: Any) -> Any | None:
    """The object with arrays of its own that a value is or holds, and that is no Linen module; None for plain data.

    >>> foreign_module(nn.Dense(3)), foreign_module({"rate": 0.5, "activation": nn.tanh})
    (None, None)
    """
    return _foreign(value, set())


def _foreign(value: Any, seen: set[int]) -> Any | None:
    if isinstance(value, _PLAIN | nn.Module | dist.Distribution) or id(value) in seen:
        return None
    seen.add(id(value))
    if _is_nnx(value) or (_is_object(value) and _has_arrays(value, set())):
        return value
    return next((found for held in _held(value) if (found := _foreign(held, seen)) is not None), None)


def _held(value: Any) -> list[Any]:
    """Values that a container, a function or a dataclass holds."""
    if (items := members(value)) is not None:
        return list(items.values())
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if inspect.ismethod(value):
        return [value.__self__]
    if inspect.isfunction(value):
        return [cell.cell_contents for cell in value.__closure__ or () if _is_assigned(cell)]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return []


def _is_nnx(value: Any) -> bool:
    return any(kind.__module__.startswith("flax.nnx") for kind in type(value).__mro__)


def _is_object(value: Any) -> bool:
    """True if a value may be the module of a library: callable or a pytree node, and no function or container."""
    is_function = inspect.isroutine(value) or isinstance(value, functools.partial) or members(value) is not None
    is_compiled = type(value).__module__.partition(".")[0] in ("jax", "jaxlib")  # a compiled function
    return not is_function and not is_compiled and (callable(value) or not jax.tree_util.all_leaves([value]))


def _has_arrays(value: Any, seen: set[int]) -> bool:
    """True if an array is among the leaves or attributes of an object, at any depth."""
    if isinstance(value, jax.Array | np.ndarray):
        return True
    if isinstance(value, _PLAIN | nn.Module) or id(value) in seen:
        return False
    seen.add(id(value))
    leaves = [leaf for leaf in jax.tree.leaves(value) if leaf is not value]
    attributes = list(getattr(value, "__dict__", {}).values())
    held = leaves + attributes if members(value) is None else list(members(value).values())
    return any(_has_arrays(item, seen) for item in held)


def _is_assigned(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
