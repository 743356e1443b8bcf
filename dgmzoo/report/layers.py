"""`figures`: draw SVG plots of the latent layers, for example of dead units and of learned priors."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.latents.base import variational_layers
from dgmzoo.model.contract import Variables
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.report import plots

_DEAD = 0.01  # a unit is dead if P(z > 0) is below this value for every example


def shrunk_units(shrinkage: np.ndarray) -> np.ndarray:
    """Mask `[U]` of the units whose shrinkage `[N, U]`, averaged over examples, is above one half.

    >>> shrunk_units(np.array([[0.9, 0.1]])).tolist()
    [True, False]
    """
    return shrinkage.mean(0) > 0.5


def dead_units(alive: np.ndarray) -> np.ndarray:
    """Mask `[U]` of the units that are zero for every example, given P(z > 0) `[N, U]`.

    >>> dead_units(np.array([[0.9, 0.001]])).tolist()
    [False, True]
    """
    return alive.max(0) < _DEAD


def prior_densities(module: nn.Module, variables: Variables, grid: np.ndarray) -> dict[str, np.ndarray]:
    """Layer -> density of its learned prior at the points `grid [N]`, `[N, U]`, for layers with a density per unit."""
    layers = {path.partition(".")[2].replace(".", "_"): layer for path, layer in variational_layers(module)}
    template = next(iter(layers.values())) if len(layers) == 1 else None  # a single field may serve several layers
    densities = {}
    for name, tree in variables["params"].items():
        layer, free = layers.get(name, template), isinstance(tree, Mapping) and tree.get("p", {}).get("free")
        if free and not families.is_discrete(layer.prior.family):
            layer = layer.clone(units=len(free["unconstrained"]), parent=None)
            densities[name] = np.asarray(
                layer.apply({"params": tree}, jnp.asarray(grid, jnp.float32), method="density")
            )
    return densities


def figures(module: nn.Module, variables: Variables, codes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Caption -> SVG, for every property that a layer of the module reports.

    Args:
      codes: layer -> parameters of q(z | x) of some examples, `[N, U, ...]`.
    """
    svgs = {}
    for name, q in codes.items():
        if "shrinkage" in q:
            num, units = int(shrunk_units(q["shrinkage"]).sum()), q["shrinkage"].shape[1]
            caption = f"Shrinkage 1 / (1 + D) of the units of {name}: {num} of {units} are shrunk by more than half"
            curves = {"shrinkage": q["shrinkage"].mean(0), "D (median)": np.median(q["D"], 0)}
            svgs[caption] = plots.sorted_units(curves, "mean over examples")
        if "alive" in q:
            num, units = int(dead_units(q["alive"]).sum()), q["alive"].shape[1]
            caption = f"How often the units of {name} are not zero: {num} of {units} are dead"
            curves = {"mean over examples": q["alive"].mean(0), "largest": q["alive"].max(0)}
            svgs[caption] = plots.sorted_units(curves, "P(z > 0)")
    noncentred = any(layer.is_noncentred for _, layer in variational_layers(module))  # q is then that of the noise
    for name, q in codes.items():
        if {"loc", "scales", "mean"} <= set(q) and not noncentred:  # a piecewise normal posterior of z itself
            unit = int(q["mean"].var(0).argmax())
            posterior = PiecewiseNormal(*(jnp.asarray(q[parameter][:6, unit]) for parameter in ("loc", "scales")))
            reach = 4 * np.sqrt(posterior.variance)
            points = np.linspace(np.min(posterior.mean - reach), np.max(posterior.mean + reach), 400)
            density = np.exp(posterior.log_prob(jnp.asarray(points, posterior.loc.dtype)[:, None]))
            caption = f"q(z | x) of {density.shape[1]} examples, in the unit of {name} whose mean varies most"
            svgs[caption] = plots.line_plot(points, density, "z", "density")
    grid = np.linspace(-5, 5, 400)
    for name, density in prior_densities(module, variables, grid).items():
        svgs[f"The learned prior of each unit of {name}"] = plots.line_plot(grid, density[:, :12], "z", "density")
    return svgs
