"""`training.compute bfloat16` reaches plain Flax layers, densities stay in float32, and no effect is a warning (F23)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo import data
from dgmzoo.layers.likelihoods.base import log_likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import flat
from dgmzoo.model.contract import Evidence, Query
from dgmzoo.model.functional import functional
from dgmzoo.model.precision import has_product_in, in_precision
from dgmzoo.training.loop import fit
from tests.support.own_entry import ROWS, resolved_of
from tests.support.tiny import Quiet

HALF = jnp.dtype("bfloat16")


class PlainLayers(nn.Module):
    """Every kind of Flax layer that multiplies, without a dtype."""

    @nn.compact
    def __call__(self, x):
        h = nn.Einsum((4, 6), "bi,io->bo")(x)
        h = nn.DenseGeneral(6)(nn.tanh(h))
        h = nn.Conv(4, (3,))(h[..., None])
        h = nn.MultiHeadDotProductAttention(num_heads=2)(h)
        h = nn.LayerNorm()(h)
        return nn.remat(nn.Dense)(5)(h.reshape(len(x), -1))


class Plain(nn.Module):
    """A density model of plain layers."""

    below: bool = False

    bound = None

    @nn.compact
    def evidence(self, batch, query):
        logits = PlainLayers()(flat(batch["x"], (4,)))
        p = Bernoulli()(logits[None], (4,))
        loglik = log_likelihood(p, batch["x"])
        return Evidence(loglik.astype(HALF) if self.below else loglik)


class Bias(nn.Module):
    """A density model without any product."""

    bound = "exact"

    @nn.compact
    def evidence(self, batch, query):
        logits = self.param("logits", nn.initializers.zeros, (4,))
        return Evidence(nn.log_sigmoid(logits[None] * (2 * batch["x"] - 1)).sum(1)[None])


def test_f23_plain_layers_multiply_in_bfloat16_and_densities_stay_in_float32():
    model, batch = functional(Plain()), {"x": jnp.asarray(ROWS[:8])}
    variables = model.init(jax.random.key(0), batch)
    half = in_precision(model, HALF)
    same = half.init(jax.random.key(0), batch)
    jax.tree.map(np.testing.assert_array_equal, variables, same)

    def run(variables):
        return half.evidence(variables, batch, jax.random.key(0), Query(train=True))[0].log_likelihood

    products = [
        line
        for line in str(jax.make_jaxpr(run)(variables)).splitlines()
        if "dot_general[" in line or "conv_gen" in line
    ]
    head = [line for line in products if "bf16" not in line]
    assert len(products) >= 9 and len(head) == 0
    value = run(variables)
    assert value.dtype == jnp.float32
    exact = model.evidence(variables, batch, jax.random.key(0))[0].log_likelihood
    assert 0 < np.abs(value - exact).max() < 0.1
    gradient = jax.grad(lambda variables: run(variables).sum())(variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


def test_f23_a_density_below_float32_is_refused():
    with pytest.raises(ValueError, match="log_likelihood in float32 or above, got bfloat16"):
        resolved_of(Plain(below=True))


def test_f23_a_step_without_a_product_in_bfloat16_warns():
    resolved = resolved_of(Bias(), {"compute": "bfloat16"})
    dataset = data.load_dataset(resolved.experiment.data)
    with pytest.warns(UserWarning, match="training.compute bfloat16 changes nothing"):
        fit(resolved.experiment, resolved.model, dataset, 0, Quiet())


@pytest.mark.thorough
def test_f23_training_with_plain_layers_does_not_warn():
    resolved = resolved_of(Plain(), {"compute": "bfloat16"})
    fit(resolved.experiment, resolved.model, resolved.dataset, 0, Quiet())
    assert has_product_in(lambda x: jax.lax.map(lambda y: y @ y, x), HALF, jnp.ones((2, 3, 3), HALF))
