"""`functional`: convert a Linen module to pure functions; `num_parameters`: count the parameters of a module."""

import contextlib
import math
import zlib
from collections.abc import Iterator

import chex
import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.model.collections import check_declared, declared
from dgmzoo.model.contract import Array, Batch, Evidence, Model, Query, Variables
from dgmzoo.model.module_tree import has_random_weights, parts
from dgmzoo.model.precision import check_densities
from dgmzoo.model.random_weights import random_weights, weight_kl, weights_drawn

_STREAMS = ("sample", "weights", "dropout")
_DEFAULT_QUERY = Query()
_BOUNDS = ("exact", "elbo", "predictive")


def streams(key: chex.PRNGKey) -> dict[str, chex.PRNGKey]:
    """A key for each of Linen's random streams.

    The keys differ, because Linen draws the same numbers from the same key under two stream names.

    >>> list(streams(jax.random.key(0)))
    ['sample', 'weights', 'dropout']
    """
    return {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in _STREAMS}


def mean_weights(module: nn.Module, variables: Variables, batch: Batch) -> dict[str, Array]:
    """Path of a layer -> posterior mean `[..., inputs, outputs]` of its random weights.

    Only layers that take part in the evidence of the batch are listed.
    """
    with weights_drawn(None) as noise:
        rngs = streams(jax.random.key(0))
        jax.eval_shape(lambda: module.apply(variables, batch, Query(), rngs=rngs, method="evidence"))
    return {
        "/".join(path): weights.mean(parameters)
        for path, weights, parameters in random_weights(noise, variables["params"])
    }


def functional(module: nn.Module) -> Model:
    """The pure functions of a Linen module with a method `evidence(batch, query)`.

    The module may also have `generate(num, context)`, `prepare()` and a class attribute `bound` ("elbo" by default). If
    a module among its fields has no bound or no prior (a point layer), neither has the whole. `init` asks for evidence
    once, as in training, so a module that updates its own collections must check `is_initializing()`. A collection that
    changes in training names its reduction over devices, see `dgmzoo.model.collections`.

    Raises:
      ValueError: the module has no `evidence`; when traced, the shapes differ from those of `Evidence` and `Latent`,
        a density has fewer bits than float32, a collection without a declared reduction over devices changes in
        training, or dropout or batch statistics stay on in evaluation.

    >>> class Coin(nn.Module):
    ...     bound = "exact"
    ...     @nn.compact
    ...     def evidence(self, batch, query):
    ...         logit = self.param("logit", nn.initializers.zeros, ())
    ...         return Evidence(nn.log_sigmoid(logit * (2 * batch["x"] - 1))[None])
    >>> model, batch = functional(Coin()), {"x": jnp.array([0.0, 1.0])}
    >>> variables = model.init(jax.random.key(0), batch)
    >>> evidence, updates = model.evidence(variables, batch, jax.random.key(1))
    >>> evidence.log_likelihood.shape, updates
    ((1, 2), {})
    """
    if not hasattr(module, "evidence"):
        raise ValueError(f"expected a module with evidence(batch, query), got {type(module).__name__}")

    parts_have_bound = all(getattr(part, "has_bound", True) for _, part in parts(module))
    parts_have_prior = all(getattr(part, "has_prior", True) for _, part in parts(module))
    bound = _declared_bound(module)
    bound = "predictive" if bound and has_random_weights(module) else bound
    bound = bound if parts_have_bound else None
    reductions = declared(module)

    def init(key: chex.PRNGKey, batch: Batch) -> Variables:
        rngs = {"params": key, **streams(key)}
        variables = module.init(rngs, batch, Query(train=True, rows=batch), method="evidence")
        return {name: value for name, value in variables.items() if name != "intermediates"}

    def evidence(variables, batch, key, query=_DEFAULT_QUERY):
        mutable = [name for name in variables if name != "params"] if query.train else False
        keys = streams(key) if query.train else _evaluation_streams(key)
        own_weights = query.train and query.num_samples == 1  # every example may have weights of its own
        with (
            weights_drawn(
                keys["weights"] if query.train else query.weights, len(batch["x"]) if own_weights else None
            ) as noise,
            _plain_errors(type(module).__name__, query.train),
        ):
            answer = module.apply(variables, batch, query, rngs=keys, mutable=mutable, method="evidence")
        evidence, updates = answer if query.train else (answer, {})
        check_declared(type(module).__name__, reductions, variables, updates)
        evidence = _for_every_sample(evidence, query.num_samples)
        _check_shapes(evidence, query.num_samples, len(batch["x"]), type(module).__name__)
        check_densities(evidence, type(module).__name__)
        _check_latents(module, bound, evidence)
        if unknown := (set(query.given) | set(query.noise)) - set(evidence.latents):
            raise ValueError(f"expected given samples for {sorted(evidence.latents)}, got {sorted(unknown)}")
        if noise.layers and bound in ("elbo", "exact"):
            raise ValueError(
                f"expected the random weights of {type(module).__name__} in its fields, got "
                f"{'/'.join(next(iter(noise.layers)))} in no field; "
                'keep them in a field (`weights: Weights`) or set the class attribute bound = "predictive"'
            )
        kl = weight_kl(noise, variables["params"], jax.random.fold_in(keys["weights"], 1))
        return evidence._replace(weight_kl=evidence.weight_kl + kl), updates

    def generate(variables, key, num, context=None):
        with _plain_errors(type(module).__name__, train=False):
            return module.apply(variables, num, context, rngs=_evaluation_streams(key), method="generate")

    def prepare(variables, key):
        mutable = [name for name in variables if name != "params"]
        _, updates = module.apply(variables, rngs=streams(key), mutable=mutable, method="prepare")
        return {**variables, **updates}

    return Model(
        init=init,
        evidence=evidence,
        generate=generate if hasattr(module, "generate") and parts_have_prior else None,
        prepare=prepare if hasattr(module, "prepare") else None,
        bound=bound,
        reductions=tuple(reductions.items()),
    )


