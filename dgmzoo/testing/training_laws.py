"""Property tests of training, for example that each parameter gets a finite gradient that is not zero."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.model.contract import Query
from dgmzoo.testing.report import LawFailed, leaves, require, require_equal
from dgmzoo.testing.subject import K, Subject, density_terms


def given_in_training(subject: Subject) -> str:
    """Giving samples back reproduces the training evidence and its gradient, along the path through the samples too."""
    subject.require_latents()
    (value, evidence), (again_value, again), gradient, again_gradient = training_pair(subject)
    altered = _altered(subject, evidence)
    for name, sample in altered.items():
        is_returned = np.array_equal(sample[0], sample[1])
        require(is_returned, f"expected the sample given for {name!r} to be returned in training too, got another")
    advice = "the evidence in training differs for a sample that is given; DReG relies on it"
    require_equal(density_terms(evidence), density_terms(again), "given samples to reproduce in training", advice)
    require_equal(value, again_value, "the weighted bound", advice, 2e-4)
    scale = max(1.0, max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)))
    scaled = [jax.tree.map(lambda leaf: leaf / scale, tree) for tree in (gradient, again_gradient)]
    require_equal(
        *scaled, "the gradient (over its largest element)", f"{advice}: samples are cut from their path", 1e-3
    )
    return f"largest gradient {scale:.3g}"


def _altered(subject: Subject, evidence) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Layer -> a sample of other rows that was given in training, and the one that came back."""
    given = {name: np.roll(latent.sample, 1, axis=1) for name, latent in evidence.latents.items()}
    query = Query(K, train=True, step=3, given=given)

    @jax.jit
    def samples(variables, batch, query):
        evidence, _ = subject.model.evidence(variables, batch, subject.key, query)
        return {name: latent.sample for name, latent in evidence.latents.items()}

    returned = jax.device_get(samples(subject.variables, subject.batch, query))  # XLA drops all but the samples
    return {name: (given[name], returned[name]) for name in given}


def training_pair(subject: Subject, batch=None):
    """Weighted bound and evidence in training, of drawn and of given samples, and the gradients of both bounds."""
    params = subject.variables["params"]
    if "training pair" not in subject.shared:
        subject.shared["training pair"] = _compiled_training_pair(subject)
    return jax.device_get(subject.shared["training pair"](params, subject.batch if batch is None else batch))


def _compiled_training_pair(subject: Subject):
    random = np.random.default_rng(5)
    weight = jnp.asarray(random.normal(1, 0.5, (K, subject.num_rows)), jnp.float32)
    query, model = Query(K, train=True, step=3), subject.model
    collections = {name: value for name, value in subject.variables.items() if name != "params"}
    collections = jax.tree.map(jnp.asarray, collections)

    def bound(params, batch, again):
        variables = {**collections, "params": params}
        evidence, _ = model.evidence(variables, batch, subject.key, query)
        if again:
            samples = {name: latent.sample for name, latent in evidence.latents.items()}
            evidence, _ = model.evidence(variables, batch, subject.key, dataclasses.replace(query, given=samples))
        return (weight.astype(evidence.log_weight.dtype) * evidence.log_weight).mean(), evidence

    @jax.jit
    def both(params, batch):
        gradient_of = jax.value_and_grad(bound, has_aux=True)
        first, gradient = gradient_of(params, batch, False)
        second, again = gradient_of(params, batch, True)
        return first, second, gradient, again

    return both


def gradients(subject: Subject) -> str:
    """Every parameter receives a finite gradient that is not zero."""
    variables = _with_own(subject, subject.variables, subject.key)
    compiled = jax.jit(functools.partial(_loss_and_gradient, subject))
    total = None
    for step in range(4):  # steps may use parts of the parameters in turn
        loss, gradient = jax.device_get(compiled(variables, subject.keys(20 + step), step))
        require(np.isfinite(loss), f"expected a finite loss, got {loss} in step {step}")
        size = {name: float(np.abs(leaf).max()) for name, leaf in leaves(gradient)}
        for name, largest in size.items():
            require(
                np.isfinite(largest), f"expected a finite gradient of {name}, got {largest}; look at `where` and sqrt"
            )
        total = size if total is None else {name: total[name] + size[name] for name in size}
        if all(total.values()):
            return f"{len(total)} arrays"
    unused = [name for name, largest in total.items() if not largest]
    raise LawFailed(
        f"expected a gradient of every parameter, got zeros for {', '.join(unused)}; the parameter is created and not "
        "used, or a stop_gradient cuts it off"
    )


def seeds(subject: Subject) -> str:
    """Two seeds under vmap give the initial variables, loss and gradients of two single runs."""

    def run(key):
        variables = _with_own(subject, subject.model.init(key, subject.batch), key)
        return variables, _loss_and_gradient(subject, variables, key, 0)

    keys = jax.random.split(subject.keys(5), 2)
    together = jax.device_get(jax.jit(jax.vmap(run))(keys))
    alone = jax.jit(run)
    for i in range(2):
        single = jax.device_get(alone(keys[i]))
        of_seed = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        require_equal(
            single, of_seed, f"seed {i} under vmap to equal its single run,", "look at axis -1 and at shapes", 1e-3
        )
    return ""


def _with_own(subject: Subject, variables, key):
    """The variables with those of the objective."""
    merged = dict(variables)
    for collection, tree in (subject.objective.init(key, subject.batch) if subject.objective else {}).items():
        merged[collection] = {**merged.get(collection, {}), **tree}
    return merged


def _loss_and_gradient(subject: Subject, variables, key, step):
    """Training loss and gradient of the objective; without one, of the ELBO with log q - log p at the samples."""
    collections = {name: value for name, value in variables.items() if name != "params"}
    step = jnp.asarray(step, jnp.int32)

    def loss(params):
        everything = {**collections, "params": params}
        if subject.objective is not None:
            return subject.objective(subject.model, everything, subject.batch, key, step, subject.num_rows)[0]
        evidence, _ = subject.model.evidence(everything, subject.batch, key, Query(K, train=True, step=step))
        extra = sum(term.mean() for term in evidence.aux.values())
        return -evidence.log_weight.mean() + evidence.weight_kl / subject.num_rows + extra

    return jax.value_and_grad(loss)(variables["params"])
