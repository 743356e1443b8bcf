"""`InverseAutoregressivePosterior`: a posterior whose value is a function of normal noise, by autoregressive steps."""

import dataclasses

import jax
import numpyro.distributions as dist

from dgmzoo.layers.conditional import Conditional, factorized
from dgmzoo.layers.flows.base import Flow, Inverse
from dgmzoo.layers.flows.elements import Affine
from dgmzoo.layers.flows.maps import Autoregressive, steps
from dgmzoo.layers.networks.mlp import check_widths
from dgmzoo.layers.posteriors.base import Posterior
from dgmzoo.layers.validation import check_whole
from dgmzoo.layers.weights.base import PointWeights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.compatibility import Facts
from dgmzoo.reparam import families


class InverseAutoregressivePosterior(Posterior):
    """z = T(eps; features) with noise eps ~ N(0, I): a normal with parameters of the features, and autoregressive steps.

    The sample is the noise, and the log-determinant of T belongs to log p: no inverse is computed. Each step scales and
    shifts a unit by functions of the units before it and of the features, and the units are reversed between steps.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016 (arXiv 1606.04934), algorithm 1. Deviation: the
    log-scale is bounded, instead of a gate.

    >>> InverseAutoregressivePosterior(num_layers=2).facts().samples_noise
    True

    Raises:
      ValueError: a size is below 1, or there is no hidden layer.
    """

    num_layers: int = 2
    """Number of autoregressive steps."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers of each step's network."""

    def __post_init__(self):
        object.__setattr__(self, "num_layers", check_whole("num_layers", self.num_layers))
        object.__setattr__(self, "hidden", check_widths("hidden", self.hidden, least=1))
        super().__post_init__()

    def setup(self):
        self.head = dense(2 * self.units, PointWeights())
        # From z to noise each step is the inverse of a masked network's pass, so that noise to z costs one pass.
        step = Inverse(Autoregressive(hidden=self.hidden, parent=None), parent=None)
        self.flow = Flow(steps(step, self.num_layers, norm=False), dims=self.units)

    def __call__(self, features: jax.Array) -> Conditional:
        unconstrained = self.head(features).reshape(*features.shape[:-1], self.units, 2)  # [K or 1, B, U, 2]
        unconstrained = families.at_least_float32(unconstrained)

        def transform(eps):  # [K, B, U]
            z, log_scale = Affine().inverse(eps, unconstrained)
            z, log_det = self.flow.inverse(z, features)
            return z, (log_scale.sum(-1) + log_det)[..., None]

        noise = families.default(dist.Normal, (1, features.shape[1], self.units), unconstrained.dtype)
        return dataclasses.replace(factorized(noise), mean=None, parameters={}, distribution=None, transform=transform)

    def facts(self) -> Facts:
        return Facts(posterior="InverseAutoregressivePosterior", samples_noise=True)
