"""Densities, divergences, evaluation and draws of the variational layers, by quadrature of the layers' own code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from dgmzoo.evaluation.log_likelihood import evaluate
from tests.support.exact_layers import NAMES, PIECEWISE, WIDE, WITH_LOCAL_SCALE, softplus, subject_of
from tests.support.layer_parameters import posterior_head, prior_parameters

pytestmark = [pytest.mark.usefixtures("x64")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("train", [True, False])
def test_densities_integrate_to_one(train, name):
    subject = subject_of(name)
    weights, evidence = subject.densities(train)
    latent = evidence.latents["z"]
    assert float(jnp.dot(weights, jnp.exp(latent.log_q[:, 0]))) == pytest.approx(1, abs=1e-7)
    if name not in WITH_LOCAL_SCALE:
        assert float(jnp.dot(weights, jnp.exp(latent.log_p[:, 0]))) == pytest.approx(1, abs=1e-6)
        return
    # The spike at 0 and the tails of a horseshoe need more than a grid: compare at one value of z.
    at_one = jnp.isclose(latent.sample[:, 0, 0, 0], 1.0)
    joint = jnp.where(at_one, jnp.exp(latent.log_p[:, 0]), 0)
    marginal = WIDE[1][0] * joint.sum() if train else joint.max()
    assert float(marginal) == pytest.approx(independent_prior(subject)[1](1.0), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_closed_divergence_is_that_of_the_densities(name):
    """A horseshoe's divergence is over z and the logarithm of its scale, a rectified layer's over z with its atom."""
    weights, evidence = subject_of(name).densities(train=name in WITH_LOCAL_SCALE)
    latent = evidence.latents["z"]
    assert latent.kl.shape == (1, 1, 1)
    exact = float(jnp.dot(weights, jnp.exp(latent.log_q) * (latent.log_q - latent.log_p))[0])
    assert float(latent.kl[0, 0, 0]) == pytest.approx(exact, abs=1e-7)
    assert exact > 0.02


def independent_prior(subject):
    """The map from an integration variable to z, and the density of that variable, by SciPy and NumPy alone."""
    parameters = prior_parameters(subject.params["z"])
    unconstrained = np.asarray(parameters["unconstrained"][0]) if parameters else np.zeros(2)
    if subject.name in WITH_LOCAL_SCALE:
        return (lambda z: z), horseshoe_density(softplus(unconstrained[0]), subject.layer.slab or np.inf)
    if getattr(getattr(subject.layer, "prior", None), "family", None) is PIECEWISE:
        num = len(unconstrained) - 1
        edges = stats.norm.ppf(np.arange(1, num) / num)
        knots = np.array([-30.0, *edges[edges < 0], 0.0, *edges[edges > 0], 30.0])
        slope = softplus(unconstrained[1:])[np.searchsorted(edges, (knots[1:] + knots[:-1]) / 2)]
        image = np.concatenate([[0], np.cumsum(slope * np.diff(knots))])
        image += unconstrained[0] - np.interp(0.0, knots, image)
        return (lambda noise: np.interp(noise, knots, image)), stats.norm.pdf
    normal = stats.norm(unconstrained[0], softplus(unconstrained[1])) if subject.name != "piecewise" else stats.norm()
    maps = {"rectified": lambda y: np.maximum(y, 0), "smooth": lambda y: np.logaddexp(0, y)}
    return maps.get(subject.name, lambda y: y), normal.pdf


def horseshoe_density(tau, slab):
    def without_constant(z):
        u = (z / tau) ** 2 / 2
        scaled = special.exp1(u) * np.exp(u) if u < 500 else (1 - 1 / u + 2 / u**2 - 6 / u**3) / u
        return scaled * np.exp(-(z**2) / (2 * slab**2)) / np.sqrt(2 * np.pi**3) / tau

    last = np.log(20) if slab < 9 else 30
    total = 2 * integrate.quad(lambda t: without_constant(np.exp(t)) * np.exp(t), -40, last)[0]
    return lambda z: without_constant(z) / total


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_evaluation_integrates_over_the_marginal_prior(name):
    """Importance-weighted log p(x) of a linear model with x in one dimension, against quadrature over z."""
    subject = subject_of(name)
    params = subject.params
    widened = {"horseshoe": ([1], 2.0), "horseshoe without slab": ([1], 2.0), "piecewise centred": ([1, 2, 3], 1.5)}
    if name in widened:  # posteriors that cover the tails of the prior
        at, bias = widened[name]
        head = posterior_head(params["z"])
        head["bias"] = jnp.asarray(head["bias"]).at[np.array(at)].set(bias)
    head = params["likelihood"]["Dense_0"]
    weight, bias = np.asarray(head["kernel"]), np.asarray(head["bias"])
    to_z, density = independent_prior(subject)

    def joint(t, x):
        unconstrained = to_z(t) * weight[0] + bias
        return density(t) * stats.norm.pdf(x, unconstrained[0], softplus(unconstrained[1]))

    def marginal(x):
        if name in WITH_LOCAL_SCALE:  # a spike at 0
            sides = [lambda t, s=s: joint(s * np.exp(t), x) * np.exp(t) for s in (-1, 1)]
            return sum(integrate.quad(side, -45, 10, limit=300)[0] for side in sides)
        return integrate.quad(joint, -14, 14, args=(x,), limit=400, points=[0.0], epsabs=1e-10)[0]

    rows = np.array([[0.2], [0.8], [1.1]])
    estimate = evaluate(subject.model, {"params": params}, {"x": rows}, jax.random.key(1), 20_000)
    error = np.sqrt(estimate.variance)
    assert error.max() < 0.05, "too few samples for a test"
    for x, log_p, sd in zip(rows[:, 0], estimate.per_example, error, strict=True):
        assert log_p == pytest.approx(np.log(marginal(x)), abs=4 * sd + 1e-3)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "centred" not in (name if isinstance(name, str) else name.values[0])]
)
def test_draws_are_those_of_the_prior(name):
    subject = subject_of(name)
    to_z, density = independent_prior(subject)
    layer, num = subject.layer.clone(units=1), 4000
    draw = jax.jit(
        lambda params: layer.apply({"params": params}, num, rngs={"sample": jax.random.key(3)}, method="draw")
    )
    draws = np.asarray(draw(subject.params["z"]))
    assert draws.shape == (1, num, 1)
    for point in (0.05, 0.6, 1.5):
        if name in WITH_LOCAL_SCALE:
            share = 0.5 + integrate.quad(lambda t: density(np.exp(t)) * np.exp(t), -45, np.log(point), limit=300)[0]
        else:
            grid = np.linspace(-14, 14, 400_001)
            share = (density(grid) * (to_z(grid) <= point)).sum() * (grid[1] - grid[0])
        below = float((draws <= point).mean())
        assert below == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / num) + 1e-3)


def test_a_piecewise_prior_reports_its_density():
    subject = subject_of("piecewise centred")
    grid = np.linspace(-12, 12, 100_001)
    density = subject.layer.clone(units=1).apply({"params": subject.params["z"]}, jnp.asarray(grid), method="density")
    assert density.shape == (len(grid), 1)
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-3)
