"""A module bound to data: given its shape, and tried on it before anything is computed."""

import functools

import flax.linen as nn
import jax
import numpy as np

from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment
from dgmzoo.data import Dataset
from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.model.contract import Model, Query
from dgmzoo.model.transforms import with_extra_losses


def bind(module: nn.Module, dataset: Dataset) -> nn.Module:
    """The module with the data's shape, checked against what its outputs can give.

    Raises:
      ValueError: the shapes differ, or x lies outside the support of a likelihood.
    """
    if "shape" in overrides.fields(module):
        if module.shape is None:
            module = module.clone(shape=tuple(dataset.shape))
        elif tuple(module.shape) != tuple(dataset.shape):
            raise ValueError(f"expected model.shape {dataset.shape} of {dataset.name!r}, got {module.shape}")
    binary = dataset.encoding in ("dynamic", "static", "threshold")
    for split in dataset.splits:
        x = dataset.fixed(split, 100 if binary else 100_000)["x"]  # binarized x is in {0, 1} by construction
        for likelihood in likelihoods_of(module):
            likelihood.check_support(x)
    return module


def likelihoods_of(module: nn.Module) -> list[Likelihood]:
    """The likelihoods among a module's fields."""
    values = (getattr(module, name) for name in overrides.fields(module))
    return [value for value in values if isinstance(value, Likelihood)]


def check_fits(exp: Experiment, model: Model, dataset: Dataset) -> None:
    """Try the experiment's shapes without computing anything.

    Raises:
      ValueError: the batch is larger than the data, the model does not take them or answers in other shapes, a term is
        not one per example, a layer that no field holds would be trained or measured wrongly, or there is nothing to
        stop early by.
    """
    if exp.training.patience is not None and "valid" not in dataset.splits:
        raise ValueError(
            f"expected a validation split for training.patience {exp.training.patience}, got {dataset.name!r} without; "
            "set data.num_validation, or leave patience out"
        )
    rows = dataset.splits["train"]
    exp.training.total_steps(len(rows["x"]))
    first = {name: np.asarray(leaf[:2]) for name, leaf in rows.items()}
    variables = jax.eval_shape(lambda key: model.init(key, dataset.observe(key, first)), jax.random.key(0))
    whole, met = with_extra_losses(model, exp.extra_losses), []

    def ask(query, variables, key):
        return whole.evidence(variables, dataset.observe(key, first), key, query)

    def note(method, arguments, named, context):
        if context.method_name == "infer" and isinstance(context.module, LatentLayer):
            met.append(context.module)
        return method(*arguments, **named)

    measured = Query(1 if model.bound == "exact" else len(first["x"]) + 1)  # neither 1 nor the number of rows
    with nn.intercept_methods(note):
        for query in (Query(exp.objective.num_samples, train=True), measured):
            jax.eval_shape(functools.partial(ask, query), variables, jax.random.key(0))
    for layer in met:
        _check_seen(exp, model, layer)


def _check_seen(exp: Experiment, model: Model, layer: LatentLayer) -> None:
    """Refuse a layer that is made on the way, where neither the objective nor the record's bound could see what it is."""
    reason = exp.objective.refusal(layer, exp.model)
    if reason is None and model.bound is not None and not layer.has_bound:
        reason = "there is no bound on log p(x) with it"
    if reason:
        raise ValueError(
            f"expected {type(exp.model).__name__} to hold its {type(layer).__name__} {'/'.join(layer.path)!r} in a field "
            f"(`latent: LatentLayer`), got one made outside of its fields: {reason}"
        )
