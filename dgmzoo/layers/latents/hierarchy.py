"""`BottomUpHierarchy`: the base class of models whose layers of latents are inferred from the data upwards.

Bottom-up inference and the prior:

q(z | x) = q(z_1 | encoder(x)) q(z_2 | encoder(z_1)) ...,   p(z) = p(z_L) ... p(z_2 | decoder(z_3)) p(z_1 | decoder(z_2))
"""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.call import apply_network
from dgmzoo.layers.validation import check_entry
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.model.contract import Batch, Draw, Evidence, Latent, Query

Network = Callable[[jax.Array], jax.Array]


def infer_and_score(
    layers: Sequence[LatentLayer], encoders: Sequence[Network], decoders: Sequence[Network], x: jax.Array, query: Query
) -> tuple[dict[str, Latent], jax.Array]:
    """Infer all layers from x, from the bottom up, and score them under their priors, from the top down.

    Args:
      layers: from the data upwards.
      encoders: the network below each layer, from x `[B, D]` or from the values `[K, B, U]` of the layer below.
      decoders: the network from the values of each layer to the features of the layer below, or of p(x | z_1).
      x: `[B, D]`.

    Returns:
      The latents, named "z1", "z2", ..., and the features `[K, B, H]` of p(x | z_1).
    """
    inferred, below = [], x
    for level, (layer, encoder) in enumerate(zip(layers, encoders, strict=True)):
        inferred.append(layer.infer(apply_network(encoder, below, query), query, _name(level)))
        below = inferred[-1].value  # [K, B, U]
    latents, above = {}, None
    for level in reversed(range(len(layers))):
        latent = layers[level].score(inferred[level], above, bottom_up=above is not None)
        latents[_name(level)] = latent
        above = apply_network(decoders[level], latent.value, query)
    return latents, above


def infer_top_down(
    layers: Sequence[LatentLayer],
    features: Sequence[jax.Array],
    decoders: Sequence[Network],
    query: Query,
) -> tuple[dict[str, Latent], jax.Array]:
    """Infer all layers from the top down: q(z_l | x, z_{l+1}) reads features of x and of the layer above.

    The posterior of a layer does not depend on samples below it, so that the KL of every layer is in closed form where its
    pair of families has one.

    Args:
      layers: from the data upwards.
      features: of x for each layer, `[B, H]`, from the data upwards.
      decoders: the network from the values of each layer to the features of the layer below, or of p(x | z_1).

    Returns:
      The latents, named "z1", "z2", ..., and the features `[K, B, H]` of p(x | z_1).
    """
    latents, above = {}, None
    for level in reversed(range(len(layers))):
        own = features[level][None]  # [1, B, H]
        if above is not None:
            own = jnp.concatenate([jnp.broadcast_to(own, (*above.shape[:2], own.shape[-1])), above], -1)
        latent = layers[level](own, query, _name(level), above)
        latents[_name(level)] = latent
        above = apply_network(decoders[level], latent.value, query)
    return latents, above


def sample_top_down(
    layers: Sequence[LatentLayer], decoders: Sequence[Network], num: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Sample all layers from the prior, from the top down.

    Returns:
      Values `[1, num, U]` by name, and the features `[1, num, H]` of p(x | z_1).
    """
    values, above = {}, None
    for level in reversed(range(len(layers))):
        values[_name(level)] = layers[level].draw(num, above)
        above = apply_network(decoders[level], values[_name(level)], False)
    return values, above


def _name(level: int) -> str:
    return f"z{level + 1}"


class BottomUpHierarchy(nn.Module):
    """Base class of entries with layers of latents z1, z2, ... that are inferred from the data upwards.

    A subclass defines `setup`, which sets `layers`, `encoders` and `decoders`, from the data upwards.

    >>> from dgmzoo import HierarchicalVAE, SigmoidBeliefNetwork
    >>> issubclass(HierarchicalVAE, BottomUpHierarchy), issubclass(SigmoidBeliefNetwork, BottomUpHierarchy)
    (True, True)

    Raises:
      ValueError: a size is below 1.
    """

    latent_dims: tuple[int, ...] = (100, 50)
    """Number of units in each layer of latents, from the data upwards."""
    latent: LatentLayer = dataclasses.field(default=VariationalLayer(), kw_only=True)
    """Posterior and prior of every layer of latents; below the top, the prior depends on the layer above."""
    weights: Weights = dataclasses.field(default=PointWeights(), kw_only=True)
    """Weights of the decoder between layers: plain parameters, or random weights with a posterior and a prior."""
    likelihood: Likelihood = dataclasses.field(default=Bernoulli(), kw_only=True)
    """Likelihood p(x | features)."""
    shape: tuple[int, ...] | None = dataclasses.field(default=None, kw_only=True)
    """Shape of one x; None: that of the data."""

    bound = "elbo"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self)
        if not self.latent_dims or any(size < 1 for size in self.latent_dims):
            raise ValueError(f"expected latent_dims of at least one size >= 1, got {self.latent_dims}")

    @nn.nowrap
    def latent_layers(self) -> list[LatentLayer]:
        """A copy of `latent` for each layer."""
        return [self.latent.clone(units=size, weights=self.weights) for size in self.latent_dims]

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x, mask = batch["x"], batch.get("mask")  # [B, *shape]
        inputs = self.likelihood.inputs(x, self.shape, mask)
        latents, features = infer_and_score(self.layers, self.encoders, self.decoders, inputs, query)
        p = self.likelihood(features, self.shape, batch)  # [K, B, *shape]
        return Evidence(p.log_prob(x, mask), latents, parameters=p.parameters())

    def generate(self, num: int, context=None) -> Draw:
        latents, features = sample_top_down(self.layers, self.decoders, num)
        return self.likelihood(features, self.shape).draw(self.make_rng("sample"), latents)
