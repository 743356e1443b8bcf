"""`context_features`: features of the label and the context that a density model is conditioned on."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.networks.call import apply_network
from dgmzoo.model.contract import Batch, Query


def context_features(module: nn.Module, rows: Batch | None, num: int, query: Query | bool = False) -> jax.Array | None:
    """Features `[num, H]` of the label and the context of each row, or None for a density of x alone.

    The module has the fields `context` (a network of the flattened context, or None) and `labels` (the number of labels,
    which are one-hot features; 0: the label is not read).

    Raises:
      ValueError: the rows lack the context or the label that the module is conditioned on.

    >>> from dgmzoo import MADE
    >>> made = MADE(labels=3, shape=(2,))
    >>> context_features(made, {"label": jnp.array([2])}, 1).tolist()
    [[0.0, 0.0, 1.0]]
    """
    features = []
    for field, is_read in (("context", module.context is not None), ("label", module.labels > 0)):
        if not is_read:
            continue
        if field not in (rows or {}) or len(rows[field]) != num:
            name = type(module).__name__
            raise ValueError(
                f"expected a {field} for each of {num} rows of a conditional {name}, got {_found(rows, field)}"
            )
        if field == "context":
            features.append(apply_network(module.context, rows["context"].reshape(num, -1), query))
        else:
            is_real = "x" in rows and jnp.issubdtype(rows["x"].dtype, jnp.floating)
            dtype = rows["x"].dtype if is_real else jnp.result_type(float)
            features.append(jax.nn.one_hot(rows["label"].reshape(num), module.labels, dtype=dtype))
    return jnp.concatenate(features, -1) if features else None


def _found(rows: Batch | None, field: str) -> str:
    return f"{len(rows[field])}" if field in (rows or {}) else "none"


def refuse_mask(module: nn.Module, rows: Batch) -> None:
    """Refuse x with missing elements, for a density without closed-form marginals.

    Raises:
      ValueError: the rows have a mask.

    >>> refuse_mask(nn.Dense(1), {"x": jnp.ones((1, 2))})
    """
    if "mask" in rows:
        raise ValueError(
            f"expected x without a mask, got one: {type(module).__name__} has no closed-form marginals over missing "
            "elements; choose data without missing elements, or a VAE, or a mixture density network for real-valued x"
        )
