"""Forms that the compatibility table refuses for DReG are biased: their mean gradient is not that of IWAE."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo import IWAE, MLP, VAE, DReG, PiecewiseLayer, VariationalLayer
from dgmzoo.config.layer_check import check_fields
from dgmzoo.model.functional import functional

PAIR = {"x": jnp.array([[0.0, 1.0], [1.0, 1.0]])}
NUM = 60_000


def posterior_gradients(objective, module, keys):
    """Gradients `[N, P]` of the parameters of the posterior's head."""
    model = functional(module)
    variables = model.init(jax.random.key(0), PAIR)
    noise = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + noise.normal(0, 0.5, leaf.shape).astype(np.float32), variables["params"])

    def gradient(key):
        def loss(params):
            return objective(model, {"params": params}, PAIR, key, jnp.zeros((), jnp.int32), 2)[0]

        leaves = jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params))
        parts = [leaf.ravel() for path, leaf in leaves if any(name in jax.tree_util.keystr(path) for name in NAMES)]
        return jnp.concatenate(parts)

    return np.asarray(jax.jit(lambda keys: jax.lax.map(gradient, keys, batch_size=1000))(keys), np.float64)


NAMES = ("posterior_head", "['q']['head']")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "layer, reason",
    [
        (PiecewiseLayer(), "jumps where the parameters move it"),
        (VariationalLayer(posterior=dist.Pareto, prior=dist.LogNormal), "moves with the parameters"),
    ],
    ids=["posterior jumps", "support moves"],
)
def test_dreg_is_biased_where_the_density_jumps_or_the_support_moves(layer, reason):
    module = VAE(1, layer, encoder=MLP((3,)), decoder=MLP((3,)), shape=(2,))
    with pytest.raises(ValueError, match=reason):
        check_fields(module, DReG(2))
    keys = jax.random.split(jax.random.key(1), NUM)
    difference = posterior_gradients(DReG(2), module, keys) - posterior_gradients(IWAE(2), module, keys)
    z = np.abs(difference.mean(0)) / (difference.std(0, ddof=1) / NUM**0.5)
    assert z.max() > 6, z
