"""`Tokens`: the likelihood of token sequences, computed one step at a time to save memory."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.contract import Batch, Draw
from dgmzoo.reparam import families


class Tokens(Likelihood):
    """Categorical distributions of tokens `[B, T]` in {0, ..., vocabulary - 1}, from features `[K, B, T, H]` of each step.

    The logits of one step are computed at a time, and again in the backward pass: memory grows with K B V and not with
    K B T V. The mask `[B, T]` of the rows, or their length `[B]`, tells which tokens count.

    >>> Tokens(vocabulary=10_000).vocabulary
    10000

    Raises:
      ValueError: there are fewer than 2 tokens; when called, the features are not those of each step.
    """

    vocabulary: int | None = None
    """Number of tokens; None: that of the data's words."""

    def __post_init__(self):
        super().__post_init__()
        if self.vocabulary is not None and self.vocabulary < 2:
            raise ValueError(f"expected a vocabulary of at least 2 tokens, got {self.vocabulary}")

    @property
    def size(self) -> int:
        if self.vocabulary is None:
            raise ValueError(
                "expected the vocabulary of the likelihood to be set, got None; pass Tokens(vocabulary=...)"
            )
        return self.vocabulary

    @property
    def input_size(self) -> int:
        return self.size

    def encode(self, x: jax.Array) -> jax.Array:
        return jax.nn.one_hot(x.astype(jnp.int32), self.size, dtype=jnp.float32)

    def check_support(self, x: np.ndarray) -> None:
        if not np.issubdtype(x.dtype, np.integer) or x.min() < 0 or x.max() >= self.size:
            raise ValueError(
                f"expected integer tokens in 0..{self.size - 1}, got {x.dtype} from {x.min():g} to {x.max():g}; "
                "set the vocabulary or choose another likelihood"
            )

    def setup(self):
        self.head = dense(self.size, self.weights)

    def __call__(self, features: jax.Array, shape: tuple[int, ...], first: Batch | None = None) -> "TokenSequence":
        """Features `[K, B, T, H]` to p(x) of tokens `[K, B, T]`; `shape` is (T,)."""
        if features.ndim != 4 or features.shape[2:3] != tuple(shape):
            raise ValueError(f"expected features [K, B, {', '.join(map(str, shape))}, H], got {features.shape}")
        return TokenSequence(self, features)

    def log_probs(self, features: jax.Array) -> jax.Array:
        """Log-probabilities `[..., V]` of the tokens, from features `[..., H]`."""
        return jax.nn.log_softmax(families.at_least_float32(self.head(features)), -1)


@dataclasses.dataclass(frozen=True)
class TokenSequence:
    """p(x) of token sequences, made by `Tokens` within one call of a module."""

    likelihood: Tokens
    features: jax.Array  # [K, B, T, H]

    def log_prob(self, x: jax.Array, mask: jax.Array | None = None, length: jax.Array | None = None) -> jax.Array:
        """Log-likelihood `[K, B]` of x `[B, T]` in nats.

        Args:
          mask: `[B, T]`; tokens with False contribute nothing.
          length: `[B]`; tokens from there on contribute nothing.
        """
        num_steps = self.features.shape[2]
        if x.shape[1:] != (num_steps,):
            raise ValueError(f"expected x of shape {(num_steps,)} an example, got {x.shape[1:]}")
        counts = jnp.ones(x.shape, bool) if mask is None else mask
        if length is not None:
            counts = counts & (jnp.arange(num_steps)[None] < length[:, None])
        x = jnp.where(counts, x, 0)

        def step(likelihood, total, inputs):
            features, token, count = inputs  # [K, B, H], [B], [B]
            log_probs = likelihood.log_probs(features)  # [K, B, V]
            token = jnp.broadcast_to(token[None, :, None], (*log_probs.shape[:2], 1))
            term = jnp.take_along_axis(log_probs, token, -1)[..., 0]
            return total + jnp.where(count[None], term, jnp.zeros((), term.dtype)), None

        scan = nn.scan(nn.remat(step), variable_broadcast="params", split_rngs={"params": False, "sample": True})
        total = jnp.zeros(self.features.shape[:2], jnp.float32)
        return scan(self.likelihood, total, (jnp.moveaxis(self.features, 2, 0), x.T, counts.T))[0]

    def parameters(self) -> dict[str, jax.Array]:
        """Nothing: the logits of a large vocabulary are not kept."""
        return {}

    def draw(self, key: jax.Array, latents: Mapping[str, jax.Array] | None = None) -> Draw:
        """Sample tokens that are independent given the features."""

        def step(likelihood, carry, inputs):
            features, key = inputs
            return carry, jax.random.categorical(key, likelihood.log_probs(features), -1)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        keys = jax.random.split(key, self.features.shape[2])
        _, tokens = scan(self.likelihood, None, (jnp.moveaxis(self.features[0], 1, 0), keys))
        return Draw(tokens.T, None, {name: value[0] for name, value in (latents or {}).items()})
