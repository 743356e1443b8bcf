"""`RNADE`: the real-valued neural autoregressive density estimator.

    p(x_d | x_{<d}) = sum_c alpha_dc N(x_d; mu_dc, sigma_dc^2),    h_d = relu(rho_d a_d)

A NADE whose conditionals are mixtures of normals. The activations are scaled by rho_d, because they grow with d (equations
13 to 17 of the paper). Missing elements are refused.

Source: Uria, Murray & Larochelle 2013 (arXiv 1306.0186). Deviations: scales are a softplus instead of an exponential, and the
gradient of the locations is not multiplied by the scales.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.mixture import MixtureOfNormals
from dgmzoo.zoo.ddnn.nade import NADE


class RNADE(NADE):
    """An autoregressive density of real-valued x with mixture conditionals.

    >>> RNADE(likelihood=MixtureOfNormals(components=20)).likelihood.size
    60

    Raises:
      ValueError: a size is below 1, or the likelihood has settings of its own head; when called, x has a mask, or the
        context or the label is missing.
    """

    hidden: int = 50
    """Number of hidden units (H)."""
    activation: Literal["sigmoid", "tanh", "relu"] = "relu"
    """Activation of the hidden units."""
    likelihood: Likelihood = MixtureOfNormals()
    """Conditionals p(x_d | x_<d)."""

    def setup(self):
        super().setup()
        self.rho = self.param("rho", lambda key: 1 / jnp.arange(1.0, len(self.W) + 1, dtype=jnp.float32))

    def of_elements(self) -> tuple[jax.Array, ...]:
        return (*super().of_elements(), self.rho)

    def units(self, a: jax.Array, rho: jax.Array) -> jax.Array:
        return getattr(nn, self.activation)(rho * a)
