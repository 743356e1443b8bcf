"""Functions for stacked latent layers z_1, z_2, ...: inference from the data upwards, and sampling from the top down.

q(z | x) = q(z_1 | encoder(x)) q(z_2 | encoder(z_1)) ...,   p(z) = p(z_L) ... p(z_2 | decoder(z_3)) p(z_1 | decoder(z_2))
"""

from collections.abc import Callable, Sequence

import jax

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.networks.call import apply_network
from dgmzoo.model.contract import Latent, Query

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
