"""`Bijection`: the base class of invertible maps; `Flow`: a composition of them, and the density of its noise; `Inverse`.

How to choose:

- `Coupling`: the usual choice. The density and the samples cost one pass each.
- `Autoregressive`: more flexible for the same width. The density costs one pass, samples cost D small steps. `Inverse` of it
  exchanges the two (the inverse autoregressive flow, for posteriors).
- element maps: `Affine` is cheap; `Spline` bends each element and needs fewer layers.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.conditional import Conditional
from dgmzoo.reparam import families
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion


class Bijection(nn.Module):
    """An invertible map of vectors, from data x to noise z.

    A subclass defines `forward` and `inverse`. Both compute in the dtype of the input and the parameters.

    >>> Bijection(dims=3).dims
    3
    """

    dims: int = dataclasses.field(default=0, kw_only=True, metadata={"cli": False})
    """Number of elements (D); set by the flow that holds the bijection."""

    def forward(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """x `[..., D]` to z `[..., D]` and `log |det dz/dx|` `[...]`, in nats.

        Args:
          context: features `[..., H]` with as many axes as x, which broadcast against it.
        """
        raise NotImplementedError

    def inverse(self, z: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """z `[..., D]` to x `[..., D]` and `log |det dx/dz|` `[...]`, in nats."""
        raise NotImplementedError


class Inverse(Bijection):
    """A bijection with its two directions exchanged.

    >>> from dgmzoo import Permutation
    >>> Inverse(Permutation()).bijection.seed is None
    True
    """

    bijection: Bijection

    def setup(self):
        self.inverted = self.bijection.clone(dims=self.dims)

    def forward(self, x, context=None):
        return self.inverted.inverse(x, context)

    def inverse(self, z, context=None):
        return self.inverted.forward(z, context)


class Flow(Bijection):
    """A composition of bijections, applied first to last from data to noise, and the density of x under it.

        log p(x) = log p_base(f(x)) + log |det df/dx|

    Called with features, or None, it returns the `Conditional` of x: a likelihood, a density or a prior.

    >>> from dgmzoo import Coupling
    >>> flow = Flow((Coupling(), Coupling(flip=True)), dims=2)
    >>> variables = flow.init(jax.random.key(0), jnp.ones((1, 5, 2)), method="forward")
    >>> z, log_det = flow.apply(variables, jnp.ones((1, 5, 2)), method="forward")
    >>> z.shape, log_det.shape
    ((1, 5, 2), (1, 5))

    Source: Rezende & Mohamed 2015 (arXiv 1505.05770), equation 5.

    Raises:
      ValueError: when called, there is no element.
    """

    layers: tuple[Bijection, ...] = ()
    """The bijections, from data to noise."""
    base: type[dist.Distribution] = dist.Normal
    """Family of the noise, with its default parameters."""

    def setup(self):
        if self.dims < 1:
            raise ValueError(f"expected a flow of at least 1 element, got {self.dims}; set `dims`")
        self.bijections = [layer.clone(dims=self.dims) for layer in self.layers]

    def forward(self, x, context=None):
        return _apply([layer.forward for layer in self.bijections], x, context)

    def inverse(self, z, context=None):
        return _apply([layer.inverse for layer in reversed(self.bijections)], z, context)

    def __call__(self, features: jax.Array | None = None) -> Conditional:
        """The distribution of x `[K, B, D]` given features `[K or 1, B, H]`; None: it broadcasts over K and B."""

        def noise(dtype):
            return families.default(self.base, (1, 1, self.dims), dtype)

        def log_prob(x):  # [K, B, D] to [K, B, 1]
            z, log_det = self.forward(x, features)
            z = families.at_least_float32(z)
            with relaxed_promotion():
                terms = noise(z.dtype).log_prob(z)
            return (terms.sum(-1) + log_det.astype(z.dtype))[..., None]

        def sample(key, leading):
            with relaxed_promotion():
                base = noise(jnp.result_type(float)).expand((1, leading[1], self.dims))
            return self.inverse(pathwise.sample(base, key, leading[0]), features)[0]

        return Conditional(log_prob, sample, 1 if features is None else features.shape[1], (self.dims,))


def _apply(maps, x, context):
    total = jnp.zeros(x.shape[:-1], x.dtype)
    for each in maps:
        x, log_det = each(x, context)
        total = total + log_det
    return x, total
