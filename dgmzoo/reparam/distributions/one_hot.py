"""`OneHot`: the categorical distribution over one-hot vectors."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints

from dgmzoo.reparam.ops import relaxed_promotion


class _Simplex(type(constraints.simplex)):
    is_discrete = True


class OneHot(Distribution):
    """A class as a one-hot vector `[..., C]`, with logits `[..., C]`; its density also takes relaxed vectors.

    `families.with_sizes(OneHot, logits=C)` gives the family of C classes, whose unconstrained parameters are the logits.

    >>> p = OneHot(jnp.zeros((1, 3)))
    >>> p.event_shape, p.log_prob(jnp.array([[0.0, 1.0, 0.0]])).shape
    ((3,), (1,))
    """

    arg_constraints: ClassVar = {"logits": constraints.real_vector}
    support: ClassVar = _Simplex()
    reparametrized_params: ClassVar = []
    unconstrained_sizes: ClassVar = {"logits": 2}

    def __init__(self, logits, *, validate_args=None):
        self.logits = logits
        super().__init__(jnp.shape(logits)[:-1], jnp.shape(logits)[-1:], validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        with relaxed_promotion():
            classes = jax.random.categorical(key, self.logits, shape=sample_shape + self.batch_shape)
        return jax.nn.one_hot(classes, self.event_shape[0], dtype=self.logits.dtype)

    def log_prob(self, value):
        with relaxed_promotion():
            return (value * jax.nn.log_softmax(self.logits, -1)).sum(-1)

    @property
    def mean(self):
        """Probabilities of the classes, `[..., C]`."""
        return jax.nn.softmax(self.logits, -1)

    @property
    def variance(self):
        """Variances of the entries, `[..., C]`."""
        return self.mean * (1 - self.mean)
