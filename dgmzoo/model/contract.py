"""`Model`: a model as pure functions; `Query`: the input of a call; `Evidence`: the terms of a bound on log p(x).

Training, evaluation and reports call a model only through the functions of `Model`. Shapes: `K` samples per example, `B`
examples, `U` independent units of a variational layer. Probabilities are in nats.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

Array = jax.Array
# "x" [B, ...]; where the data have them "label" [B], "context" [B, ...], "mask" [B, ...] (True = observed)
Batch = Mapping[str, Array]
Variables = Mapping[str, Any]  # "params" and the mutable collections of an entry


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "given", "noise", "rows", "weights"],
    meta_fields=["num_samples", "train", "resample"],
)
@dataclasses.dataclass(frozen=True)
class Query:
    """A request for evidence.

    Attributes:
      num_samples: `K`, samples of the latents per example.
      train: allow changes of the collections, and switch on training-only noise (dropout, relaxations).
      step: training step, for annealed quantities.
      given: layer name -> sample `[K, B, ...]` to score instead of a newly drawn one. Layers without a given sample
        draw one. A discrete layer also takes relaxed values.
      noise: layer name -> uniform numbers in (0, 1) `[K, B, ...]`, from which the layer makes its sample instead of new
        random numbers. Discrete layers take it, so that estimators can couple samples (antithetic pairs).
      resample: whether a model that carries log-weights over steps resamples them.
      rows: the rows that initialize the parameters; None except in `Model.init`. See `layers.from_rows`.
      weights: outside training, key of one sample of all random weights of the network; None: their posterior means.

    Raises:
      ValueError: `num_samples` is less than 1.

    >>> Query(num_samples=50).train
    False
    """

    num_samples: int = 1
    train: bool = False
    step: Array | int = 0
    given: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    noise: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    resample: bool = False
    rows: Batch | None = None
    weights: chex.PRNGKey | None = None

    def __post_init__(self):
        if isinstance(self.num_samples, int) and self.num_samples < 1:
            raise ValueError(f"expected num_samples >= 1, got {self.num_samples}")

    def with_inputs(self, inputs: Array) -> "Query":
        """The query for layers behind an encoder: in `init`, `rows` then hold the encoder's inputs `[N, inputs]` as x.

        >>> Query(rows={"x": jnp.zeros((2, 3), int)}).with_inputs(jnp.zeros((2, 12))).rows["x"].shape
        (2, 12)
        """
        return self if self.rows is None else dataclasses.replace(self, rows={"x": inputs})


class Latent(NamedTuple):
    """The sample of a variational layer, with its densities and its KL divergence.

    Attributes:
      value: `[K, B, ...]`, the input of the next layer.
      sample: `[K, B, ...]`, the random variable; `Query.given` takes it back.
      log_p: `[K, B]`, `log p(sample | layer above)` in nats.
      log_q: `[K, B]`, `log q(sample | x, ...)` in nats.
      kl: `[K or 1, B, U]` in nats, of each independent unit: in closed form where there is one, else log_q - log_p.
      q: name -> `[K or 1, B, ...]`, parameters of q; with its "mean" where units are real numbers, and "class_probs"
        `[K or 1, B, U, C]` where they are classes, whose use is then reported.

    >>> zeros = jnp.zeros((1, 4))
    >>> latent = Latent(zeros[..., None], zeros[..., None], zeros, zeros, zeros[..., None], {"mean": zeros[..., None]})
    >>> Evidence(zeros, {"z": latent}).log_weight.shape
    (1, 4)
    """

    value: Array
    sample: Array
    log_p: Array
    log_q: Array
    kl: Array
    q: dict[str, Array]


class Evidence(NamedTuple):
    """The terms of a bound on log p(x), for a batch.

    Giving the samples of an Evidence back through `Query.given` reproduces it.

    Attributes:
      log_likelihood: `[K, B]`, log p(x | z) in nats; for a density model log p(x), which may be `[1, B]` whatever K is.
      latents: name of a variational layer -> its `Latent`.
      weight_kl: `[]`, KL of random weights in nats, once for the whole data set.
      aux: name -> `[B]`, further loss terms of the entry.
      parameters: name -> `[K or 1, B, ...]`, parameters of p(x | z), and its "mean".

    >>> Evidence(jnp.full((1, 3), -2.0)).log_weight.tolist()
    [[-2.0, -2.0, -2.0]]
    """

    log_likelihood: Array
    latents: dict[str, Latent] = {}
    weight_kl: Array | float = 0.0
    aux: dict[str, Array] = {}
    parameters: dict[str, Array] = {}

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


class LossContext(NamedTuple):
    """Inputs of an extra loss beside the evidence and the batch.

    Attributes:
      key: random key of the step, the device and the loss.
      step: training step.
      num_data: number of training rows.
      gather: rows `[B, ...]` of this device -> those of all devices.

    >>> LossContext(jax.random.key(0), step=0, num_data=3, gather=lambda rows: rows).num_data
    3
    """

    key: chex.PRNGKey
    step: Array | int
    num_data: int
    gather: Callable[[Array], Array]


# (evidence, batch) or (evidence, batch, context: LossContext) -> loss term [B]
ExtraLoss = Callable[..., Array]


class Draw(NamedTuple):
    """Samples of x from a model.

    Attributes:
      x: `[num, ...]`, exact samples of p(x).
      mean: `[num, ...]`, mean of each element given the elements sampled before it, which papers show as pictures; None: it
        has no meaning.
      latents: layer -> `[num, U]`, latents of these samples; empty where the entry omits them.
      mask: `[num, ...]`, True = part of the sample; None: all of x.
      length: `[num]`, number of steps of each sampled sequence; None: all of x.

    >>> Draw(x=jnp.ones((2, 3)), mean=jnp.full((2, 3), 0.9)).latents
    {}
    """

    x: Array
    mean: Array | None = None
    latents: dict[str, Array] = {}
    mask: Array | None = None
    length: Array | None = None


class Model(NamedTuple):
    """A zoo entry as pure functions of its variables. `dgmzoo.functional` makes one of a Flax module.

    Attributes:
      init: `(key, batch) -> variables`.
      evidence: `(variables, batch, key, query=Query()) -> (Evidence, updates)`; `updates` holds the mutable
        collections after a training query, and is empty otherwise.
      generate: `(variables, key, num, context=None) -> Draw`; None: the entry cannot sample x.
      prepare: `(variables, key) -> variables`, called once before evaluation (log Z of a Boltzmann prior); None: not
        needed.
      bound: meaning of the mean of `log_weight`: "exact" | "elbo" | "predictive" (at the means of random weights, or over
        samples of them: no bound) | None (a point or quantized code: no bound on log p(x)).
      reductions: pairs of a mutable collection and its reduction over devices, see `dgmzoo.model.collections`.
      takes_given: the samples in `Query.given` can be scored under any row; False: the entry ignores them, or they are the
        noise of a transformed posterior, so that mutual information and robustness of its codes are not available.
    """

    init: Callable[..., Variables]
    evidence: Callable[..., tuple[Evidence, Variables]]
    generate: Callable[..., Draw] | None
    prepare: Callable[..., Variables] | None
    bound: str | None
    reductions: tuple[tuple[str, str], ...] = ()
    takes_given: bool = True
