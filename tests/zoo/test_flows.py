"""Flows as entries: their mass over the plane in double precision, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.model.functional import functional
from dgmzoo.zoo.ddnn.maf import MAF
from dgmzoo.zoo.ddnn.nsf import NSF
from dgmzoo.zoo.ddnn.realnvp import RealNVP

SMALL = {"num_layers": 2, "hidden": (8,), "labels": 2, "shape": (2,)}
FLOWS = {
    "realnvp": RealNVP(**SMALL),
    "maf": MAF(**SMALL),
    "iaf": MAF(**SMALL, fast="samples"),
    "nsf": NSF(**SMALL, bins=4),
    "nsf-autoregressive": NSF(**SMALL, step="autoregressive", bins=4),
}


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("name", FLOWS)
def test_the_density_integrates_to_one_for_each_label(x64, name, dims):
    model, random = functional(FLOWS[name].clone(shape=(dims,))), np.random.default_rng(3)
    few = {"x": jnp.zeros((3, dims), jnp.float32), "label": jnp.zeros(3, jnp.int32)}
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(0, 0.15, leaf.shape)), jax.jit(model.init)(jax.random.key(0), few)
    )
    axis = np.linspace(-10, 10, 301)
    x = jnp.asarray(np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), -1).reshape(-1, dims))

    @jax.jit
    def density(label):
        rows = {"x": x, "label": jnp.full(len(x), label)}
        return jnp.exp(model.evidence(variables, rows, jax.random.key(0))[0].log_likelihood[0])

    p = [np.asarray(density(label)) for label in range(2)]
    for each in p:
        assert each.sum() * (axis[1] - axis[0]) ** dims == pytest.approx(1, abs=1e-3)
    assert np.abs(p[0] - p[1]).max() > 1e-3


def test_missing_elements_are_refused():
    rows = {"x": jnp.zeros((3, 2)), "mask": jnp.ones((3, 2), bool)}
    with pytest.raises(ValueError, match="expected x without a mask, got one: NSF has no closed-form marginals"):
        jax.eval_shape(functional(NSF(shape=(2,))).init, jax.random.key(0), rows)
