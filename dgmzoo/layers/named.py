"""Variational layers, weights and families by the names that a command line takes."""

import numpyro.distributions as dist

from dgmzoo.layers.horseshoe import HorseshoeLayer
from dgmzoo.layers.horseshoe_weights import HorseshoeWeights
from dgmzoo.layers.latent import LatentLayer
from dgmzoo.layers.piecewise import PiecewiseLayer
from dgmzoo.layers.point import PointLayer
from dgmzoo.layers.rectified import RectifiedLayer
from dgmzoo.layers.spherical import SphericalLayer
from dgmzoo.layers.variational import VariationalLayer
from dgmzoo.layers.weights import PiecewiseWeights, PointWeights, RectifiedWeights, VariationalWeights, Weights
from dgmzoo.reparam.distributions import Horseshoe, NormalMixture, PiecewiseNormal, RectifiedNormal, SpikeAndSlab

LAYERS: dict[str, type[LatentLayer]] = {
    "normal": VariationalLayer,
    "horseshoe": HorseshoeLayer,
    "rectified": RectifiedLayer,
    "piecewise": PiecewiseLayer,
    "spherical": SphericalLayer,
    "point": PointLayer,
}

WEIGHTS: dict[str, type[Weights]] = {
    "normal": VariationalWeights,
    "horseshoe": HorseshoeWeights,
    "rectified": RectifiedWeights,
    "piecewise": PiecewiseWeights,
    "point": PointWeights,
}

_OURS = {
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
    **{cls.__name__: cls for cls in _OURS.values()},
    **_OURS,
}
