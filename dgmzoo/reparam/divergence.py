"""KL divergences per unit, where there is a closed form."""

import chex
from numpyro.distributions import Distribution
from numpyro.distributions.kl import kl_divergence

import dgmzoo.reparam.distributions  # noqa: F401  (completes NumPyro's registry)
from dgmzoo.reparam.numpyro_rules import numpyro_rules


def closed_kl(q: Distribution, p: Distribution) -> chex.Array | None:
    """`KL(q || p)` per unit in nats, or None where NumPyro's registry and ours have no closed form."""
    try:
        with numpyro_rules():
            return kl_divergence(q, p)
    except NotImplementedError:
        return None
