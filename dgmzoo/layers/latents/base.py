"""`LatentLayer`: the base class of layers of latents; `Inferred`: a posterior with its samples.

A layer works in three steps, because the prior of a layer in a hierarchy needs the layer above: `condition` gives the
posterior of features, `sample_or_take` draws the sample or takes the one that was given, and `score` evaluates it under the
prior. `infer` does the first two, and calling the layer does all.

How to choose a layer (by the name that `--model.latent` accepts):

- `normal` (`VariationalLayer`): the usual choice, and the layer for any other pair of families. Bernoulli units are
  discrete and need the objective `nvil`.
- `horseshoe`: for each input most units are shrunk towards 0 and a few stay large.
- `rectified`: codes with exact zeros, or nonnegative codes (`smooth`).
- `piecewise`: noise that is skewed or flat in the posterior, or a prior whose form is learned.
- `categorical` (`CategoricalLayer`): units of several classes each, one-hot. It needs the objective `nvil`.
- `spherical`: codes on the unit sphere, where only directions carry information.
- `point`: the code of a plain autoencoder without noise and prior, as a reference. It gives no bound on log p(x).
"""

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.conditional import Conditional, factorized
from dgmzoo.layers.priors.base import Free
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Latent, Query
from dgmzoo.model.module_tree import parts
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion


class Inferred(NamedTuple):
    """A posterior and its samples: the result of `LatentLayer.infer`, and the input of `LatentLayer.score`.

    >>> z = jnp.zeros((1, 4, 2))
    >>> Inferred(factorized(dist.Normal(z, 1.0)), sample=z, value=z, query=Query()).train
    False
    """

    q: Conditional
    sample: jax.Array  # [K, B, U, ...]  the random variables of each unit
    value: jax.Array  # [K, B, U]  input of the next layer
    query: Query
    log_det: jax.Array | None = None  # [K, B, U or 1]  log |d value / d sample| of a transformed posterior

    @property
    def train(self) -> bool:
        """True if the query is one of training."""
        return self.query.train


class LatentLayer(nn.Module):
    """A layer of latents with a posterior given features, and a prior that may depend on the layer above.

    A subclass defines `condition`, `score` and `draw`, and states its `facts`. `VariationalLayer` does so for any posterior
    and prior; layers whose posterior and prior share an augmentation (`HorseshoeLayer`) derive from `JointLayer`.

    >>> from dgmzoo import HorseshoeLayer
    >>> isinstance(HorseshoeLayer(), LatentLayer), HorseshoeLayer().has_bound
    (True, True)
    """

    units: int = dataclasses.field(default=0, metadata={"cli": False})
    """Number of units; set by the entry that holds the layer."""

    weights: Weights = dataclasses.field(default=PointWeights(), kw_only=True, metadata={"cli": False})
    """Weights of the prior's head, which belongs to the generative network; set by the entry that holds the layer."""
    encoder: nn.Module | None = dataclasses.field(default=None, kw_only=True, metadata={"cli": False})
    """Network from x to the features of the posterior, for priors that use it; set by the entry that holds the layer."""
    template: str = dataclasses.field(default="", kw_only=True, metadata={"cli": False})
    """Path of the entry's field that the layer is a copy of; set before the entry is traced."""

    has_prior: ClassVar[bool] = True  # True if the layer can be sampled from its prior
    has_bound: ClassVar[bool] = True  # True if `log_p - log_q` gives a bound on log p(x)

    @nn.nowrap
    def facts(self) -> Facts:
        """The facts of the compatibility table, from the fields alone. Default: an exact pathwise gradient."""
        return Facts()

    @nn.nowrap
    def alternative(self) -> tuple["LatentLayer", str] | None:
        """A layer of the same model for which gradients are right that are wrong for this one, and the change in words."""
        return None

    @property
    def is_noncentred(self) -> bool:
        """True if the sample and the parameters of q are those of the prior's noise, not those of the value."""
        return False

    def __call__(self, features, query: Query, name: str, above=None) -> Latent:
        """Infer and score: features `[B, H]` or `[K, B, H]` to a `Latent`."""
        return self.score(self.infer(features, query, name), above)

    def infer(self, features: jax.Array, query: Query, name: str) -> Inferred:
        """The posterior given features `[B, H]` or `[K, B, H]`, with K samples, or those of `query.given[name]`."""
        return self.sample_or_take(self.condition(features), query, name)

    def condition(self, features: jax.Array) -> Conditional:
        """The posterior given features `[B, H]` or `[K, B, H]`."""
        raise NotImplementedError

    def sample_or_take(self, q: Conditional, query: Query, name: str) -> Inferred:
        """K samples of a posterior: `query.given[name]`, or from the uniform numbers `query.noise[name]`, or new ones.

        Raises:
          ValueError: the given samples have another shape than those of the posterior.
        """
        expected = (query.num_samples, q.num_examples, *(q.shape or (self.units,)))
        for kind, arrays in (("given", query.given), ("noise", query.noise)):
            if name in arrays and arrays[name].shape != expected:
                raise ValueError(f"expected {kind} {name!r} of shape {expected}, got {arrays[name].shape}")
        if name in query.given:
            sample = query.given[name]
        elif name in query.noise:
            if q.from_uniform is None:
                raise ValueError(f"expected a posterior that is sampled from uniform numbers, got noise for {name!r}")
            sample = q.from_uniform(query.noise[name])
        else:
            sample = q.sample(self.make_rng("sample"), (query.num_samples, q.num_examples))
        if q.transform is not None:
            value, log_det = q.transform(sample)
            return Inferred(q, sample, value, query, log_det)
        return Inferred(q, sample, self._value(sample), query)

    def score(self, inferred: Inferred, above: jax.Array | None = None, bottom_up: bool = False) -> Latent:
        """Score the sample under the prior.

        Args:
          above: features `[K, B, H]` of the layer above, which make the prior `p(z | above)`.
          bottom_up: the layer above was inferred from this sample. The KL is then `log_q - log_p` at the sample: the
            closed form would average over z at a fixed `above`, although `above` depends on z.
        """
        raise NotImplementedError

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        """Sample values `[1, num, U]` from the prior."""
        raise NotImplementedError

    def _value(self, sample: jax.Array) -> jax.Array:
        """Value `[K, B, U]` of a sample `[K, B, U, ...]`."""
        return sample

    @nn.nowrap
    def check_units(self) -> None:
        """Refuse a layer without units, which no entry has set up.

        Raises:
          ValueError: there is no unit.
        """
        if self.units < 1:
            raise ValueError(f"expected a layer of at least 1 unit, got {self.units}; set `units` in the entry's setup")


