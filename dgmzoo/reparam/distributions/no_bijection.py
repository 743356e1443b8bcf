"""`NoBijection`: a NumPyro support without a bijection from the real line, so that NUTS refuses the distribution."""

from typing import ClassVar

import jax.numpy as jnp
from numpyro.distributions import constraints
from numpyro.distributions.transforms import biject_to


class NoBijection(constraints.ParameterFreeConstraint):
    """The values of another constraint, but without a bijection from the real line.

    NumPyro's NUTS and automatic guides ask for the bijection and get a ValueError with the reason. Every support needs a
    subclass of its own, because NumPyro compares the supports of a mixture's components by class.

    >>> class Anywhere(NoBijection):
    ...     within = constraints.real
    ...     reason = "expected a latent with a density, got a point mass; use numpyro.deterministic"
    >>> biject_to(Anywhere())
    Traceback (most recent call last):
    ValueError: expected a latent with a density, got a point mass; use numpyro.deterministic
    """

    within: ClassVar[constraints.Constraint]
    reason: ClassVar[str]

    def __init_subclass__(cls, **arguments):
        super().__init_subclass__(**arguments)
        biject_to.register(cls, _refuse)

    def __call__(self, x):
        return self.within(x)

    def feasible_like(self, prototype):
        return jnp.zeros_like(prototype)


def _refuse(constraint):
    raise ValueError(constraint.reason)
