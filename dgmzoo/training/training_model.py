"""`training_model`: the model as it is trained, with the extra losses and the dtype of the experiment."""

import warnings
from typing import Any

import jax.numpy as jnp

from dgmzoo.config.experiment import Experiment
from dgmzoo.model.contract import Model
from dgmzoo.model.precision import has_product_in, in_precision
from dgmzoo.model.transforms import rematerialized, with_extra_losses
from dgmzoo.reparam.collectives import batch_gather
from dgmzoo.training.step import Step


def training_model(experiment: Experiment, model: Model, num_data: int) -> Model:
    """The model as it is trained: with extra losses, compute dtype and rematerialization of the experiment.

    Args:
      num_data: number of training rows.
    """
    model = with_extra_losses(model, experiment.extra_losses, num_data, batch_gather)
    training = experiment.training
    if training.compute != "float32":
        model = in_precision(model, jnp.dtype(training.compute))
    return rematerialized(model) if training.remat else model


def warn_about_precision(compute: str, step: Step, *shapes: Any) -> None:
    """Warn if no product of a training step is in the dtype of `training.compute`.

    Args:
      shapes: state and rows of the step, or their shapes.
    """
    if compute != "float32" and not has_product_in(step, jnp.dtype(compute), *shapes):
        warnings.warn(
            f"training.compute {compute} changes nothing: no matrix product or convolution of the step is in {compute}; "
            "networks of Flax layers (nn.Dense, nn.Conv, attention) without a dtype of their own follow it",
            stacklevel=3,
        )
