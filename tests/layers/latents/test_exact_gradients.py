"""The mean gradient that a layer's noise gives is the gradient of the exact objective, by quadrature of both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.compatibility import refusal
from tests.support.exact_layers import LAYERS, NARROW, VARIANTS, WIDE, WITH_LOCAL_SCALE, subject_of
from tests.support.noise_quadrature import gradient_of_expectation, some_directions

pytestmark = [pytest.mark.usefixtures("x64")]
ESTIMATES = {"elbo": "closed", "sampled": "sampled", "iwae": "importance"}


def bound_of_two(log_weight, weights):
    """The bound of two samples."""
    return weights @ jnp.logaddexp(log_weight[:, None], log_weight[None]) @ weights - np.log(2)


@functools.cache
def expected_over_noise(subject, train=True):
    """{kind: (value, gradient)} of each objective, expected over the noise of a sample; one program for all."""
    noise, weights = subject.noise()

    def terms(vector):
        evidence = subject.evidence_along_path(vector, noise, train)
        kl = evidence.latents["z"].kl[:, 0, 0] * jnp.ones_like(weights)
        return evidence.log_likelihood[:, 0] - kl, evidence.log_weight[:, 0]

    objectives = {
        "elbo": lambda terms: weights @ terms[0],
        "sampled": lambda terms: weights @ terms[1],
        "iwae": lambda terms: bound_of_two(terms[1], weights),
    }

    @jax.jit
    def all_kinds(vector):
        at_nodes, pull_back = jax.vjp(terms, vector)
        values, slopes = zip(*(jax.value_and_grad(of)(at_nodes) for of in objectives.values()), strict=True)
        return values, jax.vmap(pull_back)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *slopes))[0]

    return dict(zip(objectives, zip(*all_kinds(jnp.asarray(subject.start)), strict=True), strict=True))


def exact(subject, kind, train=None):
    """Directions, the objective by quadrature over the sample, and its slopes by differences: no path, no score."""
    if train is None:
        train = kind != "elbo" or subject.name in WITH_LOCAL_SCALE

    def value(vector):
        weights, evidence = subject.densities(train, vector, NARROW if kind == "iwae" else WIDE)
        weights = np.asarray(weights * jnp.exp(evidence.latents["z"].log_q[:, 0]))
        log_weight = np.asarray(evidence.log_weight[:, 0])
        if kind != "iwae":
            return weights @ log_weight
        likely = weights > 1e-18  # of all pairs of nodes
        weights, weight = weights[likely], np.exp(log_weight[likely])
        return weights @ np.log(weight[:, None] + weight) @ weights - np.log(2)

    directions = some_directions(subject.start.size)
    return directions, value(subject.start), gradient_of_expectation(value, subject.start, directions=directions)


def is_thorough(kind, name):
    """Whether a case is left to the thorough tests: variants of layers, and refusals beyond the first."""
    return name in VARIANTS or name == "piecewise centred"


CASES = [
    pytest.param(name, kind, marks=[pytest.mark.thorough] * is_thorough(kind, name))
    for name in LAYERS | VARIANTS
    for kind in ESTIMATES
]


@pytest.mark.thorough
@pytest.mark.parametrize("name, kind", CASES)
def test_gradients_are_those_of_the_exact_objective(name, kind):
    subject = subject_of(name)
    refused = refusal(subject.layer, ESTIMATES[kind])
    assert (refused is not None) == ("centred" in subject.name and kind != "elbo")
    (value, gradient), (directions, exact_value, slope) = expected_over_noise(subject)[kind], exact(subject, kind)
    assert float(value) == pytest.approx(float(exact_value), abs=1e-6)
    error = np.abs(directions @ gradient - slope).max()
    assert np.abs(slope).max() > 0.1
    if refused:
        assert error > 0.01, "refused though it is exact"
    else:
        assert error < 1e-6


@pytest.mark.thorough
def test_a_point_mass_in_the_weights_would_bias_the_gradient_of_rectified_units():
    """Training weighs y before it is rectified; the weights of evaluation, which have an atom, give another gradient."""
    subject = subject_of("rectified")
    _, gradient = expected_over_noise(subject, train=False)["iwae"]
    directions, _, slope = exact(subject, "iwae", train=False)
    assert np.abs(directions @ gradient - slope).max() > 0.005
