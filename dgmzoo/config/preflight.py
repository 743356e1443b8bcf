"""`resolve`: check an experiment and replace layers unfit for its objective; `bind`: set model fields from the data.

The checks stand in one list, `CHECKS`. They trace shapes and compute nothing, so that a mistake is reported within
seconds and not after hours of training.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.config.experiment import Experiment
from dgmzoo.config.fields import fields
from dgmzoo.config.layer_check import compatible
from dgmzoo.data import Dataset
from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.model.contract import Model, Query, Variables
from dgmzoo.model.functional import functional
from dgmzoo.model.module_checks import check_modules
from dgmzoo.model.module_tree import map_fields
from dgmzoo.model.transforms import with_extra_losses


class Resolved(NamedTuple):
    """An experiment that fits its data.

    Attributes:
      experiment: the experiment as requested.
      dataset: the data as they are split and encoded.
      module: the zoo entry, with the data's shape, its layers in forms whose gradients are right under the objective.
      model: the pure functions of `module`.
      corrections: the layers that were replaced for that, each with its path and the reason.
    """

    experiment: Experiment
    dataset: Dataset
    module: nn.Module
    model: Model
    corrections: tuple[str, ...]


def resolve(experiment: Experiment, dataset: Dataset) -> Resolved:
    """Correct the module for the objective, bind it to the data, and run every check before training.

    Raises:
      ValueError: a check of `CHECKS` fails, or the module has another shape than the data.
    """
    module = bind(experiment.model, dataset)
    resolved = Resolved(experiment, dataset, module, functional(module), ())
    for check in CHECKS:
        check(resolved)
    resolved = resolve_trained(experiment, dataset)
    check_bound(resolved)
    check_generate(resolved)
    return resolved


def resolve_trained(experiment: Experiment, dataset: Dataset) -> Resolved:
    """`resolve` of an experiment whose training was checked before: no row of the data is read."""
    module = bind(experiment.model, dataset)
    module, corrections = compatible(module, experiment.objective, functools.partial(trace, experiment, dataset))
    return Resolved(experiment, dataset, module, functional(module), corrections)


def bind(module: nn.Module, dataset: Dataset) -> nn.Module:
    """The module with what it needs to know of the data.

    The module's own field `shape` becomes the shape of a row. In the module and in modules among its fields, fields that
    are None become: `vocabulary` the number of words, `end` the token that ends a sequence.

    Raises:
      ValueError: the module has another shape.
    """
    known = {
        "vocabulary": None if dataset.vocabulary is None else len(dataset.vocabulary),
        "end": dataset.end,
    }

    def fill(path, value):
        if isinstance(value, nn.Module):
            return map_fields(value, fill, path)
        return known.get(path.rpartition(".")[2]) if value is None else value

    module = map_fields(module, fill)
    if "shape" not in fields(module):
        return module
    if module.shape is None:
        return module.clone(shape=tuple(dataset.shape))
    if tuple(module.shape) != tuple(dataset.shape):
        raise ValueError(f"expected model.shape {dataset.shape} of {dataset.name!r}, got {module.shape}")
    return module


def likelihoods_of(module: nn.Module) -> list[Likelihood]:
    """The likelihoods among a module's fields."""
    values = (getattr(module, name) for name in fields(module))
    return [value for value in values if isinstance(value, Likelihood)]


def check_splits(resolved: Resolved) -> None:
    """Refuse data without a test split, and early stopping without a validation split."""
    dataset, patience = resolved.dataset, resolved.experiment.training.patience
    if "test" not in dataset.splits:
        raise ValueError(
            f"expected data with a test split to measure, got {', '.join(dataset.splits)} of {dataset.name!r}"
        )
    if patience is not None and "valid" not in dataset.splits:
        raise ValueError(
            f"expected a validation split for training.patience {patience}, got {dataset.name!r} without; "
            "set data.num_validation, or leave patience out"
        )


def check_fields(resolved: Resolved) -> None:
    """Refuse a split without a field that the model reads, which would be missed only after training."""
    dataset, model = resolved.dataset, resolved.model
    of_train = set(dataset.splits["train"]) - {"mask"}
    variables = None
    for split in dataset.splits:
        rows = dataset.evaluation_rows(split, 2)
        if of_train <= set(rows):
            continue
        if variables is None:
            variables = _variable_shapes(model, dataset)
        try:
            jax.eval_shape(model.evidence, variables, rows, jax.random.key(0))
        except KeyError as error:
            raise ValueError(
                f"expected the fields {', '.join(sorted(of_train))} in every split of {dataset.name!r}, got no {error} in "
                f"{split}, which {type(resolved.module).__name__} reads; add it there too"
            ) from error


def _variable_shapes(model: Model, dataset: Dataset) -> Variables:
    first = dataset.row_shapes()
    return jax.eval_shape(lambda key, rows: model.init(key, dataset.observe(key, rows)), jax.random.key(0), first)


