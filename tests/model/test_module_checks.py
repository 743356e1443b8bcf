"""Modules that are not Linen modules are refused before training (F13)."""

import dataclasses
import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from flax import nnx

from dgmzoo import HierarchicalVAE, HorseshoeLayer, VariationalWeights
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.module_checks import check_modules, foreign_module
from dgmzoo.zoo.vae.vae import VAE
from tests.support.own_entry import resolved_of


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class LikeEquinox:
    """A dataclass that is a pytree of its arrays, as in Equinox."""

    kernel: jax.Array

    def __call__(self, x):
        return x @ self.kernel

    def tree_flatten(self):
        return (self.kernel,), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


class LikeTorch:
    """An object that holds arrays in a dictionary."""

    def __init__(self):
        self.weights = {"kernel": np.ones((4, 3), np.float32)}

    def __call__(self, x):
        return x @ self.weights["kernel"]


def foreign_networks():
    nnx_module = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    likes = {"nnx": nnx_module, "equinox": LikeEquinox(jnp.ones((4, 3))), "torch": LikeTorch()}
    return likes | {
        "method": nnx_module.__call__,
        "partial": functools.partial(likes["equinox"], jnp.ones(4)),
        "closure": lambda x: nnx_module(x),
        "list": [nn.tanh, likes["torch"]],
    }


class Holder(VAE):
    encoder: object = None


@pytest.mark.parametrize("name", foreign_networks())
def test_f13_a_module_that_is_not_linen_is_refused_before_training(name):
    network = foreign_networks()[name]
    with pytest.raises(ValueError, match=r"expected Flax Linen modules.*in model\.encoder.*never be trained"):
        resolved_of(Holder(2, encoder=network))


def test_f13_linen_modules_and_plain_data_are_accepted():
    plain = [nn.tanh, functools.partial(nn.leaky_relu, negative_slope=0.1), jax.jit(nn.relu), dist.Normal, np.float32]
    plain += [dist.Normal(jnp.zeros(3), 1.0), np.ones(3), VariationalWeights(), nn.initializers.zeros, (1, {"a": None})]
    assert [foreign_module(value) for value in plain] == [None] * len(plain)
    for module in (VAE(2, latent=HorseshoeLayer(), encoder=nn.Sequential([MLP((3,)), nn.relu])), HierarchicalVAE()):
        check_modules(types.SimpleNamespace(module=module))
