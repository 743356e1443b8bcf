"""What every entry checks of its fields and of its input."""

import dataclasses

import flax.linen as nn


def check_entry(module: nn.Module, sizes: tuple[str, ...] = ()) -> None:
    """Refuse sizes below 1, an impossible event shape, and one submodule in two fields.

    Raises:
      ValueError: with the module's and the field's name.
    """
    name = type(module).__name__
    for field in sizes:
        value = getattr(module, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"expected {name}.{field} to be an integer >= 1, got {value!r}")
    shape = getattr(module, "shape", None)
    if shape is not None and any(size < 1 for size in shape):
        raise ValueError(f"expected {name}.shape of sizes >= 1, got {shape}")
    seen: dict[int, str] = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name, None)
        if field.name == "parent" or not isinstance(value, nn.Module):
            continue
        if id(value) in seen:
            raise ValueError(
                f"expected a submodule of its own in {name}.{field.name}, got the object of {name}.{seen[id(value)]}, "
                "which would tie their parameters; build one for each field"
            )
        seen[id(value)] = field.name


def check_has_no_head(module: nn.Module) -> None:
    """Refuse a likelihood whose fields concern its head, where the entry computes the unconstrained parameters itself.

    Raises:
      ValueError: random weights are the entry's to set.
    """
    if module.likelihood.has_own_head:
        raise ValueError(
            f"expected a likelihood with a plain head in {type(module).__name__}, which makes its own, got {module.likelihood}; "
            "set the model's weights, not the likelihood's"
        )
