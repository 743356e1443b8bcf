"""`training_value`: classify a model's training loss, for example as exact; `is_bound`: tell if it is a bound."""

import flax.linen as nn

from dgmzoo.layers.latents.base import variational_layers
from dgmzoo.model.module_tree import parts

TRAINING_VALUES = ("surrogate", "relaxed", "deterministic", "exact")  # the first one that a layer states holds


def training_value(module: nn.Module) -> str:
    """The meaning of the training value of an entry: "exact" | "relaxed" | "surrogate" | "deterministic".

    - exact: a bound on log p(x), such as the record's.
    - relaxed: the bound of a continuous relaxation. It is no bound of the discrete model and has no place beside one.
    - surrogate: a loss whose gradient is right, and whose value means nothing.
    - deterministic: the posterior is one point, so that several samples are all the same and give no tighter bound.

    A variational layer states it in its facts (`LatentLayer.facts`); an entry without such layers may state it in a class
    attribute `training_value`.

    >>> from dgmzoo import VAE
    >>> training_value(VAE())
    'exact'
    """
    values = {layer.facts().training_value for _, layer in variational_layers(module)}
    values |= {part.training_value for _, part in parts(module) if hasattr(part, "training_value")}
    return next((value for value in TRAINING_VALUES if value in values), "exact")


def is_bound(value: str) -> bool:
    """True if the training value is a bound of the model that is measured.

    >>> is_bound("relaxed"), is_bound("deterministic")
    (False, True)
    """
    return value not in ("relaxed", "surrogate")
