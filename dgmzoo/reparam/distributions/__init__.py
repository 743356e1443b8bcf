"""Distributions for NumPyro, such as the horseshoe and the rectified normal, and their KL divergences.

Importing this package adds the KL divergences to NumPyro's registry.
"""

from dgmzoo.reparam.distributions import kl as kl
from dgmzoo.reparam.distributions import kl_gamma as kl_gamma
from dgmzoo.reparam.distributions.augmented_horseshoe import (
    augmented_horseshoe_kl,
    augmented_horseshoe_log_prob,
    expected_softplus,
    half_cauchy_kl,
    horseshoe_log_prob_surrogate,
    log_regularized_scale,
)
from dgmzoo.reparam.distributions.horseshoe import Horseshoe, HorseshoeReparam
from dgmzoo.reparam.distributions.mixtures import NormalMixture, SpikeAndSlab
from dgmzoo.reparam.distributions.piecewise_normal import PiecewiseNormal
from dgmzoo.reparam.distributions.power_spherical import PowerSpherical, UniformSphere
from dgmzoo.reparam.distributions.rectified_normal import RectifiedNormal
from dgmzoo.reparam.distributions.slab import log_slab_mass

__all__ = [
    "Horseshoe",
    "HorseshoeReparam",
    "NormalMixture",
    "PiecewiseNormal",
    "PowerSpherical",
    "RectifiedNormal",
    "SpikeAndSlab",
    "UniformSphere",
    "augmented_horseshoe_kl",
    "augmented_horseshoe_log_prob",
    "expected_softplus",
    "half_cauchy_kl",
    "horseshoe_log_prob_surrogate",
    "log_regularized_scale",
    "log_slab_mass",
]