def _declared_bound(module: nn.Module) -> str | None:
    """The class attribute `bound` of a module, "elbo" where it declares none."""
    bound = getattr(module, "bound", "elbo")
    if bound not in (*_BOUNDS, None):
        raise ValueError(
            f"expected the class attribute bound of {type(module).__name__} to be {', '.join(map(repr, _BOUNDS))} or None "
            f"(no bound on log p(x)), got {bound!r}"
        )
    return bound


def _check_latents(module: nn.Module, bound: str | None, evidence: Evidence) -> None:
    """Refuse an "exact" density with latents, and a module without latents that does not say what its density is."""
    name = type(module).__name__
    if bound == "exact" and evidence.latents:
        raise ValueError(
            f"expected no latents in the evidence of {name}, whose bound is 'exact', got {', '.join(evidence.latents)}; "
            "set the class attribute bound = 'elbo'"
        )
    if not evidence.latents and not hasattr(module, "bound"):
        raise ValueError(
            f"expected {name}, whose evidence has no latents, to say what its log_likelihood is, got no class attribute "
            "`bound`; set bound = 'exact' for log p(x), or None for a loss that does not bound log p(x)"
        )


def _evaluation_streams(key: chex.PRNGKey) -> dict[str, chex.PRNGKey]:
    """Random streams outside training: without "dropout", so that dropout that stays on is noticed."""
    return {name: stream for name, stream in streams(key).items() if name != "dropout"}


@contextlib.contextmanager
def _plain_errors(module_name: str, train: bool) -> Iterator[None]:
    """Translate Flax's errors about random streams and changed collections."""
    try:
        yield
    except (flax.errors.InvalidRngError, flax.errors.ModifyScopeVariableError) as error:
        if train:
            raise ValueError(
                f"expected {module_name} to draw from the random streams {', '.join(map(repr, _STREAMS))}, got: {error}"
            ) from None
        is_random = isinstance(error, flax.errors.InvalidRngError)
        found = "one that needs a random stream other than 'sample'" if is_random else "one that changes a collection"
        raise ValueError(
            f"expected an evaluation of {module_name} without dropout and with fixed batch statistics, got {found}; give "
            "the network's `__call__` an argument `train`, which the entry sets (`dgmzoo.layers.networks.call`), and pass "
            f"deterministic=not train to nn.Dropout, use_running_average=not train to nn.BatchNorm. Flax says: {error}"
        ) from None


def _for_every_sample(evidence: Evidence, num_samples: int) -> Evidence:
    """Repeat the log-likelihood `[1, B]` of a density without latents, which depends on no sample, to `[K, B]`."""
    shape = jnp.shape(evidence.log_likelihood)
    if evidence.latents or len(shape) != 2 or shape[0] != 1 or num_samples == 1:
        return evidence
    return evidence._replace(log_likelihood=jnp.broadcast_to(evidence.log_likelihood, (num_samples, shape[1])))


def _check_shapes(evidence: Evidence, num_samples: int, num_examples: int, module_name: str) -> None:
    """Refuse evidence that would be summed over the wrong axes, or fail only after training."""
    per_sample = (num_samples, num_examples)
    is_exact = not evidence.latents and jnp.shape(evidence.log_likelihood) == (1, num_examples)
    per_unit = f"({' or '.join(map(str, sorted({1, num_samples})))}, {num_examples}, units)"
    checks = [
        ("log_likelihood", evidence.log_likelihood, (1, num_examples) if is_exact else per_sample),
        *((f"aux[{name!r}]", term, (num_examples,)) for name, term in evidence.aux.items()),
    ]
    for name, latent in evidence.latents.items():
        checks += [(f"latents[{name!r}].{field}", getattr(latent, field), per_sample) for field in ("log_p", "log_q")]
        shape = jnp.shape(latent.kl)
        if len(shape) != 3 or shape[0] not in (1, num_samples) or shape[1] != num_examples:
            checks.append((f"latents[{name!r}].kl", latent.kl, per_unit))
    for field, value, expected in checks:
        if jnp.shape(value) != expected:
            raise ValueError(
                f"expected evidence of {module_name} with {field} of shape {expected}, got {jnp.shape(value)} "
                f"(K = {num_samples} samples, B = {num_examples} examples; shapes are listed at dgmzoo.Evidence)"
            )


def num_parameters(variables: Variables) -> int:
    """Number of learned numbers.

    >>> num_parameters({"params": {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}})
    16
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
