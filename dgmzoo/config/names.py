"""The registry of everything that is chosen by name: objectives, latent layers, likelihoods, weights, families.

A field of one of the base classes in `CHOICES` accepts any name of its table: `--model.latent horseshoe` replaces the
latent layer of an entry, because `HorseshoeLayer` stands under "horseshoe" in the table of `LatentLayer`.
"""

import difflib
from typing import Any

import numpyro.distributions as dist

from dgmzoo.layers.latents.base import LatentLayer
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
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.weights.base import PiecewiseWeights, PointWeights, RectifiedWeights, VariationalWeights, Weights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.objectives.base import Objective
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.reparam.distributions import Horseshoe, NormalMixture, PiecewiseNormal, RectifiedNormal, SpikeAndSlab

OBJECTIVES: dict[str, type[Objective]] = {"elbo": ELBO, "iwae": IWAE, "dreg": DReG, "nvil": NVIL}

LATENTS: dict[str, type[LatentLayer]] = {
    "normal": VariationalLayer,
    "horseshoe": HorseshoeLayer,
    "rectified": RectifiedLayer,
    "piecewise": PiecewiseLayer,
    "spherical": SphericalLayer,
    "point": PointLayer,
}

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "normal": Normal,
    "categorical": Categorical,
    "discretized_logistic": DiscretizedLogistic,
    "discretized_logistic_mixture": DiscretizedLogisticMixture,
}

WEIGHTS: dict[str, type[Weights]] = {
    "normal": VariationalWeights,
    "horseshoe": HorseshoeWeights,
    "rectified": RectifiedWeights,
    "piecewise": PiecewiseWeights,
    "point": PointWeights,
}

CHOICES: dict[type, dict[str, type]] = {
    Objective: OBJECTIVES,
    LatentLayer: LATENTS,
    Weights: WEIGHTS,
    Likelihood: LIKELIHOODS,
}

_SHORT = {
    "normal": dist.Normal,
    "horseshoe": Horseshoe,
    "rectified": RectifiedNormal,
    "piecewise": PiecewiseNormal,
    "laplace": dist.Laplace,
    "student_t": dist.StudentT,
    "mixture": NormalMixture,
    "spike_slab": SpikeAndSlab,
}
FAMILIES: dict[str, type[dist.Distribution]] = {
    **{name: cls for name, cls in vars(dist).items() if isinstance(cls, type) and issubclass(cls, dist.Distribution)},
    **{cls.__name__: cls for cls in _SHORT.values()},
    **_SHORT,
}


def choices(part: Any) -> dict[str, type] | None:
    """The classes, by name, that can replace a part of an experiment; None where it is not chosen by name.

    >>> list(choices(ELBO()))
    ['elbo', 'iwae', 'dreg', 'nvil']
    """
    return next((named for base, named in CHOICES.items() if isinstance(part, base)), None)


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
