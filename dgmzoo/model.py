"""The contract: what every zoo entry answers, and how a Flax module becomes a set of pure functions.

Shapes: `K` samples per example, `B` examples, `U` independent units of a variational layer. Everything is in nats.
"""

import contextvars
import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.parts import has_random_weights, parts
from dgmzoo.weight_noise import random_weights, weight_kl, weights_drawn

Array = jax.Array
Batch = Mapping[
    str, Array
]  # "x" [B, ...]; where the data have them "label" [B], "context" [B, ...], "mask" [B, ...] (True = observed)
Variables = Mapping[str, Any]  # "params" and the mutable collections of an entry

_STREAMS = ("sample", "weights", "dropout")


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
    output: dict[str, Array] = {}  # parameters of p(x | z), and its "mean", [K, B, ...]

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


Term = Callable[[Evidence, Batch], Array]  # a further loss term: [B]


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


def streams(key: chex.PRNGKey) -> dict[str, chex.PRNGKey]:
    """One key per random stream. Linen draws the same numbers from the same key under two stream names."""
    return {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in _STREAMS}


_COMPUTE: contextvars.ContextVar = contextvars.ContextVar("compute", default=None)


def compute_dtype() -> jnp.dtype | None:
    """The dtype in which dense layers multiply, set by `in_precision`; None for that of their input and parameters.

    Parameters stay in float32, and so do densities: heads cast up what they are given (`families.widened`).
    """
    return _COMPUTE.get()


def in_precision(model: Model, dtype: jnp.dtype) -> Model:
    """The model with its networks' products computed in another dtype, such as bfloat16."""

    def wrapped(function):
        @functools.wraps(function)
        def call(*arguments, **named):
            token = _COMPUTE.set(dtype)
            try:
                return function(*arguments, **named)
            finally:
                _COMPUTE.reset(token)

        return call

    return model._replace(init=wrapped(model.init), evidence=wrapped(model.evidence))


def mean_weights(module: nn.Module, variables: Variables, batch: Batch) -> dict[str, Array]:
    """Path -> posterior mean `[..., inputs, outputs]`, of the random weights that evidence of a batch meets."""
    with weights_drawn(None) as noise:
        rngs = streams(jax.random.key(0))
        jax.eval_shape(lambda: module.apply(variables, batch, Query(), rngs=rngs, method="evidence"))
    return {"/".join(path): kind.mean(own) for path, kind, own in random_weights(noise, variables["params"])}


def functional(module: nn.Module) -> Model:
    """The pure functions of a Linen module that has `evidence(batch, query)`.

    The module may also have `generate(num, context)`, `prepare()` and a class attribute `bound` ("elbo" by default).
    A part of it that has no bound or no prior (a point layer) leaves the whole without.
    `init` asks for evidence once, in training: a module that moves its own state then checks `is_initializing()`.

    Raises (when traced):
      ValueError: the evidence has other shapes than `Evidence` and `Latent` say.
    """
    if not hasattr(module, "evidence"):
        raise ValueError(f"expected a module with evidence(batch, query), got {type(module).__name__}")

    bounds = all(getattr(part, "has_bound", True) for _, part in parts(module))
    draws = all(getattr(part, "has_prior", True) for _, part in parts(module))
    bound = getattr(module, "bound", "elbo")
    bound = "predictive" if bound and has_random_weights(module) else bound
    bound = bound if bounds else None

    def init(key: chex.PRNGKey, batch: Batch) -> Variables:
        rngs = {"params": key, **streams(key)}
        variables = module.init(rngs, batch, Query(train=True), method="evidence")
        return {name: value for name, value in variables.items() if name != "intermediates"}

    def evidence(variables, batch, key, query=Query()):
        mutable = [name for name in variables if name != "params"] if query.train else False
        keys = streams(key)
        one = query.train and query.num_samples == 1
        with weights_drawn(
            keys["weights"] if query.train else query.weights, len(batch["x"]) if one else None
        ) as noise:
            answer = module.apply(variables, batch, query, rngs=keys, mutable=mutable, method="evidence")
        found, updates = answer if query.train else (answer, {})
        _check_shapes(found, query.num_samples, len(batch["x"]), type(module).__name__)
        if unknown := set(query.given) - set(found.latents):
            raise ValueError(f"expected given samples for {sorted(found.latents)}, got {sorted(unknown)}")
        if noise.found and bound in ("elbo", "exact"):
            raise ValueError(
                f"expected {type(module).__name__} to tell of its random weights, got {'/'.join(next(iter(noise.found)))} "
                'in no field; keep them in a field (`weights: Weights`) or set the class attribute bound = "predictive"'
            )
        kl = weight_kl(noise, variables["params"], jax.random.fold_in(keys["weights"], 1))
        return found._replace(weight_kl=found.weight_kl + kl), updates

    def generate(variables, key, num, context=None):
        return module.apply(variables, num, context, rngs=streams(key), method="generate")

    def prepare(variables, key):
        mutable = [name for name in variables if name != "params"]
        _, updates = module.apply(variables, rngs=streams(key), mutable=mutable, method="prepare")
        return {**variables, **updates}

    return Model(
        init=init,
        evidence=evidence,
        generate=generate if hasattr(module, "generate") and draws else None,
        prepare=prepare if hasattr(module, "prepare") else None,
        bound=bound,
    )


def _check_shapes(found: Evidence, num_samples: int, num: int, name: str) -> None:
    """Refuse evidence that would be summed over the wrong axes, or only fail once training has ended."""
    both, kl = (num_samples, num), f"({' or '.join(map(str, sorted({1, num_samples})))}, {num}, units)"
    told = [
        ("log_likelihood", found.log_likelihood, both),
        *((f"aux[{key!r}]", aux, (num,)) for key, aux in found.aux.items()),
    ]
    for key, latent in found.latents.items():
        told += [(f"latents[{key!r}].{which}", getattr(latent, which), both) for which in ("log_p", "log_q")]
        if jnp.ndim(latent.kl) != 3 or latent.kl.shape[0] not in (1, num_samples) or latent.kl.shape[1] != num:
            told.append((f"latents[{key!r}].kl", latent.kl, kl))
    for what, value, expected in told:
        if jnp.shape(value) != expected:
            raise ValueError(
                f"expected evidence of {name} with {what} of shape {expected}, got {jnp.shape(value)} "
                f"(K = {num_samples} samples, B = {num} examples; shapes are told at dgmzoo.model.Evidence)"
            )


def num_parameters(variables: Variables) -> int:
    """How many numbers are learned."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
