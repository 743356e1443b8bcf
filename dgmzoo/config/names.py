"""`register`: add a class under a name; `build`: make an instance by that name; `AXES`: all registered classes.

A field of one of the base classes in `BASES` accepts any name of its axis: `--model.latent horseshoe` replaces the latent
layer of an entry, because `HorseshoeLayer` stands under "horseshoe" in the table of `LatentLayer`. The axis of a field
follows from its declared type, or from its metadata (`{"axis": "network"}`) where the type says too little.
"""

import difflib
import re
import sys
from typing import Any

import flax.linen as nn
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.categorical import CategoricalLayer
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.likelihoods.discretized import DiscretizedLogistic, DiscretizedLogisticMixture
from dgmzoo.layers.likelihoods.mixture import MixtureOfNormals
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.likelihoods.tokens import Tokens
from dgmzoo.layers.networks.convolutional import ConvDecoder, ConvEncoder
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.posteriors.base import FactorizedPosterior, Posterior
from dgmzoo.layers.posteriors.flow import InverseAutoregressivePosterior
from dgmzoo.layers.priors.base import LearnedPrior, Prior, StandardPrior
from dgmzoo.layers.priors.flow import FlowPrior
from dgmzoo.layers.priors.vamp import VampPrior
from dgmzoo.layers.weights.base import PiecewiseWeights, PointWeights, RectifiedWeights, VariationalWeights, Weights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.objectives.base import Objective
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.reparam.distributions import Horseshoe, NormalMixture, PiecewiseNormal, RectifiedNormal, SpikeAndSlab
from dgmzoo.reparam.distributions.one_hot import OneHot

OBJECTIVES: dict[str, type[Objective]] = {"elbo": ELBO, "iwae": IWAE, "dreg": DReG, "nvil": NVIL}

LATENTS: dict[str, type[LatentLayer]] = {
    "normal": VariationalLayer,
    "horseshoe": HorseshoeLayer,
    "rectified": RectifiedLayer,
    "piecewise": PiecewiseLayer,
    "categorical": CategoricalLayer,
    "spherical": SphericalLayer,
    "point": PointLayer,
}

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "normal": Normal,
    "normal_mixture": MixtureOfNormals,
    "categorical": Categorical,
    "discretized_logistic": DiscretizedLogistic,
    "discretized_logistic_mixture": DiscretizedLogisticMixture,
    "tokens": Tokens,
}

WEIGHTS: dict[str, type[Weights]] = {
    "normal": VariationalWeights,
    "horseshoe": HorseshoeWeights,
    "rectified": RectifiedWeights,
    "piecewise": PiecewiseWeights,
    "point": PointWeights,
}

POSTERIORS: dict[str, type[Posterior]] = {"factorized": FactorizedPosterior, "iaf": InverseAutoregressivePosterior}

PRIORS: dict[str, type[Prior]] = {
    "standard": StandardPrior,
    "learned": LearnedPrior,
    "vamp": VampPrior,
    "flow": FlowPrior,
}

NETWORKS: dict[str, type[nn.Module]] = {"mlp": MLP, "conv_encoder": ConvEncoder, "conv_decoder": ConvDecoder}

_SHORT = {
    "normal": dist.Normal,
    "horseshoe": Horseshoe,
    "rectified": RectifiedNormal,
    "piecewise": PiecewiseNormal,
    "laplace": dist.Laplace,
    "student_t": dist.StudentT,
    "mixture": NormalMixture,
    "spike_slab": SpikeAndSlab,
    "one_hot": OneHot,
}
FAMILIES: dict[str, type[dist.Distribution]] = {
    **{name: cls for name, cls in vars(dist).items() if isinstance(cls, type) and issubclass(cls, dist.Distribution)},
    **{cls.__name__: cls for cls in _SHORT.values()},
    **_SHORT,
}


AXES: dict[str, dict[str, type]] = {
    "objective": OBJECTIVES,
    "latent": LATENTS,
    "posterior": POSTERIORS,
    "prior": PRIORS,
    "likelihood": LIKELIHOODS,
    "weights": WEIGHTS,
    "network": NETWORKS,
    "family": FAMILIES,
}
"""Axis -> name -> class."""

