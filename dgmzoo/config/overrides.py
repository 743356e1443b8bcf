"""`override`: change fields of an experiment by their paths; `flatten`: list the values of all fields by path."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpyro.distributions as dist
import typeguard

from dgmzoo.config.experiment import Experiment
from dgmzoo.config.experiment_file import written_name
from dgmzoo.config.fields import axis_of, fields, is_part, type_hints
from dgmzoo.config.function_identity import identity
from dgmzoo.config.names import AXES, FAMILIES, axis_of_value, build, family
from dgmzoo.config.training import LENGTHS, Training
from dgmzoo.layers.posteriors.base import FactorizedPosterior
from dgmzoo.layers.priors.base import StandardPrior
from dgmzoo.model.module_tree import members, with_members


def flatten(part: Any, path: str = "") -> dict[str, Any]:
    """Path -> plain value (as in JSON) of every field, with the class's name at the path of each part.

    >>> from dgmzoo.objectives.elbo import ELBO
    >>> flatten(ELBO(beta=2.0))["beta"]
    2.0
    """
    flat = {}
    for name in fields(part):
        value, field_path = getattr(part, name), f"{path}.{name}" if path else name
        if isinstance(part, Experiment) and name == "extra_losses":
            flat[field_path] = {key: _identity(loss) for key, loss in value.items()}
        elif isinstance(part, Training) and callable(value):  # an optimizer of the user's own
            flat[field_path] = _identity(value)
        else:
            flat |= _flat(value, field_path, axis_of(type(part), name))
    return flat


NO_IDENTITY = "no identity: "
"""Prefix of the reason that stands in place of a function's identity where it has none."""


def _identity(function: Any) -> str:
    try:
        return identity(function)
    except ValueError as reason:
        return f"{NO_IDENTITY}{reason}"


def _flat(value: Any, path: str, axis: str | None) -> dict[str, Any]:
    """The flat form of a field's value, or of a member of one."""
    if is_part(value):
        axis = axis or axis_of_value(value)
        names = {cls: name for name, cls in AXES[axis].items()} if axis else {}
        internal = {f"{path}.{name}": plain(own) for name, own in _set_by_entry(value).items()}
        return {path: names.get(type(value), type(value).__name__)} | flatten(value, path) | internal
    if items := parts_in(value):
        flat = {path: [str(key) for key in items]}
        for key, item in items.items():
            flat |= _flat(item, f"{path}.{key}", axis)
        return flat
    return {path: plain(value)}


