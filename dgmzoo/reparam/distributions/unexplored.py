"""Supports that samplers and automatic guides must not explore, each with its reason and the way out."""

import jax.numpy as jnp
from numpyro.distributions import constraints
from numpyro.distributions.transforms import biject_to


class Unexplored(constraints.Constraint):
    """The numbers of another constraint, to which no bijection of the real line is given.

    NumPyro's NUTS and automatic guides ask for one, and get ValueError with the reason.
    """

    def __init__(self, within: constraints.Constraint, reason: str):
        self.within, self.reason = within, reason

    def __call__(self, x):
        return self.within(x)

    def feasible_like(self, prototype):
        return jnp.zeros_like(prototype)

    def tree_flatten(self):
        return (), ((), {"within": self.within, "reason": self.reason})

    def eq(self, other, static=False):
        return isinstance(other, Unexplored) and self.reason == other.reason


@biject_to.register(Unexplored)
def _refuse(constraint):
    raise ValueError(constraint.reason)
