"""Changing an experiment by paths such as `model.latent_dim`, and reading it back as plain values."""

import dataclasses
import difflib
import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import typeguard

from dgmzoo.config import function_identity
from dgmzoo.config.experiment import Experiment, load
from dgmzoo.config.names import choices, family
from dgmzoo.config.training import LENGTHS, Training
from dgmzoo.model.module_tree import members, with_members


def fields(part: Any) -> dict[str, dataclasses.Field]:
    """The fields of a config dataclass or of a Linen module that a user may set."""
    own = ("parent", "name") if isinstance(part, nn.Module) else ()
    return {
        field.name: field
        for field in dataclasses.fields(part)
        if field.name not in own and field.metadata.get("cli", True)
    }


def is_part(value: Any) -> bool:
    """Whether a value has fields of its own to set."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def type_hints(kind: type) -> dict[str, Any]:
    """Field -> type, the names of each class looked up in the module that it was made in, if another has its name now."""
    found = {}
    for cls in reversed(kind.__mro__):
        methods = (inspect.unwrap(each) for each in vars(cls).values() if inspect.isfunction(each))
        names = next((each.__globals__ for each in methods if each.__globals__.get("__name__") == cls.__module__), None)
        own = type(cls.__name__, (), {"__annotations__": vars(cls).get("__annotations__", {})})
        found |= typing.get_type_hints(own, names or vars(sys.modules[cls.__module__]), include_extras=True)
    return found


def flatten(part: Any, path: str = "") -> dict[str, Any]:
    """Path -> plain value (JSON's), with the class's name at the path of each part."""
    flat = {}
    for name in fields(part):
        value, here = getattr(part, name), f"{path}.{name}" if path else name
        if isinstance(part, Experiment) and name == "extra_losses":
            flat[here] = {key: function_identity.named(term) for key, term in value.items()}
        else:
            flat |= _flat(value, here)
    return flat


def _flat(value: Any, path: str) -> dict[str, Any]:
    """A field's value, or a member of one, as `flatten` tells it."""
    if is_part(value):
        named = {cls: short for short, cls in (choices(value) or {}).items()}
        kept = {f"{path}.{name}": plain(given) for name, given in _set_by_hand(value).items()}
        return {path: named.get(type(value), type(value).__name__)} | flatten(value, path) | kept
    if items := parts_in(value):
        flat = {path: [str(key) for key in items]}
        for key, item in items.items():
            flat |= _flat(item, f"{path}.{key}")
        return flat
    return {path: plain(value)}


def parts_in(value: Any) -> dict[Any, Any] | None:
    """Key or place -> member of a tuple, list or mapping that holds parts, at any depth; None for any other value.

    Raises:
      ValueError: a key cannot stand in a path.
    """
    items = members(value)
    if not items or not any(is_part(item) or parts_in(item) for item in items.values()):
        return None
    for key in items:
        if not (isinstance(key, int) or str(key).isidentifier()):
            raise ValueError(f"expected parts with keys of letters, digits and _, to be named in paths, got {key!r}")
    return items


def _set_by_hand(part: Any) -> dict[str, Any]:
    """Fields of a module that are not a user's to set (a layer's `units`, which its entry sets), where they differ from their defaults."""
    if not isinstance(part, nn.Module):
        return {}
    hidden = [field for field in dataclasses.fields(part) if not field.metadata.get("cli", True)]
    return {field.name: own for field in hidden if (own := getattr(part, field.name, None)) != field.default}


def difference(base: Any, changed: Any) -> dict[str, Any]:
    """The overrides that turn one experiment, or one part of one, into the other, as plain values."""
    before, after = flatten(base), flatten(changed)
    for path, value in after.items():
        part = _at(changed, path)
        named = choices(part)
        if (
            named and value in named and before.get(path) != value
        ):  # a part chosen by name: compare with its class's own defaults
            stay = {f"{path}.{name}" for name in _set_by_hand(part)}
            kept = {key: old for key, old in before.items() if not key.startswith(f"{path}.") or key in stay}
            defaults = {f"{path}.{key}": default for key, default in flatten(named[value]()).items()}
            before = kept | defaults
    return {path: value for path, value in after.items() if before.get(path, dataclasses.MISSING) != value}


class Origin(NamedTuple):
    """Where an experiment comes from: what is needed to build it again."""

    name: str | None  # None where it was built in Python and no name and overrides give it
    overrides: dict[str, Any]
    base: Experiment | None  # as loaded by that name


def origin(experiment: Experiment) -> Origin:
    """The name and overrides that give this experiment."""
    if experiment.name and experiment.data.arrays is None:
        base = load(experiment.name)
        changes = difference(base, experiment)
        try:
            if flatten(override(base, changes)) == flatten(experiment):
                return Origin(experiment.name, changes, base)
        except ValueError:
            pass  # a part of the user's own, which no override names
    return Origin(None, {}, None)


def override(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """The experiment with some fields changed.

    Args:
      overrides: path -> value, such as `{"model.latent_dim": 20, "objective": "iwae"}`. Setting one length of training
        clears the others.

    Raises:
      ValueError: an unknown path (the nearest are named) or a value of the wrong type.
    """
    if not overrides:
        return experiment
    tree: dict = {}
    for path, value in overrides.items():
        node = tree
        for name in path.replace("-", "_").split("."):
            node = node.setdefault(name, {})
        node[_VALUE] = value
    changed = tuple(path.replace("-", "_") + "." for path in overrides)
    said = [words for words in experiment.corrections if not f"{words.partition(':')[0]}.".startswith(changed)]
    return _rebuild(dataclasses.replace(experiment, corrections=tuple(said)), tree, "")


_VALUE = object()  # the key under which a path's own value stands in the tree of overrides


def _rebuild(part: Any, tree: dict, path: str) -> Any:
    known, hints = fields(part), type_hints(type(part))
    changes: dict[str, Any] = {}
    for name, below in tree.items():
        here = f"{path}.{name}" if path else name
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise ValueError(
                f"expected a field of {type(part).__name__} ({', '.join(known)}), got {here!r}"
                + (f"; did you mean {' or '.join(near)}?" if near else "")
            )
        changes[name] = _changed(getattr(part, name), hints[name], below, here)
    if isinstance(part, Training):
        changes = {**dict.fromkeys(LENGTHS, None), **changes} if set(changes) & set(LENGTHS) else changes
    return part.clone(**changes) if isinstance(part, nn.Module) else dataclasses.replace(part, **changes)


def _changed(value: Any, hint: Any, below: dict, path: str) -> Any:
    """A field's value, or a member of one, with its own value and those below it changed."""
    if _VALUE in below:
        value = _coerce(below[_VALUE], value, hint, path)
    deeper = {key: child for key, child in below.items() if key is not _VALUE}
    if not deeper:
        return value
    if is_part(value):
        return _rebuild(value, deeper, path)
    items = {str(key): key for key in parts_in(value) or ()}
    if unknown := [key for key in deeper if key not in items]:
        raise ValueError(
            f"expected {f'one of {list(items)}' if items else 'no fields'} below {path!r}, got {path}.{unknown[0]!r}"
        )
    held = members(value)
    for name, child in deeper.items():
        item = held[items[name]]
        held[items[name]] = _changed(
            item, nn.Module if isinstance(item, nn.Module) else type(item), child, f"{path}.{name}"
        )
    return with_members(value, held)


def _coerce(value: Any, current: Any, hint: Any, path: str) -> Any:
    named = choices(current)
    if named and isinstance(value, str):
        if value not in named:
            raise ValueError(f"expected {path} one of {', '.join(named)}, got {value!r}")
        kept = {field.name for field in dataclasses.fields(named[value])}
        return named[value](**{name: given for name, given in _set_by_hand(current).items() if name in kept})
    if is_part(current) and value == type(current).__name__:
        return current
    if (items := parts_in(current)) and value == [str(key) for key in items]:
        return current
    if typing.get_origin(hint) is type and isinstance(value, str):
        return family(value)
    value = _tuples(value)
    try:
        if isinstance(value, bool) and hint in (int, float):
            raise typeguard.TypeCheckError("is a bool")
        return typeguard.check_type(value, hint)
    except typeguard.TypeCheckError:
        raise ValueError(f"expected {path} of type {_readable(hint)}, got {value!r}") from None


def _at(part: Any, path: str) -> Any:
    for name in path.split("."):
        items = members(part)
        part = getattr(part, name) if items is None else {str(key): item for key, item in items.items()}[name]
    return part


def plain(value: Any) -> Any:
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    named = type(value) if callable(value) and not hasattr(value, "__qualname__") else value  # a repr tells addresses
    return f"{named.__module__}.{named.__qualname__}" if hasattr(named, "__qualname__") else repr(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
