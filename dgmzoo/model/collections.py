"""`reduce_over_devices`: merge the Flax collections of all devices, such as batch statistics, after a training step.

Every device starts a step with the same collections and changes them with its own rows. A class attribute of the entry,
or of a module among its fields, names the reduction that merges the changes of a collection:

    class Quantizer(nn.Module):
        collections = {"codebook": "equal"}

| reduction | the collection after a step |
| --- | --- |
| mean | mean over the devices (moments of activations) |
| sum | the old value plus the changes of all devices (counts) |
| equal | as it is: the module makes it equal itself, with `batch_sum` or `batch_mean` of `dgmzoo.reparam.collectives` |
| local | as it is, and each device keeps its own (persistent chains): the collection `local` alone |

Flax's `batch_stats` defaults to "mean"; `nn.BatchNorm` takes its moments over all devices in the forward pass, see
`dgmzoo.model.batch_norm`. `prepared` defaults to "equal". An objective declares its own collections in the same way.

Micro-batches (`training.accumulate`) run in sequence: the collections pass from one to the next, and are reduced over
the devices once, after the last one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.model.contract import Variables
from dgmzoo.model.module_tree import parts

LOCAL = "local"  # the collection with an instance for each device; all others are replicated
REDUCTIONS = ("mean", "sum", "equal", LOCAL)
DEFAULTS = {"batch_stats": "mean", "prepared": "equal", LOCAL: LOCAL}


def declared(module: nn.Module) -> dict[str, str]:
    """Collection -> reduction, by the class attributes `collections` of a module and of the modules among its fields.

    >>> class Quantizer(nn.Module):
    ...     collections = {"codebook": "equal"}
    >>> declared(Quantizer())["codebook"]
    'equal'

    Raises:
      ValueError: an unknown reduction, two reductions of one collection, or another collection than "local" is local.
    """
    reductions = dict(DEFAULTS)
    for path, part in parts(module):
        add_declaration(reductions, path, getattr(part, "collections", {}))
    return reductions


def add_declaration(reductions: dict[str, str], owner: str, declaration: Mapping[str, str]) -> None:
    """Add the declaration of one module or objective, named `owner` in messages.

    >>> reductions = {}
    >>> add_declaration(reductions, "objective", {"signal": "equal"})
    >>> reductions
    {'signal': 'equal'}

    Raises:
      ValueError: as `declared`.
    """
    if not isinstance(declaration, Mapping):
        raise ValueError(f"expected {owner}.collections as {{collection: reduction}}, got {declaration!r}")
    for collection, reduction in declaration.items():
        if reduction not in REDUCTIONS:
            raise ValueError(f"expected {owner}.collections[{collection!r}] in {REDUCTIONS}, got {reduction!r}")
        if (reduction == LOCAL) != (collection == LOCAL):
            raise ValueError(
                f'expected the reduction "local" of the collection "local" alone, got {collection!r}: {reduction!r} of '
                f'{owner}; keep what each device has for itself in self.variable("local", ...)'
            )
        if reductions.setdefault(collection, reduction) != reduction and collection not in DEFAULTS:
            raise ValueError(
                f"expected one reduction of the collection {collection!r}, got {reductions[collection]!r} and "
                f"{reduction!r} of {owner}"
            )
        reductions[collection] = reduction


def check_declared(owner: str, reductions: Mapping[str, str], before: Variables, updates: Variables) -> None:
    """Refuse a collection that changed in training and has no reduction.

    Args:
      owner: name of the class that should declare it.
      before: variables at the start; a leaf that did not change is the same object in `updates`.

    Raises:
      ValueError: with the attribute to set.
    """
    for collection, tree in updates.items():
        if collection not in reductions and _has_changed(before.get(collection), tree):
            raise ValueError(
                f"expected the reduction over devices of the collection {collection!r}, which changes in training, got "
                f'none; set the class attribute collections = {{"{collection}": "mean"}} of {owner} (or "sum", or "equal" '
                "where the module makes it equal on all devices with batch_sum or batch_mean)"
            )


def reduce_over_devices(
    reductions: Mapping[str, str],
    before: Variables,
    after: Variables,
    sum_over_devices: Callable[[Any], Any],
    num_devices: int,
) -> dict[str, Any]:
    """The collections after a step, brought together over devices.

    Args:
      sum_over_devices: all-reduce of a tree of arrays.

    >>> tree = {"counts": {"n": jnp.array([5.0])}}  # two devices, each of which changed 2 to 5
    >>> reduced = reduce_over_devices({"counts": "sum"}, {"counts": {"n": jnp.array([2.0])}}, tree, lambda x: 2 * x, 2)
    >>> reduced["counts"]["n"].tolist()
    [8.0]

    Raises:
      ValueError: the mean of whole numbers or of booleans.
    """

    def mean(path, old, new):
        if new is old:
            return new
        if not jnp.issubdtype(new.dtype, jnp.floating):
            raise ValueError(
                f"expected floating-point numbers where the mean over devices is taken, got {new.dtype} at "
                f'{jax.tree_util.keystr(path)}; declare the collection "sum" or "equal", or keep it in "local"'
            )
        return sum_over_devices(new) / num_devices

    def total(path, old, new):
        return new if new is old else old + sum_over_devices(new - old)

    functions = {"mean": mean, "sum": total}
    reduced = dict(after)
    for collection, tree in after.items():
        if (function := functions.get(reductions.get(collection, "equal"))) is not None:
            reduced[collection] = jax.tree.map_with_path(function, before[collection], tree)
    return reduced


def _has_changed(before: Any, after: Any) -> bool:
    old, new = jax.tree.leaves(before), jax.tree.leaves(after)
    return len(old) != len(new) or any(a is not b for a, b in zip(old, new, strict=True))