BASES: dict[str, type] = {
    "objective": Objective,
    "latent": LatentLayer,
    "posterior": Posterior,
    "prior": Prior,
    "likelihood": Likelihood,
    "weights": Weights,
    "network": nn.Module,
    "family": dist.Distribution,
}
"""Axis -> base class of what it names."""


def register(axis: str, name: str, cls: type) -> None:
    """Add a class to an axis, so that it can be chosen by name: in overrides, on the command line and in `compare`.

    Call it in an experiment file, in a file that `--plugin` names, or in a function that an installed package lists under
    the entry point group `dgmzoo`.

    Args:
      axis: "latent", "posterior", "prior", "likelihood", "weights", "network", "objective" or "family".
      name: lower-case letters, digits and `_`.
      cls: a subclass of the base class of the axis, which can be made without arguments.

    Raises:
      ValueError: there is no such axis, the name is taken by another class or malformed, or the class does not fit.

    >>> class Wide(StandardPrior):
    ...     family: type[dist.Distribution] = dist.Laplace
    >>> register("prior", "wide", Wide)
    >>> from dgmzoo import experiment
    >>> type(experiment("vae/digits", {"model.latent.prior": "wide"}).model.latent.prior).__name__
    'Wide'
    """
    if axis not in AXES:
        raise ValueError(f"expected an axis of {', '.join(AXES)}, got {axis!r}")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"expected a name of lower-case letters, digits and _, got {name!r}")
    if not isinstance(cls, type) or not issubclass(cls, BASES[axis]):
        raise ValueError(f"expected a subclass of {BASES[axis].__name__} for the {axis} {name!r}, got {cls!r}")
    if axis != "family":
        try:
            cls()
        except TypeError as error:
            raise ValueError(f"expected defaults for all fields of {cls.__name__}: {error}") from error
    present = AXES[axis].get(name)
    if present is not None and (present.__qualname__, _file(present)) != (cls.__qualname__, _file(cls)):
        raise ValueError(f"expected a new name for the {axis} {cls.__name__}, got {name!r}, which names {present!r}")
    AXES[axis][name] = cls


def _file(cls: type) -> str | None:
    """Path of the file that defines a class; a file that is executed again defines its classes again."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None)


def axis_of_value(value: Any) -> str | None:
    """The axis of a part by its class, for a field whose declaration says nothing; networks have no class of their own.

    >>> axis_of_value(ELBO())
    'objective'
    """
    axes = (axis for axis in AXES if axis not in ("network", "family"))
    return next((axis for axis in axes if isinstance(value, BASES[axis])), None)


def names_of(axis: str) -> list[str]:
    """The names of an axis, for help and messages.

    >>> names_of("prior")[:2]
    ['standard', 'learned']
    """
    return list(AXES[axis])


def build(axis: str, name: str, path: str, **kept: Any) -> Any:
    """A new part by its name. In the axes "prior" and "posterior" a family's name gives independent units of it.

    Args:
      path: of the field, for messages.
      kept: values of fields that the new part takes over if it has them.

    Raises:
      ValueError: the axis has no such name.
    """
    cls = AXES[axis].get(name)
    if cls is None and axis in ("prior", "posterior"):
        try:
            return (StandardPrior if axis == "prior" else FactorizedPosterior)(family(name))
        except ValueError:
            pass
    if cls is None:
        takes_family = axis in ("prior", "posterior")
        near = difflib.get_close_matches(name, [*AXES[axis], *FAMILIES], n=3, cutoff=0.3) if takes_family else []
        also = (
            ", or the name of a family" + (f" (the nearest are {', '.join(near)})" if near else "")
            if takes_family
            else ""
        )
        raise ValueError(f"expected {path} one of {', '.join(names_of(axis))}{also}, got {name!r}")
    fields = getattr(cls, "__dataclass_fields__", {})
    return cls(**{field: value for field, value in kept.items() if field in fields})


def family(name: str) -> type[dist.Distribution]:
    """A distribution family by the name of its NumPyro class, or by its short name.

    >>> family("laplace").__name__
    'Laplace'

    Raises:
      ValueError: there is no such family; the nearest names are given.
    """
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=3, cutoff=0.3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"expected the name of a distribution family, got {name!r}{hint}")
    return FAMILIES[name]
