"""The variational layers: densities, divergences and what gradients follow, all by quadrature of the layer's own code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, special, stats

from dgmzoo.config.names import LATENTS as NAMED
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.model.contract import Query
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import Horseshoe, NormalMixture, RectifiedNormal, SpikeAndSlab
from tests.support.exact_layers import DOUBLE, LAYERS, NARROW, PIECEWISE, WIDE, softplus, subject_of
from tests.support.noise_quadrature import gradient_of_expectation, some_directions

pytestmark = [pytest.mark.usefixtures("x64")]


@pytest.fixture(params=LAYERS)
def subject(request, x64):
    return subject_of(request.param)


def densities(subject, train, vector=None, steps=WIDE):
    """Weights of a quadrature over the sample, an atom included, and what the layer says at its nodes."""
    vector = subject.start if vector is None else vector
    nodes, weights = subject.samples(vector, steps)
    if subject.name == "rectified" and not train:  # all y below 0 are the same z
        weights = jnp.where(nodes[:, 0, 0] > 0, weights, 0)
        nodes, weights = jnp.concatenate([nodes, jnp.full((1, 1, 1), -1.0)]), jnp.append(weights, 1.0)
    evidence = subject.ask(vector, len(nodes), train, given=nodes)
    latent = evidence.latents["z"]
    if subject.name in DOUBLE and not train:  # lambda does not matter: one value of it
        one = jnp.isclose(nodes[:, 0, 0, 1], nodes[0, 0, 0, 1])
        weights = jnp.where(one, steps[0][0], 0)
    return weights, evidence, latent


@pytest.mark.parametrize("train", [True, False])
def test_densities_integrate_to_one(subject, train):
    weights, _, latent = densities(subject, train)
    assert float(jnp.dot(weights, jnp.exp(latent.log_q[:, 0]))) == pytest.approx(1, abs=1e-7)
    if subject.name not in DOUBLE:
        assert float(jnp.dot(weights, jnp.exp(latent.log_p[:, 0]))) == pytest.approx(1, abs=1e-6)
        return
    at_one = jnp.isclose(latent.sample[:, 0, 0, 0], 1.0)  # the spike at 0 and the tails want more than a grid
    joint = jnp.where(at_one, jnp.exp(latent.log_p[:, 0]), 0)
    found = WIDE[1][0] * joint.sum() if train else joint.max()
    assert float(found) == pytest.approx(independent_prior(subject)[1](1.0), rel=1e-5)


def test_closed_divergence_is_that_of_the_densities(subject):
    """The horseshoe's is that over (z, log lambda), the rectified layer's that over z with its atom."""
    weights, _, latent = densities(subject, train=subject.name in DOUBLE)
    assert latent.kl.shape == (1, 1, 1)
    exact = float(jnp.dot(weights, jnp.exp(latent.log_q) * (latent.log_q - latent.log_p))[0])
    assert float(latent.kl[0, 0, 0]) == pytest.approx(exact, abs=1e-7)
    assert exact > 0.05


def bound_of_two(log_weight, weights):
    return weights @ jnp.logaddexp(log_weight[:, None], log_weight[None]) @ weights - np.log(2)


@functools.cache
def followed(subject, train=True):
    """{kind: (value, gradient)} of each objective, expected of one draw of the noise; one program for all."""
    noise, weights = subject.noise()

    def terms(vector):
        evidence = subject.drawn(vector, noise, train)
        kl = evidence.latents["z"].kl[:, 0, 0] * jnp.ones_like(weights)
        return evidence.log_likelihood[:, 0] - kl, evidence.log_weight[:, 0]

    objectives = {
        "elbo": lambda terms: weights @ terms[0],
        "sampled": lambda terms: weights @ terms[1],
        "iwae": lambda terms: bound_of_two(terms[1], weights),
    }

    @jax.jit
    def all_kinds(vector):
        found, back = jax.vjp(terms, vector)
        values, slopes = zip(*(jax.value_and_grad(each)(found) for each in objectives.values()), strict=True)
        return values, jax.vmap(back)(jax.tree.map(lambda *each: jnp.stack(each), *slopes))[0]

    return dict(zip(objectives, zip(*all_kinds(jnp.asarray(subject.start)), strict=True), strict=True))


def exact(subject, kind, train=None):
    """The objective by quadrature over the sample, and its slopes by differences: no path, no score."""
    if train is None:
        train = kind != "elbo" or subject.name in DOUBLE

    def value(vector):
        weights, evidence, latent = densities(subject, train, vector, NARROW if kind == "iwae" else WIDE)
        weights, log_weight = np.asarray(weights * jnp.exp(latent.log_q[:, 0])), np.asarray(evidence.log_weight[:, 0])
        if kind != "iwae":
            return weights @ log_weight
        likely = weights > 1e-18  # of all pairs of nodes
        weights, weight = weights[likely], np.exp(log_weight[likely])
        return weights @ np.log(weight[:, None] + weight) @ weights - np.log(2)

    directions = some_directions(subject.start.size)
    return directions, value(subject.start), gradient_of_expectation(value, subject.start, directions=directions)


ESTIMATES = {"elbo": "closed", "sampled": "sampled", "iwae": "importance"}


@pytest.mark.parametrize("kind", ESTIMATES)
def test_gradients_are_those_of_the_exact_objective(subject, kind):
    refused = subject.layer.refusal(ESTIMATES[kind])
    assert (refused is not None) == ("centred" in subject.name and kind != "elbo")
    (value, gradient), (directions, truth, slope) = followed(subject)[kind], exact(subject, kind)
    assert float(value) == pytest.approx(float(truth), abs=1e-6)
    error = np.abs(directions @ gradient - slope).max()
    assert np.abs(slope).max() > 0.1
    if refused:
        assert error > 0.01, "refused though it is exact"
    else:
        assert error < 1e-6


def test_masses_instead_of_the_normal_would_bias_rectified_weights(x64):
    """Why training keeps y: weights with an atom, as evaluation has them, give another gradient than that of the bound."""
    subject = subject_of("rectified")
    _, gradient = followed(subject, train=False)["iwae"]
    directions, _, slope = exact(subject, "iwae", train=False)
    assert np.abs(directions @ gradient - slope).max() > 0.005


def independent_prior(subject):
    """(the map from the integration variable to z, its density), by SciPy and NumPy alone."""
    unconstrained = (
        np.asarray(subject.params["z"]["prior_parameters"]["unconstrained"][0])
        if "prior_parameters" in subject.params["z"]
        else np.zeros(2)
    )
    if subject.name in DOUBLE:
        tau, slab = softplus(unconstrained[0]), subject.layer.slab or np.inf

        def plain(z):
            u = (z / tau) ** 2 / 2
            scaled = special.exp1(u) * np.exp(u) if u < 500 else (1 - 1 / u + 2 / u**2 - 6 / u**3) / u
            return scaled * np.exp(-(z**2) / (2 * slab**2)) / np.sqrt(2 * np.pi**3) / tau

        total = 2 * integrate.quad(lambda t: plain(np.exp(t)) * np.exp(t), -40, np.log(20) if slab < 9 else 30)[0]
        return (lambda z: z), lambda z: plain(z) / total
    if "piecewise" in subject.name and subject.layer.prior is PIECEWISE:
        num = len(unconstrained) - 1
        edges = stats.norm.ppf(np.arange(1, num) / num)
        knots = np.array([-30.0, *edges[edges < 0], 0.0, *edges[edges > 0], 30.0])
        slope = softplus(unconstrained[1:])[np.searchsorted(edges, (knots[1:] + knots[:-1]) / 2)]
        image = np.concatenate([[0], np.cumsum(slope * np.diff(knots))])
        image += unconstrained[0] - np.interp(0.0, knots, image)
        return (lambda n: np.interp(n, knots, image)), stats.norm.pdf
    normal = stats.norm(unconstrained[0], softplus(unconstrained[1])) if subject.name != "piecewise" else stats.norm()
    move = {"rectified": lambda y: np.maximum(y, 0), "smooth": lambda y: np.logaddexp(0, y)}
    return move.get(subject.name, lambda y: y), normal.pdf


def test_evaluation_integrates_over_the_marginal_prior(subject):
    """IW-K log p(x) of a linear model with x in one dimension, against quadrature over z."""
    params = subject.params
    raised = {"horseshoe": ([1], 2.0), "horseshoe without slab": ([1], 2.0), "piecewise centred": ([1, 2, 3], 1.5)}
    if subject.name in raised:  # posteriors wide enough to cover what the prior's tails leave
        at, to = raised[subject.name]
        head = params["z"]["posterior_head"]
        head["bias"] = jnp.asarray(head["bias"]).at[np.array(at)].set(to)
    head = params["likelihood"]["Dense_0"]
    weight, bias = np.asarray(head["kernel"]), np.asarray(head["bias"])
    move, density = independent_prior(subject)

    def joint(t, x):
        unconstrained = move(t) * weight[0] + bias
        return density(t) * stats.norm.pdf(x, unconstrained[0], softplus(unconstrained[1]))

    rows = np.array([[0.2], [0.8], [1.1]])
    found = evaluate(subject.model, {"params": params}, {"x": rows}, jax.random.key(1), 20_000)
    error = np.sqrt(found.variance)
    assert error.max() < 0.05, "too few samples to tell anything"
    for x, log_p, sd in zip(rows[:, 0], found.per_example, error, strict=True):
        if subject.name in DOUBLE:  # a spike at 0
            pieces = ((-1, -45, 10), (1, -45, 10))
            total = sum(
                integrate.quad(lambda t, s=s, x=x: joint(s * np.exp(t), x) * np.exp(t), a, b, limit=300)[0]
                for s, a, b in pieces
            )
        else:
            total = integrate.quad(joint, -14, 14, args=(x,), limit=400, points=[0.0], epsabs=1e-10)[0]
        assert log_p == pytest.approx(np.log(total), abs=4 * sd + 1e-3)


FEATURES = np.random.default_rng(0).normal(size=(3, 4))


def answer(layer, query, seed=0):
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = jax.eval_shape(lambda: layer.init(rngs, FEATURES.astype(np.float32), query, "z"))
    random = np.random.default_rng(seed)
    spread = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.4, leaf.shape)), variables)
    ask = jax.jit(lambda variables: layer.apply(variables, FEATURES, query, "z", rngs={"sample": jax.random.key(2)}))
    return ask(spread), spread


@pytest.mark.parametrize("name", [name for name in NAMED if name != "point"])
def test_the_noise_can_be_switched_off(name):
    latent, _ = answer(NAMED[name](units=2, noise=False), Query(3, train=True))
    np.testing.assert_allclose(latent.value, np.broadcast_to(latent.q["mean"], (3, 3, 2)))
    np.testing.assert_allclose(latent.log_q - latent.log_p, np.broadcast_to(latent.kl.sum(-1), (3, 3)))
    noisy, _ = answer(NAMED[name](units=2), Query(3, train=True))
    np.testing.assert_allclose(noisy.kl, latent.kl)
    assert (noisy.value[0] != noisy.value[1]).any()
    layer = NAMED[name](noise=False)
    assert not layer.has_bound and layer.refusal("closed") is None and "noise is off" in layer.refusal("importance")


@pytest.mark.parametrize(
    "posterior, prior",
    [
        (dist.Normal, dist.StudentT),
        (dist.Normal, NormalMixture),
        (dist.Normal, SpikeAndSlab),
        (dist.Cauchy, dist.Cauchy),
    ],
)
def test_without_noise_a_divergence_without_a_closed_form_is_refused(posterior, prior):
    """The ratio of densities at the mean has no lower bound: it falls for ever as the posterior widens."""
    layer = VariationalLayer(posterior=posterior, prior=prior, noise=False)
    assert "nothing would keep the scales finite" in layer.refusal("closed")
    assert VariationalLayer(posterior=posterior, prior=prior).refusal("closed") is None
    assert "no closed form" in SphericalLayer(noise=False, learned_prior=True).refusal("closed")
    assert SphericalLayer(noise=False).refusal("closed") is None
    for q, p in ((dist.Normal, dist.Laplace), (dist.StudentT, dist.Normal), (dist.Normal, PIECEWISE)):
        assert VariationalLayer(posterior=q, prior=p, noise=False).refusal("closed") is None


def test_a_student_t_keeps_its_variance():
    """However far the unconstrained parameters go: below 2 degrees of freedom its divergence to a normal is infinite."""
    unconstrained = jnp.array([[-50.0, 0.0, 0.0], [0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    df = families.from_unconstrained(dist.StudentT, unconstrained).df
    assert 2 < df[0] < 2.001 and df[1] == 3 and df[2] > 50
    assert jnp.isfinite(
        dist.kl_divergence(families.from_unconstrained(dist.StudentT, unconstrained), dist.Normal(0.0, 1.0))
    ).all()


def test_smooth_mean_is_that_of_the_value():
    latent, _ = answer(RectifiedLayer(units=2, smooth=True), Query(40_000))
    error = latent.value.std(0) / 200
    assert (jnp.abs(latent.value.mean(0) - latent.q["mean"][0]) < 4 * error).all()
    still, _ = answer(RectifiedLayer(units=2, smooth=True, noise=False), Query())
    np.testing.assert_allclose(still.value, latent.q["mean"])


def test_rectified_units_say_whether_they_are_alive():
    latent, _ = answer(RectifiedLayer(units=2), Query(40_000))
    alive = np.asarray(latent.q["alive"][0])
    assert (np.abs((np.asarray(latent.value) > 0).mean(0) - alive) < 4 * np.sqrt(alive * (1 - alive) / 40_000)).all()
    assert (latent.value >= 0).all() and (latent.value == 0).any()
    np.testing.assert_allclose(latent.value, jnp.maximum(latent.sample, 0), rtol=1e-9, atol=1e-12)


def test_horseshoe_reports_its_diagonal():
    latent, variables = answer(HorseshoeLayer(units=2), Query(5))
    tau = softplus(np.asarray(variables["params"]["prior_parameters"]["unconstrained"]))[:, 0]
    np.testing.assert_allclose(latent.q["D"], tau**2 * np.exp(2 * latent.q["local_loc"]))
    np.testing.assert_allclose(latent.q["shrinkage"], 1 / (1 + latent.q["D"]))
    assert latent.sample.shape == (5, 3, 2, 2) and latent.value.shape == (5, 3, 2)


def test_heads_of_the_local_scale_are_bounded(x64):
    """Network outputs of any size leave a finite divergence with a finite gradient, in single precision too."""
    layer = HorseshoeLayer(units=2)

    def kl(features):
        variables = {
            "params": {**params, "posterior_head": {"kernel": jnp.ones((4, 8), "f"), "bias": jnp.zeros(8, "f")}}
        }
        latent = layer.apply(variables, features, Query(2, train=True), "z", rngs={"sample": jax.random.key(2)})
        return latent.kl.sum() + latent.log_p.sum()

    features = jnp.zeros((3, 4), jnp.float32)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    params = jax.jit(lambda features: layer.init(rngs, features, Query(2, train=True), "z"))(features)["params"]
    ask = jax.jit(jax.value_and_grad(kl))
    for large in (-1e4, 1e4):
        value, gradient = ask(jnp.full_like(features, large))
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all(), large


@pytest.mark.parametrize("name", [name for name in LAYERS if "centred" not in name])
def test_draws_are_those_of_the_prior(name, x64):
    subject = subject_of(name)
    move, density = independent_prior(subject)
    layer = subject.layer.clone(units=1)
    variables = {"params": subject.params["z"]}
    draws = np.asarray(layer.apply(variables, 4000, rngs={"sample": jax.random.key(3)}, method="draw"))
    assert draws.shape == (1, 4000, 1)
    points = np.array([0.05, 0.6, 1.5])
    for point in points:
        if name in DOUBLE:
            share = 0.5 + integrate.quad(lambda t: density(np.exp(t)) * np.exp(t), -45, np.log(point), limit=300)[0]
        else:
            grid = np.linspace(-14, 14, 400_001)
            share = (density(grid) * (move(grid) <= point)).sum() * (grid[1] - grid[0])
        found = float((draws <= point).mean())
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000) + 1e-3)


def test_a_piecewise_prior_shows_its_density(x64):
    subject = subject_of("piecewise centred")
    grid = np.linspace(-12, 12, 100_001)
    density = subject.layer.clone(units=1).apply({"params": subject.params["z"]}, jnp.asarray(grid), method="density")
    assert density.shape == (len(grid), 1)
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "build, reason",
    [
        (lambda: VariationalLayer(posterior=dist.Laplace, prior=Horseshoe), "layer `horseshoe`"),
        (lambda: VariationalLayer(prior=RectifiedNormal), "layer `rectified`"),
        (lambda: VariationalLayer(posterior=RectifiedNormal), "layer `rectified`"),
        (lambda: VariationalLayer(posterior=dist.Cauchy), "tails"),
        (lambda: answer(VariationalLayer(units=2, prior=Horseshoe), Query()), "layer `horseshoe`"),
        (
            lambda: answer(VariationalLayer(units=2, posterior=RectifiedNormal, prior=RectifiedNormal), Query()),
            "layer `rectified`",
        ),
        (lambda: VariationalLayer(prior=dist.Gamma), "KL is infinite"),
        (lambda: VariationalLayer(posterior=dist.Gamma, prior=PIECEWISE), "on the real line"),
        (lambda: PiecewiseLayer(posterior=dist.Normal), "layer `normal`"),
        (lambda: PiecewiseLayer(pieces=0), "pieces"),
        (lambda: PiecewiseLayer(centred=True), "piecewise prior"),
        (lambda: PiecewiseLayer(posterior=dist.Laplace, prior=PIECEWISE, centred=True), "Laplace"),
        (lambda: HorseshoeLayer(slab=0.0), "slab"),
        (lambda: HorseshoeLayer(slab=np.inf), "None"),
        (lambda: PointLayer(noise=True), "normal"),
    ],
)
def test_pairs_without_an_exact_form_are_refused(build, reason):
    with pytest.raises(ValueError, match=r"expected .* got") as refused:
        build()
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "layer, refused",
    [
        (VariationalLayer(), {"score"}),
        (VariationalLayer(prior=PIECEWISE), {"score"}),
        (VariationalLayer(posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits), {"closed", "sampled", "importance", "doubly"}),
        (VariationalLayer(posterior=NormalMixture, prior=SpikeAndSlab), {"score"}),
        (VariationalLayer(prior=Horseshoe), {"score", "closed", "sampled", "importance", "doubly"}),
        (SphericalLayer(), {"score"}),
        (HorseshoeLayer(), {"score"}),
        (RectifiedLayer(), {"score"}),
        (RectifiedLayer(smooth=True), {"score"}),
        (PiecewiseLayer(), {"score", "doubly"}),
        (PiecewiseLayer(prior=PIECEWISE), {"score", "doubly"}),
        (PiecewiseLayer(prior=PIECEWISE, centred=True), {"score", "sampled", "importance", "doubly"}),
        (PointLayer(), {"score", "sampled", "importance", "doubly"}),
    ],
)  # fmt: skip
def test_the_table_of_exact_objectives(layer, refused):
    estimates = ("closed", "sampled", "importance", "doubly", "score")
    assert {estimate for estimate in estimates if layer.refusal(estimate)} == refused
