"""NumPyro distributions of the variational layers; importing this package completes NumPyro's KL registry."""

from dgmzoo.reparam.distributions import kl as kl
