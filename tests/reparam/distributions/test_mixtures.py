"""Mixtures of normals and the spike and slab: density, samples, their path, and what families make of unconstrained parameters."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import NormalMixture, PiecewiseNormal, SpikeAndSlab
from tests.support.noise_quadrature import noise_rule

CASES = {
    "mixture": (NormalMixture, np.array([0.4, -0.3, 1.0]), np.array([-2.0, 0.3, 2.5]), np.array([0.2, 1.0, 0.6])),
    "spike and slab": (SpikeAndSlab, 0.7, 0.05, 1.4),
}


@pytest.fixture(params=CASES)
def subject(request, x64):
    family, *arguments = CASES[request.param]
    if family is NormalMixture:
        weight, loc, scale = np.exp(arguments[0]) / np.exp(arguments[0]).sum(), *arguments[1:]
    else:
        weight, loc, scale = np.array([0.7, 0.3]), np.zeros(2), np.array([0.05, 1.4])

    def density(z):
        return (weight * stats.norm.pdf(np.asarray(z)[..., None], loc, scale)).sum(-1)

    def cdf(z):
        return (weight * stats.norm.cdf(np.asarray(z)[..., None], loc, scale)).sum(-1)

    return family(*map(jnp.asarray, arguments)), density, cdf


def test_density_cdf_and_moments(subject):
    d, density, cdf = subject
    z = np.array([-9.0, -2.0, -0.04, 0.0, 0.3, 2.4, 7.0])
    np.testing.assert_allclose(jnp.exp(d.log_prob(z)), density(z), rtol=1e-12)
    np.testing.assert_allclose(d.cdf(z), cdf(z), atol=1e-14)
    cuts = [-20, -3, -0.5, 0, 0.5, 3, 20]

    def moment(n):
        return sum(integrate.quad(lambda t: t**n * density(t), a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(cuts))  # fmt: skip

    assert moment(0) == pytest.approx(1, abs=1e-10)
    assert float(d.mean) == pytest.approx(moment(1), abs=1e-9)
    assert float(d.variance) == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-9)


def test_samples(subject):
    d, _, cdf = subject
    z = np.asarray(jax.jit(lambda key: d.sample(key, (200_000,)))(jax.random.key(0)))
    assert stats.kstest(z, cdf).pvalue > 1e-3


def test_the_path_of_a_sample_keeps_its_quantile(subject):
    """d F(z(t); t) / dt = 0 for every parameter: the definition, whatever component a draw came from."""
    d, _, _ = subject
    values = [getattr(d, name) for name in d.arg_constraints]

    def quantile(values, key):
        z = type(d)(*values).sample(key)
        return type(d)(*values).cdf(z)

    keys = jax.random.split(jax.random.key(1), 500)
    slopes = jax.jit(jax.vmap(jax.grad(quantile), (None, 0)))(values, keys)
    assert all(np.abs(slope).max() < 1e-9 for slope in slopes)
    moved = jax.jit(jax.vmap(jax.grad(lambda values, key: type(d)(*values).sample(key)), (None, 0)))(values, keys)
    assert all(np.abs(each).mean() > 0.01 for each in moved)


def test_the_gradient_of_an_expectation(subject):
    d, _, _ = subject
    values = [getattr(d, name) for name in d.arg_constraints]

    def expectation(values):
        z = jnp.linspace(-14, 14, 20_001)
        return (jnp.exp(type(d)(*values).log_prob(z)) * jnp.sin(1.5 * z + 0.4)).sum() * (z[1] - z[0])

    draw = jax.vmap(jax.grad(lambda values, key: jnp.sin(1.5 * type(d)(*values).sample(key) + 0.4)), (None, 0))
    each = jax.jit(draw)(values, jax.random.split(jax.random.key(2), 50_000))
    for found, wanted in zip(each, jax.jit(jax.grad(expectation))(values), strict=True):
        assert (jnp.abs(found.mean(0) - wanted) < 4 * found.std(0) / np.sqrt(5e4) + 1e-9).all()


@pytest.mark.parametrize("name", CASES)
def test_single_precision(name):
    """Finite at the extremes and close to double precision, with the sample's gradient."""
    random = np.random.default_rng(0)

    def parameters(locs, scales, num):
        loc, scale = random.choice(locs, (num, 3)), random.choice(scales, (num, 3))
        if name == "mixture":
            return [random.uniform(-5, 5, (num, 3)), loc, scale]
        return [random.choice([0.0, 1e-6, 0.3, 1.0], num), scale[:, 0], scale[:, 1]]

    family = CASES[name][0]

    def everything(values, z):
        d = family(*values)
        return jnp.stack([d.log_prob(z), d.cdf(z), d.mean, d.variance])

    def single(values):
        return [jnp.asarray(value, jnp.float32) for value in values]

    values, z = single(parameters([-1e4, 0.0, 1.0, 1e4], [1e-6, 1e-3, 1, 1e4], 2000)), random.choice([-1e4, 0, 1e-6, 1, 1e4], 2000)  # fmt: skip
    z = jnp.asarray(z, jnp.float32)
    assert np.isfinite(jax.jit(jax.vmap(everything))(values, z)).all()
    found = jax.jit(jax.vmap(jax.jacrev(everything, (0, 1))))(values, z)
    assert all(np.isfinite(each).all() for each in jax.tree.leaves(found))
    drawn = jax.vmap(jax.value_and_grad(lambda values, key: family(*values).sample(key)))
    found = jax.jit(drawn)(values, jax.random.split(jax.random.key(0), 2000))
    assert all(np.isfinite(each).all() for each in jax.tree.leaves(found))

    values, z = single(parameters([-3.0, 0.0, 2.0], [1e-3, 0.1, 1, 1e3], 2000)), random.choice([-2, 0, 0.3, 50], 2000)
    z = jnp.asarray(z, jnp.float32)
    low = np.asarray(jax.jit(jax.vmap(everything))(values, z), float)
    with jax.enable_x64(True):
        double = [jnp.asarray(v, float) for v in values], jnp.asarray(z, float)
        high = np.asarray(jax.jit(jax.vmap(everything))(*double))
    assert (np.abs(low - high) / np.maximum(1, np.abs(high))).max() < 1e-4


