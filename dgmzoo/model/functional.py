"""Pure functions of a Linen module: init, evidence, generate, prepare."""

import math
import zlib

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.model.contract import Array, Batch, Evidence, Model, Query, Variables
from dgmzoo.model.module_tree import has_random_weights, parts
from dgmzoo.model.random_weights import random_weights, weight_kl, weights_drawn

_STREAMS = ("sample", "weights", "dropout")
_QUERY = Query()  # the default of a model that is asked nothing in particular


def streams(key: chex.PRNGKey) -> dict[str, chex.PRNGKey]:
    """One key per random stream. Linen draws the same numbers from the same key under two stream names."""
    return {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in _STREAMS}


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

    def evidence(variables, batch, key, query=_QUERY):
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
