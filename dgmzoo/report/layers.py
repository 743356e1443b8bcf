"""What a variational layer says of its own units: what is shrunk, what is dead, and what shapes were learned."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Variables
from dgmzoo.model.module_tree import parts
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.report import plots

_DEAD = 0.01  # largest probability over examples of not being zero


def shrunk_units(shrinkage: np.ndarray) -> np.ndarray:
    """Which units of a horseshoe layer `[U]` are shrunk by more than half, on average over examples `[N, U]`."""
    return shrinkage.mean(0) > 0.5


def dead_units(alive: np.ndarray) -> np.ndarray:
    """Which units of a rectified layer `[U]` are zero for every example, of probabilities `[N, U]` of not being zero."""
    return alive.max(0) < _DEAD


def prior_densities(module: nn.Module, variables: Variables, grid: np.ndarray) -> dict[str, np.ndarray]:
    """Layer -> the density of its learned prior at points `grid [N]`, `[N, U]`; those with a density of each unit."""
    layers = {path.partition(".")[2].replace(".", "_"): part for path, part in parts(module) if hasattr(part, "infer")}
    only = next(iter(layers.values())) if len(layers) == 1 else None  # an entry makes its layers of it
    found = {}
    for name, tree in variables["params"].items():
        layer = layers.get(name, only)
        if (
            hasattr(layer, "density")
            and not _is_discrete(layer)
            and isinstance(tree, Mapping)
            and "prior_parameters" in tree
        ):
            layer = layer.clone(
                units=tree["prior_parameters"]["unconstrained"].shape[0], learned_prior=True, parent=None
            )
            found[name] = np.asarray(layer.apply({"params": tree}, jnp.asarray(grid, jnp.float32), method="density"))
    return found


def _is_discrete(layer: nn.Module) -> bool:
    return getattr(getattr(getattr(layer, "prior", None), "support", None), "is_discrete", False)


def figures(module: nn.Module, variables: Variables, codes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Caption -> SVG.

    Args:
      codes: layer -> parameters of q(z | x) of some examples, `[N, U, ...]`.
    """
    drawn = {}
    for name, q in codes.items():
        if "shrinkage" in q:
            num, units = int(shrunk_units(q["shrinkage"]).sum()), q["shrinkage"].shape[1]
            caption = f"Shrinkage 1 / (1 + D) of the units of {name}: {num} of {units} are shrunk by more than half"
            curves = {"shrinkage": q["shrinkage"].mean(0), "D (median)": np.median(q["D"], 0)}
            drawn[caption] = plots.sorted_units(curves, "mean over examples")
        if "alive" in q:
            num, units = int(dead_units(q["alive"]).sum()), q["alive"].shape[1]
            caption = f"How often the units of {name} are not zero: {num} of {units} are dead"
            curves = {"mean over examples": q["alive"].mean(0), "largest": q["alive"].max(0)}
            drawn[caption] = plots.sorted_units(curves, "P(z > 0)")
    transported = any(getattr(part, "_transported", False) for _, part in parts(module))
    for name, q in codes.items():
        if {"loc", "scales", "mean"} <= set(q) and not transported:  # a piecewise normal posterior of z itself
            unit = int(q["mean"].var(0).argmax())
            some = PiecewiseNormal(*(jnp.asarray(q[part][:6, unit]) for part in ("loc", "scales")))
            reach = 4 * np.sqrt(some.variance)
            own = np.linspace(np.min(some.mean - reach), np.max(some.mean + reach), 400)
            density = np.exp(some.log_prob(jnp.asarray(own, some.loc.dtype)[:, None]))
            caption = f"q(z | x) of {density.shape[1]} examples, in the unit of {name} whose mean varies most"
            drawn[caption] = plots.line_plot(own, density, "z", "density")
    grid = np.linspace(-5, 5, 400)
    for name, density in prior_densities(module, variables, grid).items():
        drawn[f"The learned prior of each unit of {name}"] = plots.line_plot(grid, density[:, :12], "z", "density")
    return drawn
