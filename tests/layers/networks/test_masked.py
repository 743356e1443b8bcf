"""Masked networks: allowed connections, one element after another, a single element with a context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.networks.masked import MaskedMLP
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.model.functional import functional
from dgmzoo.testing import check_autoregressive
from dgmzoo.zoo.ddnn.made import MADE

KEY = jax.random.key(0)


def with_noise(net, x, context):
    """Variables with random parameters."""
    random = np.random.default_rng(0)
    variables = jax.jit(net.init)(KEY, x, context)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), leaf.dtype), variables)


NETS = {
    "one mask": MaskedMLP(4, size=2, hidden=(40,)),
    "three orders": MaskedMLP(4, 2, input_size=3, hidden=(40, 40), num_masks=3, random_order=True, activation="tanh"),
    "random weights": MaskedMLP(4, 2, hidden=(40,), num_masks=2, weights=VariationalWeights()),
    "one element": MaskedMLP(1, size=2, hidden=(5, 5)),
}


@pytest.mark.parametrize("name, with_context", [("one mask", False), *((name, True) for name in list(NETS)[1:])])
def test_element_by_element_gives_the_outputs_of_one_pass_and_connects_what_the_order_allows(name, with_context):
    net = NETS[name]
    random = np.random.default_rng(1)
    x = jnp.asarray(random.normal(size=(6, net.dims, net.input_size)), jnp.float32)
    context = jnp.asarray(random.normal(size=(6, 3)), jnp.float32) if with_context else None
    flat = x.reshape(6, -1)
    variables = with_noise(net, flat, context)

    @jax.jit
    def both(mask):
        whole = net.apply(variables, flat, context, mask).reshape(6, net.dims, net.size)
        first, parts = net.apply(variables, jnp.zeros_like(x[:, 0]), context, mask, method="start"), []
        order = net.apply(variables, mask, method="order")
        for i in range(net.dims):
            parts.append(net.apply(variables, first, order[i], context, mask, method="outputs"))
            first = net.apply(variables, first, x[:, order[i]], order[i], mask, method="update")
        return whole[:, order], jnp.stack(parts, 1), order

    for mask in range(net.num_masks):
        whole, parts, order = both(mask)
        np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)
        if net.input_size == 1:
            of_row = None if context is None else context[:1]
            check_autoregressive(
                lambda row, mask=mask, of_row=of_row: net.apply(variables, row[None], of_row, mask)[0],
                flat,
                order=order,
            )
    if with_context:  # every output depends on the context, also that of the first element
        slope = jax.jit(jax.jacfwd(lambda c: net.apply(variables, flat[:1], c[None])[0]))(context[0])
        assert (np.abs(slope).max(1) > 0).all()


@pytest.mark.parametrize("dims", [1, 2])
def test_a_made_of_few_elements_is_a_density_that_follows_its_context(dims):
    made = MADE(hidden=(6,), context=MLP((4,)), likelihood=Categorical(num_classes=3), shape=(dims,))
    model, random = functional(made), np.random.default_rng(2)
    x = np.stack(np.meshgrid(*[np.arange(3)] * dims, indexing="ij"), -1).reshape(-1, dims).astype(np.int32)
    contexts = random.normal(size=(2, 3)).astype(np.float32)
    rows = {"x": np.tile(x, (2, 1)), "context": np.repeat(contexts, len(x), 0)}
    variables = jax.jit(model.init)(KEY, rows)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 1, leaf.shape), leaf.dtype), variables)
    p = np.exp(jax.jit(model.evidence)(variables, rows, KEY)[0].log_likelihood[0]).reshape(2, *[3] * dims)
    np.testing.assert_allclose(p.reshape(2, -1).sum(1), 1, atol=1e-5)
    first = p.reshape(2, 3, -1).sum(2)  # p(x_1 | context)
    assert np.abs(first[0] - first[1]).max() > 0.02
    if dims == 2:
        given_first = p / first[..., None]
        assert np.abs(given_first[:, 0] - given_first[:, 1]).max() > 0.02


def test_bad_widths_and_missing_conditions_are_refused():
    for hidden in ((), (0,)):
        with pytest.raises(ValueError, match=r"expected .*hidden.* got"):
            MaskedMLP(hidden=hidden)
    model = functional(MADE(hidden=(4,), labels=3, shape=(2,)))
    with pytest.raises(ValueError, match="expected a label for each of 1 rows of a conditional MADE, got none"):
        jax.eval_shape(model.init, KEY, {"x": jnp.zeros((1, 2))})
    with pytest.raises(ValueError, match=r"expected MADE\.labels to be an integer >= 0, got -1"):
        MADE(labels=-1)
