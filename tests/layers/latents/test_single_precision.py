"""Layers from unconstrained parameters of any size: finite answers and gradients in single precision, close to double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.model.contract import Query
from dgmzoo.reparam.distributions import NormalMixture, PiecewiseNormal, SpikeAndSlab

UNITS, ROWS = 2, 300
LAYERS = {
    "normal": VariationalLayer(learned_prior=True),
    "laplace, student t": VariationalLayer(posterior=dist.Laplace, prior=dist.StudentT, learned_prior=True),
    "mixture, spike and slab": VariationalLayer(posterior=NormalMixture, prior=SpikeAndSlab, learned_prior=True),
    "horseshoe": HorseshoeLayer(),
    "plain horseshoe": HorseshoeLayer(slab=None),
    "rectified": RectifiedLayer(),
    "smooth": RectifiedLayer(smooth=True),
    "piecewise": PiecewiseLayer(prior=PiecewiseNormal),
    "centred": PiecewiseLayer(prior=PiecewiseNormal, centred=True),
    "spherical": SphericalLayer(),
}
TWO_FORMS = ("horseshoe", "plain horseshoe", "rectified")  # densities are others in training than out of it
REAL = {"loc", "locs", "logits"}
SHARP = {"piecewise", "centred", "mixture, spike and slab"}


def raw_numbers(layer, locs, scales):
    """Unconstrained parameters of the posterior `[ROWS, U * P]`, such that locations and scales are among those given."""
    random = np.random.default_rng(0)
    raw_scales = np.array([scale if scale > 20 else np.log(np.expm1(scale)) for scale in scales]) - np.log(np.expm1(1))
    if isinstance(layer, HorseshoeLayer):
        kinds = [locs, raw_scales, locs, locs]  # the heads of log lambda take anything
    elif isinstance(layer, SphericalLayer):
        kinds = [locs, raw_scales]
    else:
        family = layer._sized(layer.posterior) if isinstance(layer, VariationalLayer) else dist.Normal
        sizes = getattr(family, "unconstrained_sizes", {})
        kinds = [
            locs if name in REAL else raw_scales for name in family.arg_constraints for _ in range(sizes.get(name, 1))
        ]
    columns = [random.choice(kind, ROWS) for _ in range(UNITS) for kind in kinds]
    return np.stack(columns, -1).astype(np.float32)


def compiled(layer, unconstrained, train):
    """(raw, sample) -> what the layer says and its gradient; the head passes its unconstrained parameters through."""
    layer = layer.clone(units=UNITS)
    query = Query(1, train=train)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    params = jax.eval_shape(lambda unconstrained: layer.init(rngs, unconstrained, query, "z"), unconstrained)["params"]
    random = np.random.default_rng(1)
    prior = jax.tree.map(
        lambda leaf: random.uniform(-1, 1, leaf.shape).astype(np.float32), params.get("prior_parameters", {})
    )

    def ask(unconstrained, given):
        size = unconstrained.shape[1]
        head = {"kernel": jnp.eye(size, dtype=unconstrained.dtype), "bias": jnp.zeros(size, unconstrained.dtype)}
        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, unconstrained.dtype), prior)
        variables = {"params": {**params, "posterior_head": head, "prior_parameters": cast}}
        query = Query(1, train=train, given={} if given is None else {"z": given})
        return layer.apply(variables, unconstrained, query, "z", rngs={"sample": jax.random.key(2)})

    return ask


@pytest.mark.parametrize("name", LAYERS)
def test_any_raw_numbers_give_finite_answers_and_gradients(name):
    """Locations to +-1e4 and scales from 1e-6 to 1e4; horseshoes' and spheres' unconstrained parameters as large."""
    layer = LAYERS[name]
    unconstrained = raw_numbers(layer, [-1e4, -1.0, 0.0, 1e-3, 1e4], [1e-6, 1e-3, 1.0, 1e4])
    ask = compiled(layer, unconstrained, train=True)

    def total(unconstrained):
        latent = ask(unconstrained, None)
        terms = {"kl": latent.kl, "log_p": latent.log_p, "log_q": latent.log_q, "value": latent.value}
        return sum(each.sum() for each in terms.values()), {**terms, **latent.q}

    (_, terms), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(unconstrained)
    for term, values in terms.items():
        assert np.isfinite(values).all(), term
    assert np.isfinite(gradient).all() and (gradient != 0).any()


@pytest.mark.parametrize("name, train", [*((name, True) for name in LAYERS), *((name, False) for name in TWO_FORMS)])
def test_single_precision_is_close_to_double(name, train):
    """Scales from 1e-3 to 1e3; densities at one and the same sample."""
    layer = LAYERS[name]
    unconstrained = raw_numbers(layer, [-3.0, -0.1, 0.0, 0.5, 2.0], [1e-3, 0.1, 1.0, 1e3])
    ask = compiled(layer, unconstrained, train)

    def answers(unconstrained, given):
        latent = ask(unconstrained, given)
        terms = latent.kl.reshape(ROWS, -1), latent.log_p[0][:, None], latent.log_q[0][:, None]
        return latent.sample, jnp.concatenate(terms, -1)

    sample, single = jax.device_get(jax.jit(answers)(unconstrained, None))
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(answers)(jnp.asarray(unconstrained, float), jnp.asarray(sample, float))[1])
    error = np.abs(single - double) / np.maximum(1, np.abs(double))
    # At a knot of a density, or far out in a mixture's tail, rounding of the parameters decides: a few rows may differ.
    worst = np.quantile(error, 0.98, axis=0) if name in SHARP else error.max(0)
    if isinstance(layer, PiecewiseLayer):  # where a piece of width 1e-3 lies beside one of 1e3, float32 cannot say
        worst = worst[:-1]
    assert worst.max() < 1e-4, worst
