"""Layers of latents z1, z2, ... from the data upwards: inferred on the way up, scored and drawn on the way down.

q(z | x) = q(z_1 | encoder(x)) q(z_2 | encoder(z_1)) ...,   p(z) = p(z_L) ... p(z_2 | decoder(z_3)) p(z_1 | decoder(z_2))
"""

from collections.abc import Callable, Sequence

import jax

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.model.contract import Latent, Query

Network = Callable[[jax.Array], jax.Array]


def inferred_and_scored(
    layers: Sequence[LatentLayer], encoders: Sequence[Network], decoders: Sequence[Network], x: jax.Array, query: Query
) -> tuple[dict[str, Latent], jax.Array]:
    """The latents by name given x `[B, D]`, and what the last decoder makes of them, `[K, B, H]`."""
    inferred, below = [], x
    for level, (layer, encoder) in enumerate(zip(layers, encoders, strict=True)):
        inferred.append(layer.infer(encoder(below), query, _name(level)))
        below = inferred[-1].value  # [K, B, U]
    latents, above = {}, None
    for level in reversed(range(len(layers))):
        latent = layers[level].score(inferred[level], above, bottom_up=above is not None)
        latents[_name(level)] = latent
        above = decoders[level](latent.value)
    return latents, above


def drawn_from_above(
    layers: Sequence[LatentLayer], decoders: Sequence[Network], num: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Latents `[1, num, U]` by name from the prior, and what the last decoder makes of them."""
    latents, above = {}, None
    for level in reversed(range(len(layers))):
        latents[_name(level)] = layers[level].draw(num, above)
        above = decoders[level](latents[_name(level)])
    return latents, above


def _name(level: int) -> str:
    return f"z{level + 1}"
