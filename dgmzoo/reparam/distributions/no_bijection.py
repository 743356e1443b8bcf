"""Supports that samplers and automatic guides must not explore, each with its reason and the way out."""

from typing import ClassVar

import jax.numpy as jnp
from numpyro.distributions import constraints
from numpyro.distributions.transforms import biject_to


class NoBijection(constraints.ParameterFreeConstraint):
    """The numbers of another constraint, to which no bijection of the real line is given.

    NumPyro's NUTS and automatic guides ask for one, and get ValueError with the reason. Each support is a class of its own:
    NumPyro tells the supports of a mixture's components apart by their classes.
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