def parts_in(value: Any) -> dict[Any, Any] | None:
    """Key or index -> member, of a tuple, list or mapping that holds parts at any depth; None for any other value.

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


def _set_by_entry(part: Any) -> dict[str, Any]:
    """Fields of a module that its entry sets and not the user (a layer's `units`), where they differ from their defaults."""
    if not isinstance(part, nn.Module):
        return {}
    internal = [field for field in dataclasses.fields(part) if not field.metadata.get("cli", True)]
    return {field.name: value for field in internal if (value := getattr(part, field.name, None)) != field.default}


def _taken_over(part: Any) -> dict[str, Any]:
    """Fields of a part that another part of its axis takes over (the family, where `learned` replaces `standard`)."""
    if not is_part(part):
        return {}
    return {
        field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.metadata.get("taken_over")
    }


def source(experiment: Experiment) -> tuple[str | None, dict[str, Any]]:
    """The name and the overrides that build this experiment again; (None, {}) if it was built or changed in Python.

    >>> from dgmzoo.config.experiment import load_experiment
    >>> source(override(load_experiment("vae/digits"), {"model.latent_dim": 3}))
    ('vae/digits', {'model.latent_dim': 3})
    """
    origin = experiment.origin
    if origin is None or not all(map(_has_plain_form, origin.overrides.values())):
        return None, {}
    if experiment.data.arrays is not origin.base.data.arrays:  # an experiment file may make arrays of its own
        return None, {}
    made = flatten(origin.base) if origin.flat is None else origin.flat
    if made != flatten(experiment):
        return None, {}  # a field was replaced in Python since
    return origin.base.name, plain(origin.overrides)


def _has_plain_form(value: Any) -> bool:
    """True if `override` understands `plain(value)`, unlike that of arrays, functions and modules."""
    if isinstance(value, list | tuple):
        return all(map(_has_plain_form, value))
    if value is None or isinstance(value, bool | int | float | str):
        return True
    return isinstance(value, type) and value in FAMILIES.values()


def override(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """The experiment with some fields changed.

    >>> from dgmzoo.config.experiment import load_experiment
    >>> override(load_experiment("vae/digits"), {"objective": "iwae", "training.steps": 10}).training.epochs is None
    True

    Args:
      overrides: path -> value, such as `{"model.latent_dim": 20, "objective": "iwae"}`. Setting one length of training
        clears the others.

    Raises:
      ValueError: an unknown path (the nearest are named), or a value of the wrong type.
    """
    if not overrides:
        return experiment
    if wrong := [path for path in overrides if not isinstance(path, str)]:
        raise ValueError(f"expected paths such as 'model.latent_dim', got {wrong[0]!r}")
    overrides = {path.replace("-", "_"): value for path, value in overrides.items()}
    tree: dict = {}
    for path, value in overrides.items():
        node = tree
        for name in path.split("."):
            node = node.setdefault(name, {})
        node[_VALUE] = value
    changed = _rebuild(experiment, tree, "")
    if source(experiment)[0] is None:
        return dataclasses.replace(changed, origin=None)
    effective = {
        path: value for path, value in overrides.items() if not _names_the_present_part(experiment, path, value)
    }
    merged = _merged(experiment.origin.overrides, effective)
    return dataclasses.replace(changed, origin=experiment.origin._replace(overrides=merged, flat=flatten(changed)))


def _names_the_present_part(experiment: Experiment, path: str, value: Any) -> bool:
    """True if an override only repeats the present part: the name of its class, or the keys of its members."""
    part: Any = experiment
    for name in path.split("."):  # a part that another override chooses may have a field that this one has not
        items = members(part)
        part = getattr(part, name, None) if items is None else {str(key): item for key, item in items.items()}.get(name)
    if items := parts_in(part):
        return value == [str(key) for key in items]
    return is_part(part) and value == type(part).__name__


def _merged(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Both sets of overrides as one. A part that is chosen anew, and a new length of training, replace earlier ones."""
    lengths = {f"training.{name}" for name in LENGTHS}
    replaced = set(later) | (lengths if lengths & set(later) else set())
    below = tuple(f"{path}." for path in later)
    kept = {path: value for path, value in earlier.items() if path not in replaced and not path.startswith(below)}
    return kept | dict(later)


_VALUE = object()  # the key of a path's own value in a tree of overrides


def _rebuild(part: Any, tree: dict, path: str) -> Any:
    """A part with the changes of a tree of overrides."""
    known, hints = fields(part), type_hints(type(part))
    changes: dict[str, Any] = {}
    for name, subtree in tree.items():
        field_path = f"{path}.{name}" if path else name
        if name not in known:
            if advice := getattr(type(part), "former_fields", {}).get(name):
                raise ValueError(f"expected a field of {type(part).__name__}, got {field_path!r}; {advice}")
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise ValueError(
                f"expected a field of {type(part).__name__} ({', '.join(known)}), got {field_path!r}"
                + (f"; did you mean {' or '.join(near)}?" if near else "")
            )
        value, axis = getattr(part, name), axis_of(type(part), name)
        changes[name] = _changed(value, hints[name], axis, subtree, field_path)
    if isinstance(part, Training) and set(changes) & set(LENGTHS):
        changes = {**dict.fromkeys(LENGTHS, None), **changes}
    return part.clone(**changes) if isinstance(part, nn.Module) else dataclasses.replace(part, **changes)


def _changed(value: Any, hint: Any, axis: str | None, tree: dict, path: str) -> Any:
    """A field's value, or a member of one, with the overrides of its own path and of the paths below it."""
    if _VALUE in tree:
        value = _coerce(tree[_VALUE], value, hint, axis or axis_of_value(value), path)
    subtrees = {key: subtree for key, subtree in tree.items() if key is not _VALUE}
    if not subtrees:
        return value
    if is_part(value):
        return _rebuild(value, subtrees, path)
    keys = {str(key): key for key in parts_in(value) or ()}
    if unknown := [key for key in subtrees if key not in keys]:
        raise ValueError(
            f"expected {f'one of {list(keys)}' if keys else 'no fields'} below {path!r}, got {path}.{unknown[0]!r}"
        )
    items = members(value)
    for name, subtree in subtrees.items():
        item = items[keys[name]]
        kind = nn.Module if isinstance(item, nn.Module) else type(item)
        items[keys[name]] = _changed(item, kind, axis, subtree, f"{path}.{name}")
    return with_members(value, items)


def _coerce(value: Any, current: Any, hint: Any, axis: str | None, path: str) -> Any:
    """An override's value as the field takes it: a part by its name, a family by its name, or a checked plain value."""
    if is_part(current) and value == type(current).__name__:
        return current
    if axis and isinstance(value, str) and not parts_in(current):
        return build(axis, value, path, **_set_by_entry(current), **_taken_over(current))
    if axis in ("prior", "posterior") and isinstance(value, type) and issubclass(value, dist.Distribution):
        return {"prior": StandardPrior, "posterior": FactorizedPosterior}[axis](value)
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


def plain(value: Any) -> Any:
    """A value as JSON has it; classes and functions by name.

    >>> plain({"hidden": (200, 200)})
    {'hidden': [200, 200]}
    """
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    named = type(value) if callable(value) and not hasattr(value, "__qualname__") else value  # a repr holds an address
    return f"{written_name(named.__module__)}.{named.__qualname__}" if hasattr(named, "__qualname__") else repr(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
