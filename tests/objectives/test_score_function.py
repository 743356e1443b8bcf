"""NVIL against enumerated gradients: unbiased up to the division by the running deviation, which extra losses share."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo import testing
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.model.contract import Evidence, Query
from dgmzoo.objectives.score_function import NVIL

ROWS = {"x": np.array([[0, 1], [1, 1]], np.float32)}
DEVIATION = 4.0


class Encoded(nn.Module):
    """Two latent bits with a learned q(z | x) and a fixed p(x, z), whose log p(x | z) varies by `contrast` nats."""

    contrast: float = 6.0
    extra: bool = False

    @nn.compact
    def evidence(self, batch, query: Query) -> Evidence:
        layer = VariationalLayer(2, dist.BernoulliLogits, dist.BernoulliLogits)
        latent = layer(batch["x"], query, "z")
        log_likelihood = self.contrast * (latent.value - batch["x"][None]).sum(-1)
        extra = {"cost": 3 * latent.value.prod(-1).mean(0)} if self.extra else {}
        return Evidence(log_likelihood, {"z": latent}, aux=extra)


@dataclasses.dataclass(frozen=True)
class WithHistory(NVIL):
    """NVIL after batches whose learning signal had the mean -2 and the deviation 4, with its scale undone."""

    baseline_hidden: tuple[int, ...] = (2,)
    undone: ClassVar[float] = 1.0

    def init(self, key, batch):
        return {**super().init(key, batch), "signal": {"mean": jnp.array(-2.0), "variance": jnp.array(DEVIATION**2)}}

    def __call__(self, *arguments):
        loss, rest = super().__call__(*arguments)
        return self.undone * loss, rest


class Undone(WithHistory):
    undone = DEVIATION


def test_f62_the_gradient_is_unbiased_but_for_the_running_deviation():
    comparison = testing.unbiased(WithHistory(), Encoded(), ROWS)
    assert comparison.scale == pytest.approx(1 / DEVIATION, rel=0.03) and comparison.cosine > 0.99, comparison
    comparison = testing.unbiased(Undone(), Encoded(), ROWS)
    assert comparison.is_unbiased and comparison.cosine > 0.99, comparison


def test_f62_the_first_step_is_unbiased_where_the_signal_is_not_divided():
    comparison = testing.unbiased(NVIL(baseline_hidden=(2,)), Encoded(contrast=0.5), ROWS)
    assert comparison.is_unbiased and comparison.cosine > 0.99 and abs(comparison.scale - 1) < 0.04, comparison


def test_f62_the_first_step_has_no_outsized_gradient():
    """A signal of some -500 nats, of which the baselines know nothing: its own spread is the scale."""

    class Far(Encoded):
        def evidence(self, batch, query):
            evidence = super().evidence(batch, query)
            return evidence._replace(log_likelihood=evidence.log_likelihood - 500)

    objective, rows = NVIL(4, baseline_hidden=(2,)), {"x": jnp.asarray(ROWS["x"])}
    from dgmzoo.model.functional import functional

    model, key = functional(Far()), jax.random.key(0)
    variables, own = model.init(key, rows), objective.init(key, rows)

    def loss(params):
        everything = {**variables, **own, "params": {**own["params"], **params}}
        return objective(model, everything, rows, key, jnp.asarray(0), 2)[0]

    gradients = jax.grad(loss)(variables["params"])
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients)) < 3


def test_f68_extra_losses_share_the_scale_of_the_bound():
    comparison = testing.unbiased(Undone(), Encoded(extra=True), ROWS)
    assert comparison.is_unbiased and comparison.cosine > 0.99, comparison