class JointLayer(LatentLayer):
    """A layer whose posterior and prior belong together, with one linear head for each.

    A subclass states the number of unconstrained parameters of a unit (`_num_unconstrained`), builds the distributions
    from them (`_posterior`, `_prior_from`), and scores a sample (`_score`).

    >>> from dgmzoo import RectifiedLayer
    >>> isinstance(RectifiedLayer(), JointLayer)
    True
    """

    learned_prior: bool = dataclasses.field(default=False, kw_only=True)
    """Learn the parameters of the prior; otherwise the prior is the default distribution of its family."""

    def setup(self):
        posterior_size, prior_size = self._num_unconstrained()
        self.posterior_head = dense(self.units * posterior_size, PointWeights())
        self.prior_head = dense(self.units * prior_size, self.weights)
        self.prior_parameters = Free((self.units, prior_size))

    def condition(self, features: jax.Array) -> Conditional:
        self.check_units()
        if features.ndim == 2:
            features = features[None]
        return factorized(self._posterior(self._per_unit(self.posterior_head(features))))

    def score(self, inferred: Inferred, above: jax.Array | None = None, bottom_up: bool = False) -> Latent:
        return self._score(inferred, above, closed=not bottom_up)

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        self.check_units()
        p = self._prior(above, jnp.float32)
        with relaxed_promotion():
            p = p.expand((1, num, self.units))
        return pathwise.sample(p, self.make_rng("sample"), 1)

    @nn.nowrap
    def _num_unconstrained(self) -> tuple[int, int]:
        """Number of unconstrained parameters of a unit, for the posterior and for the prior."""
        raise NotImplementedError

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        """q with unconstrained parameters `[K or 1, B, U, P]`."""
        raise NotImplementedError

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        """p with unconstrained parameters `[K or 1, B or 1, U, P]`; zeros give its default."""
        raise NotImplementedError

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        """The `Latent`; its KL may be in closed form only if `closed`."""
        raise NotImplementedError

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is not None:
            return self._prior_from(self._per_unit(self.prior_head(above)))
        if self.learned_prior:
            return self._prior_from(self.prior_parameters()[None, None])
        return self._prior_from(jnp.zeros((1, 1, self.units, self._num_unconstrained()[1]), dtype))

    def _per_unit(self, unconstrained: jax.Array) -> jax.Array:
        return unconstrained.reshape(*unconstrained.shape[:-1], self.units, -1)  # [K or 1, B, U, P]


def variational_layers(module: nn.Module, path: str = "model") -> list[tuple[str, LatentLayer]]:
    """Paths of the variational layers among the fields of a module, at any depth, and the layers.

    >>> from dgmzoo import VAE
    >>> [(path, type(layer).__name__) for path, layer in variational_layers(VAE())]
    [('model.latent', 'VariationalLayer')]
    """
    return [(part_path, part) for part_path, part in parts(module, path) if isinstance(part, LatentLayer)]
