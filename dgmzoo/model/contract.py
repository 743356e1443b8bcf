"""The contract: what every zoo entry answers, and how a Flax module becomes a set of pure functions.

Shapes: `K` samples per example, `B` examples, `U` independent units of a variational layer. Everything is in nats.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

Array = jax.Array
Batch = Mapping[
    str, Array
]  # "x" [B, ...]; where the data have them "label" [B], "context" [B, ...], "mask" [B, ...] (True = observed)
Variables = Mapping[str, Any]  # "params" and the mutable collections of an entry


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["step", "given", "weights"], meta_fields=["num_samples", "train"]
)
@dataclasses.dataclass(frozen=True)
class Query:
    """How an entry is asked for evidence.

    Attributes:
      num_samples: `K`, samples of the latents per example.
      train: whether state may change and training-only noise (dropout, relaxations) is on.
      step: the training step, for what is annealed.
      given: layer name -> sample `[K, B, ...]` to score instead of drawing one.
      weights: out of training, key of one draw of the whole network's random weights; None: their means.
    """

    num_samples: int = 1
    train: bool = False
    step: Array | int = 0
    given: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    weights: chex.PRNGKey | None = None

    def __post_init__(self):
        if isinstance(self.num_samples, int) and self.num_samples < 1:
            raise ValueError(f"expected num_samples >= 1, got {self.num_samples}")


class Latent(NamedTuple):
    """A variational layer's answer, in nats."""

    value: Array  # [K, B, ...]  what the next layer sees
    sample: Array  # [K, B, ...]  the random variable itself; goes back through `Query.given`
    log_p: Array  # [K, B]  log p(sample | above)
    log_q: Array  # [K, B]  log q(sample | x, ...)
    kl: Array  # [K or 1, B, U]  per independent unit; closed form where there is one, else the sample's
    q: dict[str, Array]  # [K or 1, B, ...]  parameters of q, and its "mean"


class Evidence(NamedTuple):
    """What a model says of a batch, in nats."""

    log_likelihood: Array  # [K, B]  log p(x | z); for a density model log p(x)
    latents: dict[str, Latent] = {}
    weight_kl: Array | float = 0.0  # []  KL of variational weights, once for the whole data set
    aux: dict[str, Array] = {}  # name -> [B]  further loss terms of the entry
    parameters: dict[str, Array] = {}  # parameters of p(x | z), and its "mean", [K, B, ...]

    @property
    def log_joint(self) -> Array:
        """`log p(x, z)`, `[K, B]`."""
        return sum((latent.log_p for latent in self.latents.values()), self.log_likelihood)

    @property
    def log_q(self) -> Array:
        """`log q(z | x)`, `[K, B]`; zero for a density model."""
        return sum((latent.log_q for latent in self.latents.values()), jnp.zeros_like(self.log_likelihood))

    @property
    def log_weight(self) -> Array:
        """`log p(x, z) - log q(z | x)`, `[K, B]`: its mean over K is the ELBO, its log-mean-exp the IWAE bound."""
        return self.log_joint - self.log_q


ExtraLoss = Callable[[Evidence, Batch], Array]  # a further loss term: [B]


class Draw(NamedTuple):
    """Draws from a model."""

    x: Array  # [num, ...]  exact samples of p(x)
    mean: Array  # [num, ...]  mean of each element given all that was drawn before it (what papers picture)
    latents: dict[str, Array] = {}  # layer -> [num, U]  the values that x was drawn from, where the entry tells them


class Model(NamedTuple):
    """A zoo entry as pure functions of its variables. None where the entry has no such thing.

    Attributes:
      init: `(key, batch) -> variables`.
      evidence: `(variables, batch, key, query=Query()) -> (Evidence, updates)`; updates holds the mutable
        collections as they stand after a training query, and is empty otherwise.
      generate: `(variables, key, num, context=None) -> Draw`.
      prepare: `(variables, key) -> variables`, once before evaluation (a Boltzmann prior's log Z).
      bound: what the mean of `log_weight` is: "exact" | "elbo" | "predictive" (at the means of random weights, or over
        draws of them: no bound) | None (a point or quantized code: no bound on log p(x)).
    """

    init: Callable[..., Variables]
    evidence: Callable[..., tuple[Evidence, Variables]]
    generate: Callable[..., Draw] | None
    prepare: Callable[..., Variables] | None
    bound: str | None
