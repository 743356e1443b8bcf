"""`compatible`: replace latent layers that get wrong gradients; `check_fields`: refuse those without a replacement.

The module is traced, so that layers are judged as the model uses them, by the compatibility table
(`dgmzoo.model.compatibility`).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from dgmzoo.layers.latents.base import LatentLayer, variational_layers
from dgmzoo.model.compatibility import Needs, answer
from dgmzoo.model.contract import Model
from dgmzoo.model.functional import functional
from dgmzoo.model.module_tree import map_fields
from dgmzoo.objectives.base import Objective

Trace = Callable[[Model], None]  # trace training and evaluation of a model on shapes


class Use(NamedTuple):
    """A variational layer in use: its copy within the entry, and whether a layer above was inferred from its sample."""

    layer: LatentLayer
    path: str  # of the field that it was copied from; otherwise its own path within the entry
    below: bool
    above: bool


def check_fields(module: nn.Module, objective: Objective) -> None:
    """Refuse layers in the fields of a module whose gradient would be wrong under an objective and has no alternative.

    `compatible` knows the structure of the module, and may refuse more.

    Raises:
      ValueError: with the layer and the reason.
    """
    for path, layer in variational_layers(module):
        _check(path, layer, objective, objective.needs)


def _check(path: str, layer: LatentLayer, objective: Objective, needs: Needs) -> None:
    judgment, _ = answer(layer, needs)
    if judgment.kind == "refused":
        raise ValueError(
            f"expected an objective with exact gradients for {path}, got {type(objective).__name__}: {judgment.message}"
        )


def compatible(module: nn.Module, objective: Objective, trace: Trace) -> tuple[nn.Module, tuple[str, ...]]:
    """The module with layers for which the objective's gradients are right, and a description of each replacement.

    The module is traced, so that layers are seen as the entry uses them, whoever wrote the entry. Layers that need an
    alternative are replaced in the field that holds them, and the module is traced again.

    Raises:
      ValueError: a layer is refused, with the reason.
    """
    module, descriptions = _replaced(module, objective, uses=[])  # what needs no trace
    for _ in range(2):
        module, new = _replaced(module, objective, _uses(module, trace))
        descriptions += new
        if not new:
            return module, descriptions
    for use in _uses(module, trace):
        _refuse(use, objective, module)
    return module, descriptions


def _replaced(module: nn.Module, objective: Objective, uses: list[Use]) -> tuple[nn.Module, tuple[str, ...]]:
    """The module with alternatives in the fields that hold corrected layers, and a description of each."""
    fields = dict(variational_layers(module))
    needs = {path: _needs(objective, [use for use in uses if use.path == path]) for path in fields}
    alternatives, descriptions = {}, []
    for path, layer in fields.items():
        judgment, alternative = answer(layer, needs[path])
        if judgment.kind == "corrected" and id(layer) not in alternatives:  # a layer in two places remains one layer
            alternatives[id(layer)] = alternative
            descriptions.append(f"{path}: {judgment.reason}, so {judgment.advice}")
    for use in uses:
        judgment, _ = answer(use.layer, _needs(objective, [use]))
        if judgment.kind == "refused" or (judgment.kind == "corrected" and use.path not in fields):
            _refuse(use, objective, module)

    def change(path, value):
        if isinstance(value, nn.Module):
            return alternatives[id(value)] if id(value) in alternatives else map_fields(value, change, path)
        return value

    return (map_fields(module, change) if alternatives else module), tuple(descriptions)


def _refuse(use: Use, objective: Objective, module: nn.Module) -> None:
    judgment, _ = answer(use.layer, _needs(objective, [use]))
    if use.path in dict(variational_layers(module)):
        _check(use.path, use.layer, objective, _needs(objective, [use]))
    elif judgment.kind in ("refused", "corrected"):
        raise ValueError(
            f"expected {type(module).__name__} to hold its {type(use.layer).__name__} {use.path!r} in a field "
            f"(`latent: LatentLayer`), got one made outside of its fields: {judgment.message}"
        )


def _needs(objective: Objective, uses: list[Use]) -> Needs:
    needs = objective.needs.at_samples() if any(use.below for use in uses) else objective.needs
    return dataclasses.replace(needs, above=any(use.above for use in uses))


def _uses(module: nn.Module, trace: Trace) -> list[Use]:
    """Every variational layer that takes part in the evidence of a module."""

    def label(path, value):
        if isinstance(value, LatentLayer):
            return value.clone(template=path)
        return map_fields(value, label, path) if isinstance(value, nn.Module) else value

    uses: dict[tuple, Use] = {}

    def note(method, arguments, named, context):
        layer = context.module
        if isinstance(layer, LatentLayer) and context.method_name in ("infer", "score"):
            key, path = layer.path, layer.template or "/".join(layer.path)
            bottom_up = named.get("bottom_up", len(arguments) > 2 and arguments[2])
            below = context.method_name == "score" and bool(bottom_up)
            has_above = named.get(
                "above", arguments[1] if context.method_name == "score" and len(arguments) > 1 else None
            )
            before = uses.get(key, Use(layer, path, False, False))
            above = before.above or (context.method_name == "score" and has_above is not None)
            uses[key] = Use(layer.clone(parent=None), path, below or before.below, above)
        return method(*arguments, **named)

    with nn.intercept_methods(note):
        trace(functional(map_fields(module, label)))
    return list(uses.values())
