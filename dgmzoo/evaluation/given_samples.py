"""`check_given`: check that a model uses given latent samples instead of drawing new ones."""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.config.preflight import Resolved
from dgmzoo.layers.latents.base import variational_layers
from dgmzoo.model.contract import Array, Batch, Evidence, Model, Query, Variables

_TOLERANCE = 1e-3  # relative to a norm; in float32, after a transformation of the sample and back


def check_given(resolved: Resolved, law: bool = True) -> Resolved:
    """Check that the entry scores given samples, where that is needed; otherwise note the fact in `model.takes_given`.

    DReG and rematerialization (`training.remat`) give samples back. Code metrics that score a sample under other rows are
    left out for an entry that ignores given samples, and for one whose samples are the noise of a transformed posterior:
    the same noise is another value under another row.

    Args:
      law: also check before DReG and rematerialization that values and gradients are reproduced in training.

    Raises:
      ValueError: with the layer or term, and the reason.
    """
    experiment, dataset, module, model, _ = resolved
    rows = {name: np.asarray(leaf[:2]) for name, leaf in dataset.splits["train"].items()}
    key = jax.random.key(0)
    batch, first = dataset.observe(key, rows), dataset.observe(key, dataset.initial_rows())
    probe = model._replace(init=lambda key, batch: model.init(key, first))  # as many rows as training initializes with
    user = type(experiment.objective).__name__ if experiment.objective.needs.given else None
    user = user or ("training.remat" if experiment.training.remat else None)
    ignored = ignored_layers(probe, batch, key)
    if user and ignored:
        raise ValueError(
            f"expected {type(module).__name__} to score the samples in query.given for {user}, got other samples of "
            f"{', '.join(ignored)} back: the gradient would be wrong; where query.given has the layer's name, return and "
            "score that sample, or choose another objective, such as iwae, without training.remat"
        )
    if user and law and (term := law_violation(probe, batch, min(2, experiment.objective.num_samples), key)):
        raise ValueError(
            f"expected {type(module).__name__} to reproduce its evidence in training where its samples are given back, as "
            f"{user} needs, got another result for {term}: the gradient would be wrong; make the layer's value a function "
            "of its sample, or choose another objective, such as iwae, without training.remat"
        )
    are_noise = any(layer.facts().samples_noise for _, layer in variational_layers(module))
    return resolved._replace(model=model._replace(takes_given=not ignored and not are_noise))


def ignored_layers(model: Model, batch: Batch, key: chex.PRNGKey) -> list[str]:
    """Layers that return another sample than the one in `Query.given`.

    The program is traced first. Nothing is computed where it hands every given sample through as it is. Otherwise samples
    are drawn for the batch, exchanged between its examples, and given back.

    Args:
      batch: at least two examples.

    >>> from dgmzoo.model.contract import Latent
    >>> def ignoring(variables, batch, key, query=Query()):
    ...     z, zeros = jax.random.normal(key, (1, 2, 3)), jnp.zeros((1, 2))
    ...     return Evidence(zeros, {"z": Latent(z, z, zeros, zeros, z, {"mean": z})}), {}
    >>> model = Model(lambda key, batch: {}, ignoring, None, None, "elbo")
    >>> ignored_layers(model, {"x": jnp.ones((2, 4))}, jax.random.key(0))
    ['z']
    """

    def samples_of(variables, given, query_key):
        evidence, _ = model.evidence(variables, batch, query_key, Query(given=given))
        return {name: latent.sample for name, latent in evidence.latents.items()}

    shapes = jax.eval_shape(model.init, key, batch)
    samples = jax.eval_shape(samples_of, shapes, {}, key)
    if not samples or _hands_through(samples_of, shapes, samples, key):
        return []

    def exchange(key):
        variables = model.init(key, batch)
        drawn = samples_of(variables, {}, jax.random.fold_in(key, 1))
        exchanged = {name: sample[:, ::-1] for name, sample in drawn.items()}
        return exchanged, samples_of(variables, exchanged, jax.random.fold_in(key, 2))

    exchanged, returned = jax.device_get(jax.jit(exchange)(key))
    return [name for name in exchanged if not np.array_equal(exchanged[name], returned[name])]


def law_violation(model: Model, batch: Batch, num_samples: int, key: chex.PRNGKey) -> str | None:
    """The term of the evidence in training that is not reproduced by giving its samples back; None if all are.

    Values are compared, and the gradient of a random projection of all terms with respect to the parameters. A layer
    whose `value` is no function of its `sample` (a relaxed value beside a discrete sample) has the same values and
    another gradient.

    >>> model = Model(lambda key, batch: {"params": {}}, lambda *_: (Evidence(jnp.zeros((1, 2))), {}), None, None, "exact")
    >>> law_violation(model, {"x": jnp.ones((2, 4))}, 1, jax.random.key(0)) is None
    True
    """

    def terms(params, collections, query_key, given_back):
        variables, query = {**collections, "params": params}, Query(num_samples, train=True)
        evidence, _ = model.evidence(variables, batch, query_key, query)
        if given_back:
            given = {name: latent.sample for name, latent in evidence.latents.items()}
            query = Query(num_samples, train=True, given=given)
            evidence, _ = model.evidence(variables, batch, query_key, query)
        return _terms(evidence)

    def differences(key):
        variables = model.init(key, batch)
        collections = {name: tree for name, tree in variables.items() if name != "params"}

        def projection(params, given_back):
            values = terms(params, collections, jax.random.fold_in(key, 1), given_back)
            total = 0.0
            for i, value in enumerate(values.values()):  # weights of both signs: terms do not cancel by symmetry
                total += (value * jax.random.normal(jax.random.fold_in(key, i), value.shape, value.dtype)).sum()
            return total, values

        (own, values), (given, given_values) = (
            jax.grad(projection, has_aux=True)(variables["params"], given_back) for given_back in (False, True)
        )
        errors = {f"the value of {name}": _difference(values[name], given_values[name]) for name in values}
        errors["the gradient"] = _difference(_flat(own), _flat(given))
        return errors

    errors = jax.device_get(jax.jit(differences)(key))
    return next((name for name, error in errors.items() if not error <= _TOLERANCE), None)


def _hands_through(function: Any, variables: Variables, given: Mapping[str, Any], key: chex.PRNGKey) -> bool:
    """True if the outputs of a traced program are its inputs `given`."""
    program = jax.make_jaxpr(function)(variables, given, key).jaxpr
    first = len(jax.tree.leaves(variables))
    inputs = program.invars[first : first + len(given)]
    return all(output is own for output, own in zip(program.outvars, inputs, strict=True))


def _terms(evidence: Evidence) -> dict[str, Array]:
    terms = {"log_likelihood": evidence.log_likelihood}
    for name, latent in evidence.latents.items():
        terms |= {f"log_p of {name!r}": latent.log_p, f"log_q of {name!r}": latent.log_q}
    return terms


def _flat(tree: Any) -> Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)] or [jnp.zeros(1)])


def _difference(a: Array, b: Array) -> Array:
    """Norm of the difference of two arrays, relative to that of the first; elements that are NaN in both agree."""
    difference = jnp.where(jnp.isnan(a) & jnp.isnan(b), jnp.zeros((), a.dtype), a - b)
    return jnp.linalg.norm(jnp.ravel(difference)) / (jnp.linalg.norm(jnp.ravel(jnp.nan_to_num(a))) + 1e-3)