def check_generate(resolved: Resolved) -> None:
    """Refuse a `generate` that cannot be called as the report calls it: with the fields of test rows as its context."""
    model, dataset, name = resolved.model, resolved.dataset, type(resolved.module).__name__
    if model.generate is None:
        return
    rows = dataset.evaluation_rows("test", 2)
    num = len(rows["x"])
    context = {field: leaf for field, leaf in rows.items() if field != "x"}
    variables = _variable_shapes(model, dataset)
    try:
        draw = jax.eval_shape(
            lambda key, variables, context: model.generate(variables, key, num, context),
            jax.random.key(0),
            variables,
            context,
        )
    except Exception as error:
        raise ValueError(
            f"expected generate(num, context) of {name} to run with the context {{{', '.join(context)}}}, got "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}; leave `generate` out if it cannot sample x"
        ) from error
    expected = (num, *dataset.shape)
    if jnp.shape(getattr(draw, "x", None)) != expected:
        found = jnp.shape(draw.x) if hasattr(draw, "x") else type(draw).__name__
        raise ValueError(f"expected generate of {name} to return a Draw with x of shape {expected}, got {found}")
    if draw.mean is not None and draw.mean.shape[:1] != (num,):
        raise ValueError(f"expected Draw.mean of {name} of shape [{num}, ...], got {draw.mean.shape}")


def check_batch(resolved: Resolved) -> None:
    """Refuse a batch that is larger than the training split."""
    resolved.experiment.training.total_steps(len(resolved.dataset.splits["train"]["x"]))


def check_support(resolved: Resolved) -> None:
    """Refuse data outside the support of a likelihood."""
    dataset = resolved.dataset
    binary = dataset.encoding in ("dynamic", "static", "threshold")
    for split in dataset.splits:
        x = dataset.evaluation_rows(split, 100 if binary else 100_000)["x"]  # binarized x is in {0, 1} by construction
        for likelihood in likelihoods_of(resolved.module):
            try:
                likelihood.check_support(x)
            except ValueError as error:
                if dataset.standardization is None:
                    raise
                raise ValueError(
                    f"{error}; the columns were standardised, data.standardize=False keeps them"
                ) from error


def check_labels(resolved: Resolved) -> None:
    """Refuse labels that a model's field `labels`, the number of classes, does not cover."""
    dataset, num = resolved.dataset, getattr(resolved.module, "labels", 0)
    if not num:
        return
    for split, rows in dataset.splits.items():
        if "label" not in rows:
            raise ValueError(f"expected labels in {split} of {dataset.name!r} for model.labels {num}, got none")
        if (largest := int(np.max(rows["label"]))) >= num:
            raise ValueError(
                f"expected model.labels above the largest label of {split} of {dataset.name!r}, {largest}, got {num}; set "
                f"model.labels {largest + 1}"
            )


def check_bound(resolved: Resolved) -> None:
    """Refuse a layer without a bound that no field of the module holds, so that the bound of the module is unknown."""

    def note(method, arguments, named, context):
        layer = context.module
        without = isinstance(layer, LatentLayer) and context.method_name == "infer" and not layer.has_bound
        if without and resolved.model.bound is not None:
            raise ValueError(
                f"expected {type(resolved.module).__name__} to hold its {type(layer).__name__} "
                f"{'/'.join(layer.path)!r} in a field (`latent: LatentLayer`), got one made outside of its fields: there "
                "is no bound on log p(x) with it"
            )
        return method(*arguments, **named)

    with nn.intercept_methods(note):
        trace(resolved.experiment, resolved.dataset, resolved.model)


def trace(experiment: Experiment, dataset: Dataset, model: Model) -> None:
    """Trace training and evaluation of a model on two rows, which refuses wrong shapes and computes nothing."""
    rows = dataset.row_shapes(2)
    variables = _variable_shapes(model, dataset)
    trained = with_extra_losses(model, experiment.extra_losses)

    def evidence(query, variables, rows, key):
        return trained.evidence(variables, dataset.observe(key, rows), key, query)

    measured = Query(1 if model.bound == "exact" else 3)  # neither 1 nor the number of rows
    if experiment.extra_losses:  # as they are evaluated on the validation split
        total = experiment.training.total_steps(len(dataset.splits["train"]["x"]))
        validated = with_extra_losses(model, experiment.extra_losses, at_step=total)
        validation = Query(experiment.objective.num_samples)
        jax.eval_shape(
            lambda variables, rows, key: validated.evidence(variables, dataset.observe(key, rows), key, validation),
            variables,
            rows,
            jax.random.key(0),
        )
    for query in (Query(experiment.objective.num_samples, train=True, step=jnp.zeros((), jnp.int32)), measured):
        jax.eval_shape(functools.partial(evidence, query), variables, rows, jax.random.key(0))


CHECKS: tuple[Callable[[Resolved], None], ...] = (
    check_modules,
    check_splits,
    check_labels,
    check_fields,
    check_batch,
    check_support,
)
"""Every check of an experiment with its data that needs no trace, in the order in which they run. Each raises `ValueError`."""
