"""`priors`: test that the sampled latents of a model follow the density of its prior.

The decoder blurs the latents, so that a small error of a prior (a transposed factor, a forgotten mean) hardly shows in x.
This law looks at the latents themselves.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints
from scipy import stats

from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.posteriors.base import Posterior
from dgmzoo.layers.priors.base import Prior
from dgmzoo.model.contract import Query
from dgmzoo.testing import continuous
from dgmzoo.testing.densities import goodness_of_fit
from dgmzoo.testing.report import LawSkipped, require
from dgmzoo.testing.subject import K, Subject

_NUM_DRAWS = 16_384
_NUM_SAMPLES = 64  # scored for each row in one call
_LEAST_P = 1e-6


def priors(subject: Subject) -> str:
    """Latents that `generate` samples follow the density of their prior.

    For a smooth density on the real line, `E[d/dz_i log p(z)] = 0` and `E[z_i d/dz_j log p(z)] = -(i == j)` under its own
    samples (Stein 1972). Up to six dimensions the density must also integrate to 1, and cells of equal mass hold equally
    many samples, which sees wrong weights of a mixture.
    """
    names = _own_priors(subject)
    if not names:
        raise LawSkipped("the module has no prior of its own; those of distribution families have tests of their own")
    if subject.generate is None:
        raise LawSkipped("the module has no generate")
    context = {name: np.repeat(leaf[None], _NUM_DRAWS, 0) for name, leaf in subject.contexts[0].items()} or None
    draws = jax.device_get(subject.generate(subject.variables, subject.keys(11), _NUM_DRAWS, context)).latents
    expected = {name: sample.shape[2:] for name, sample in subject.given.items()}
    if {name: np.shape(draw)[1:] for name, draw in draws.items()} != expected:
        raise LawSkipped("the draws of generate do not hold the latents of every layer")
    return "; ".join(f"{name}: {_follows(subject, name, draws, jumps)}" for name, jumps in names.items())


def _own_priors(subject: Subject) -> dict[str, bool]:
    """Layers whose prior is no distribution family, and whose samples are real numbers and the values.

    Returns:
      Name -> True if the layer says that its prior density jumps.
    """
    jumps: dict[str, bool] = {}
    names: dict[tuple[str, ...], str] = {}
    posterior: dict[tuple[str, ...], Conditional] = {}
    prior: dict[tuple[str, ...], Conditional] = {}

    def note(method, arguments, named, context):
        module, result = context.module, method(*arguments, **named)
        if isinstance(module, LatentLayer) and context.method_name == "infer":
            names[module.path] = named.get("name", arguments[-1])
            jumps[names[module.path]] = bool(module.clone(parent=None).facts().prior_jumps)
        for kind, found in ((Posterior, posterior), (Prior, prior)):
            if isinstance(module, kind) and context.method_name == "__call__":
                found.setdefault(module.path[:-1], result)
        return result

    def evidence(variables):  # a new function, because JAX does not trace one again that it knows
        return subject.model.evidence(variables, subject.batch, subject.key, Query(K))

    with nn.intercept_methods(note):
        jax.eval_shape(evidence, subject.variables)

    def is_real(q: Conditional) -> bool:
        return q.transform is None and (q.distribution is None or q.distribution.support is constraints.real)

    return {
        names[path]: jumps[names[path]]
        for path, p in prior.items()
        if path in names and path in posterior and p.distribution is None and p.transform is None
        if is_real(posterior[path])
    }


def _follows(subject: Subject, name: str, draws: Mapping[str, np.ndarray], jumps: bool) -> str:
    shape = draws[name].shape[1:]
    size = int(np.prod(shape))
    leading = (_NUM_SAMPLES, subject.num_rows)
    chunk = leading[0] * leading[1]

    @jax.jit
    def score_and_density(variables, batch, given):  # given [K, B, ...]
        def total(z):
            query = Query(_NUM_SAMPLES, given={**given, name: z})
            log_p = subject.model.evidence(variables, batch, subject.key, query)[0].latents[name].log_p
            return log_p.sum(), log_p

        return jax.grad(total, has_aux=True)(given[name])

    def evaluate(samples: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        num = len(samples[name])
        gradients, densities = [], []
        for start in range(0, num, chunk):
            index = np.arange(start, start + chunk) % num
            given = {
                layer: jnp.asarray(leaf[index]).reshape(*leading, *leaf.shape[1:]) for layer, leaf in samples.items()
            }
            gradient, log_p = jax.device_get(score_and_density(subject.variables, subject.batch, given))
            gradients.append(gradient.reshape(chunk, size))
            densities.append(log_p.reshape(chunk))
        return np.concatenate(gradients)[:num], np.concatenate(densities)[:num]

    gradient, _ = evaluate(draws)
    z = np.asarray(draws[name], np.float64).reshape(_NUM_DRAWS, size)
    wide = {
        **draws,
        name: (z + 2 * z.std(0) * np.random.default_rng(0).normal(size=z.shape)).reshape(draws[name].shape),
    }
    wide[name] = wide[name].astype(np.float32)
    if jumps or not np.isfinite(evaluate(wide)[1]).all():
        if size > continuous.MAX_DIMENSIONS or len(draws) > 1:
            raise LawSkipped(f"the density of {name!r} jumps, and its mass cannot be integrated")
        return _mass(name, evaluate, z)
    statistics = np.concatenate(
        [gradient, (z[:, :, None] * gradient[:, None]).reshape(_NUM_DRAWS, -1) + np.eye(size).ravel()], 1
    )
    error = statistics.std(0, ddof=1) / _NUM_DRAWS**0.5
    deviation = np.abs(statistics.mean(0)) / (error + 1e-6)
    bound = float(stats.norm.isf(_LEAST_P / 2 / len(deviation)))
    worst = int(deviation.argmax())
    element = f"z[{worst}]" if worst < size else f"z[{(worst - size) // size}] and z[{(worst - size) % size}]"
    require(
        deviation.max() < bound,
        f"expected samples of the prior of {name!r} to follow its log_prob, got a deviation of {deviation.max():.1f} "
        f"standard errors in Stein's identity of {element}, where {bound:.1f} are allowed; look at transposed factors, "
        "forgotten means, and the order of conditioning",
    )
    figures = f"largest deviation {deviation.max():.1f} standard errors"
    if size > continuous.MAX_DIMENSIONS or len(draws) > 1:
        return figures
    return f"{figures}, {_mass(name, evaluate, z)}"


def _mass(name: str, evaluate, z: np.ndarray) -> str:
    """Require a mass of 1, and draws `[N, D]` that follow it, by importance sampling around the draws."""
    proposal, points, weight = continuous.importance_points(
        lambda points: np.asarray(evaluate({name: points.astype(np.float32)})[1], np.float64), z, 0.01
    )
    mass, error = weight.mean(), weight.std() / len(weight) ** 0.5
    if continuous.tail_index(weight) > continuous.MAX_TAIL_INDEX:
        return "mass not known: too few effective samples"
    require(
        abs(mass - 1) < 5 * error + 0.02,
        f"expected the prior of {name!r} to have a mass of 1, got {mass:.4f} +- {error:.1g}; look at normalizing constants "
        "and log-determinants",
    )
    partition = continuous.Partition(proposal.whiten(points), weight)
    probability, covariance = continuous.cell_probabilities(
        partition(proposal.whiten(points)), weight, partition.num_cells
    )
    counts = np.bincount(partition(proposal.whiten(z)), minlength=partition.num_cells)
    pvalue = goodness_of_fit(counts, probability / mass, covariance / mass**2)
    require(
        pvalue > _LEAST_P,
        f"expected samples of the prior of {name!r} to follow its log_prob, got p = {pvalue:.2g} in a chi-square test of "
        f"{len(z)} samples; look at the weights of components",
    )
    return f"mass {mass:.3f} +- {error:.1g}, p = {pvalue:.2g}"
