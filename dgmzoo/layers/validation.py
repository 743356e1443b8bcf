"""`check_entry`, `check_whole`: check the fields of a model at construction, for example that sizes are positive."""

import dataclasses
import operator

import flax.linen as nn


def check_whole(name: str, value: int, least: int = 1) -> int:
    """A size as a Python integer, so that a NumPy integer is accepted and stored as a plain number.

    >>> import numpy as np
    >>> check_whole("units", np.int64(3))
    3

    Raises:
      ValueError: not a whole number of at least `least`.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"expected {name} to be an integer >= {least}, got {value!r}")
    return operator.index(value)


def check_entry(module: nn.Module, sizes: tuple[str, ...] = ()) -> None:
    """Check the fields of an entry when it is constructed.

    Args:
      sizes: names of fields that must be integers of at least 1.

    Raises:
      ValueError: a size is below 1, `shape` has a size below 1, `labels` is negative, or two fields hold the same submodule.

    >>> class Entry(nn.Module):
    ...     units: int
    >>> check_entry(Entry(0), sizes=("units",))
    Traceback (most recent call last):
    ValueError: expected Entry.units to be an integer >= 1, got 0
    """
    name = type(module).__name__
    for field in sizes:
        object.__setattr__(module, field, check_whole(f"{name}.{field}", getattr(module, field)))
    if hasattr(module, "labels"):
        object.__setattr__(module, "labels", check_whole(f"{name}.labels", module.labels, least=0))
    shape = getattr(module, "shape", None)
    if shape is not None and any(size < 1 for size in shape):
        raise ValueError(f"expected {name}.shape of sizes >= 1, got {shape}")
    name_by_id: dict[int, str] = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name, None)
        if field.name == "parent" or not isinstance(value, nn.Module):
            continue
        if id(value) in name_by_id:
            raise ValueError(
                f"expected a new submodule in {name}.{field.name}, got the object of {name}.{name_by_id[id(value)]}, "
                "which would tie their parameters; construct one for each field"
            )
        name_by_id[id(value)] = field.name


def check_likelihood_without_head(module: nn.Module) -> None:
    """Refuse a likelihood with settings of its head, in an entry that computes the unconstrained parameters itself.

    Raises:
      ValueError: the likelihood needs its own head (random weights, or one scale for all features).
    """
    if module.likelihood.needs_own_head:
        raise ValueError(
            f"expected a likelihood without settings of its head in {type(module).__name__}, which computes the "
            f"unconstrained parameters itself, got {module.likelihood}; set the model's weights, not the likelihood's"
        )