def test_shapes_and_refusals():
    d = NormalMixture(jnp.zeros(3), jnp.zeros((4, 1, 3)), jnp.ones((2, 3)))
    drawn = jax.eval_shape(lambda: d.sample(jax.random.key(0), (5,)))
    rest = jax.eval_shape(lambda: (d.log_prob(0.0), d.mean, d.variance))
    assert d.batch_shape == (4, 2) and drawn.shape == (5, 4, 2) and {each.shape for each in rest} == {(4, 2)}
    for build in (
        lambda: NormalMixture(0.0, 0.0, 1.0),
        lambda: NormalMixture(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2)),
    ):
        with pytest.raises(ValueError, match=r"expected .* got"):
            build()
    for name in ("spike", "slab"):
        with pytest.raises(ValueError, match=f"positive {name}"):
            SpikeAndSlab(**{name: -1.0})


def test_families_start_where_they_say(x64):
    for family, wanted in (
        (dist.StudentT, {"df": 3.0, "loc": 0.0, "scale": 1.0}),
        (SpikeAndSlab, {"share": 0.5, "spike": 0.1, "slab": 1.0}),
        (NormalMixture, {"logits": np.zeros(5), "scales": np.full(5, 0.5)}),
        (dist.Laplace, {"loc": 0.0, "scale": 1.0}),
    ):
        unconstrained = jnp.zeros((2, families.num_unconstrained(family)))
        for d in (families.from_unconstrained(family, unconstrained), families.default(family, (2,), jnp.float64)):
            for name, value in wanted.items():
                np.testing.assert_allclose(getattr(d, name), np.broadcast_to(value, np.shape(getattr(d, name))), rtol=1e-12)  # fmt: skip
    mixture = families.default(NormalMixture, (), jnp.float64)
    assert float(mixture.mean) == pytest.approx(0, abs=1e-12) and float(mixture.variance) == pytest.approx(1)
    assert len(set(np.asarray(mixture.locs))) == 5, "equal components would stay equal"


@pytest.mark.parametrize(
    "q, p, infinite",
    [
        (dist.Normal, dist.Normal, False),
        (dist.Normal, NormalMixture, False),
        (dist.Normal, SpikeAndSlab, False),
        (dist.StudentT, dist.Normal, False),
        (dist.Cauchy, dist.Normal, True),
        (dist.Cauchy, dist.Laplace, True),
        (dist.Cauchy, dist.StudentT, False),
        (dist.Laplace, dist.Gumbel, True),
        (dist.Normal, dist.Gumbel, False),
        (dist.HalfCauchy, dist.Exponential, True),
        (dist.HalfCauchy, dist.LogNormal, False),
        (dist.Gamma, dist.InverseGamma, True),
        (dist.LogNormal, dist.InverseGamma, False),
        (dist.Chi2, dist.LogNormal, False),
        (dist.LogNormal, dist.Pareto, True),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else str(each),
)
def test_infinite_divergences_are_refused(q, p, infinite):
    """Known by moments: of a Cauchy no first, of a Student t with 3 degrees of freedom a second, and so on."""
    if not infinite:
        families.check_pair(q, p)
        return
    with pytest.raises(ValueError, match="KL is infinite"):
        families.check_pair(q, p)


@pytest.mark.parametrize(
    "family", [dist.Normal, dist.Laplace, NormalMixture, PiecewiseNormal], ids=lambda f: f.__name__
)
def test_members_start_as_the_standard_one_shrunk_and_moved(family, x64):
    loc = jnp.array([0.0, -1.5])
    found = families.from_unconstrained(family, families.unconstrained_at(family, loc, 0.2))
    standard = families.default(family, (2,), jnp.float64)
    np.testing.assert_allclose(found.mean, loc + 0.2 * standard.mean, atol=1e-12)
    np.testing.assert_allclose(found.variance, 0.04 * standard.variance, rtol=1e-10)
    np.testing.assert_allclose(found.log_prob(loc + 0.1), standard.log_prob(jnp.full(2, 0.5)) - np.log(0.2), rtol=1e-10)


def test_normal_divergences_from_mixtures_are_estimated_without_bias(x64):
    """The sampled log-ratio over the noise equals the divergence by quadrature: there is no closed form to use."""
    n, w = noise_rule()
    for p in (SpikeAndSlab(0.3, 0.2, 1.5), NormalMixture(jnp.zeros(2), jnp.array([-1.0, 2.0]), jnp.ones(2))):
        q = dist.Normal(0.4, 0.7)
        with pytest.raises(NotImplementedError):
            dist.kl_divergence(q, p)

        def ratio(t, q=q, p=p):
            return stats.norm.pdf(t, 0.4, 0.7) * float(q.log_prob(t) - p.log_prob(t))

        z = 0.4 + 0.7 * n
        want = integrate.quad(ratio, -7, 8, epsabs=1e-9, limit=60)[0]
        assert float(w @ (q.log_prob(z) - p.log_prob(z))) == pytest.approx(want, abs=1e-7)
