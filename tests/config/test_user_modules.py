"""Modules of a user: layers in tuples, lists and mappings, and mistakes that are refused before training."""

import re
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo.comparison.variants import make_variants
from dgmzoo.config import overrides
from dgmzoo.config.layer_check import check_fields
from dgmzoo.config.preflight import resolve
from dgmzoo.data import load_dataset
from dgmzoo.layers.latents.base import LatentLayer, variational_layers
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.priors.base import LearnedPrior
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.model.contract import Evidence
from dgmzoo.model.functional import functional
from dgmzoo.model.module_tree import has_random_weights, parts
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal
from dgmzoo.reparam.ops import relaxed_promotion
from dgmzoo.report.layers import prior_densities
from tests.support.compatibility import corrected

X = np.random.default_rng(0).integers(0, 2, (60, 4)).astype(np.float32)
ONE_SAMPLE = ELBO()


def normal(**settings):
    return VariationalLayer(3, **settings)


def bits():
    return VariationalLayer(3, posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits)


def log_likelihood(logits, x):
    with relaxed_promotion():
        return dist.BernoulliLogits(logits).log_prob(x[None]).sum(-1)


class Held(nn.Module):
    """Independent codes, added up, whose layers are in whatever a field may be."""

    latents: Any = (VariationalLayer(3), VariationalLayer(3))
    shape: tuple[int, ...] | None = None

    @nn.compact
    def evidence(self, batch, query):
        layers = self.latents.values() if hasattr(self.latents, "values") else self.latents
        found = {f"z{i}": layer(batch["x"], query, f"z{i}") for i, layer in enumerate(layers)}
        logits = nn.Dense(4)(sum(latent.value for latent in found.values()))
        return Evidence(log_likelihood(logits, batch["x"]), found)


class Made(nn.Module):
    """One layer of codes, made on the way: of a field, or of nothing that a field holds."""

    latent: LatentLayer | None = None
    point: bool = False
    shape: tuple[int, ...] | None = None

    def setup(self):
        self.z = PointLayer(3) if self.latent is None or self.point else self.latent.clone(units=2)
        self.decoder = nn.Dense(4)

    def evidence(self, batch, query):
        z = self.z(batch["x"], query, "z")
        return Evidence(log_likelihood(self.decoder(z.value), batch["x"]), {"z": z})


class Wrong(nn.Module):
    """Evidence in which something has another shape than it should."""

    change: Any
    shape: tuple[int, ...] | None = None

    def setup(self):
        self.z, self.decoder = normal(), nn.Dense(4)

    def evidence(self, batch, query):
        z = self.z(batch["x"], query, "z")
        return self.change(Evidence(log_likelihood(self.decoder(z.value), batch["x"]), {"z": z}))


def experiment(model, objective=ONE_SAMPLE):
    return dgmzoo.Experiment(
        model=model,
        data=dgmzoo.from_arrays(X, X[:20], X[:20], encoding=None),
        objective=objective,
        training=dgmzoo.Training(epochs=1, batch_size=20),
        evaluation=dgmzoo.Evaluation(num_samples=2),
    )


@pytest.mark.parametrize("kind", [tuple, list, lambda layers: dict(zip("ab", layers, strict=True))])
def test_layers_are_seen_in_tuples_lists_and_mappings(kind):
    assert functional(Held(kind([PointLayer(3), normal()]))).bound is None
    assert functional(Held(kind([normal(), normal()]))).bound == "elbo"
    with pytest.raises(ValueError, match=r"model\.latents\.\w+, got ELBO: .*no pathwise gradient"):
        experiment(Held(kind([normal(), bits()])))
    check_fields(Held(kind([bits(), bits()])), NVIL())
    module, corrections = corrected(
        Held(kind([normal(), PiecewiseLayer(3, prior=PiecewiseNormal, centred=True)])), IWAE(), {"x": X}
    )
    assert len(corrections) == 1 and re.match(r"model\.latents\.[1b]: .*centred=False", corrections[0])
    first, second = (layer for _, layer in variational_layers(module))
    assert type(first) is VariationalLayer and second == PiecewiseLayer(3, prior=PiecewiseNormal)


def test_a_correction_keeps_order_sharing_and_size():
    layer = PiecewiseLayer(3, prior=PiecewiseNormal, centred=True)
    model, corrections = corrected(Held({"z": layer, "a": normal(), "m": layer}), IWAE(), {"x": X})
    assert len(corrections) == 1 and corrections[0].startswith("model.latents.z: ")
    assert list(model.latents) == ["z", "a", "m"] and not model.latents["z"].centred
    assert model.latents["z"] is model.latents["m"]
    model, corrections = corrected(Held([normal(prior=Horseshoe)]), ELBO(), {"x": X})
    assert corrections[0].startswith("model.latents.0: ") and model.latents[0].units == 3
    functional(Held(({1: "a", "b": None}, np.ones(3))))  # fields may hold anything


@pytest.mark.thorough
def test_layers_in_a_tuple_are_overridden_and_told_apart(tmp_path):
    base = experiment(Held())
    laplace = {"model.latents.1": "horseshoe", "model.latents.1.slab": 0.5, "model.latents.0.prior": "learned"}
    changed = overrides.override(base, laplace)
    assert changed.model.latents == (normal(prior=LearnedPrior()), HorseshoeLayer(3, slab=0.5))
    told = overrides.flatten(experiment(Held((normal(), VariationalLayer(4)))))
    assert told["model.latents"] == ["0", "1"] and told["model.latents.1.units"] == 4
    assert (
        told != overrides.flatten(base) != overrides.flatten(experiment(Held((normal(prior=dist.Laplace), normal()))))
    )
    assert list(make_variants(base, ["normal", "rectified"], [])["rectified"].model.latents) == 2 * [RectifiedLayer(3)]
    nested = [
        overrides.flatten(experiment(Held({"a": (normal(), normal(**own))}))) for own in ({}, {"prior": dist.Laplace})
    ]
    assert nested[0] != nested[1] and nested[1]["model.latents.a.1.prior.family"] == "Laplace"
    dgmzoo.train(base, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"model\.latents\.0\.prior was"):
        dgmzoo.train(changed, tmp_path / "run", progress=False)
    for wrong, answer in [
        ({"model.latents.2": "normal"}, r"one of \['0', '1'\] below 'model.latents'"),
        ({"model.latents.0": "nrmal"}, "expected model.latents.0 one of normal"),
        ({"model.latents.0.units": 4}, "expected a field of VariationalLayer"),
        ({"model.shape.0": 4}, "expected no fields below 'model.shape'"),
    ]:
        with pytest.raises(ValueError, match=answer):
            overrides.override(base, wrong)
    with pytest.raises(ValueError, match=r"to be named in paths, got 'z\.1'"):
        dgmzoo.train(experiment(Held({"z.1": normal()})), progress=False)


def test_paths_and_random_weights_of_what_a_field_holds():
    random = normal(weights=VariationalWeights())
    assert [path for path, _ in parts(Held())][::3] == ["model", "model.latents.0.prior", "model.latents.1.prior"]
    assert has_random_weights(Held([normal(), random])) and not has_random_weights(Held())


def test_layers_in_a_tuple_train():
    layers = (HorseshoeLayer(3), normal(prior=LearnedPrior()))
    run = dgmzoo.train(experiment(Held(layers)), progress=False)
    assert run.record["bound"] == "iw" and set(run.encode(X[:5])) == {"z0", "z1"}
    density = prior_densities(run.module, run.variables, np.linspace(-9, 9, 500))
    assert {name: of.shape for name, of in density.items()} == {"latents_1": (500, 3)}
    np.testing.assert_allclose(np.trapezoid(density["latents_1"], dx=18 / 499, axis=0), 1, atol=1e-3)


@pytest.mark.parametrize(
    "model, objective, answer",
    [
        (Made(), ELBO(), r"hold its PointLayer 'z' in a field .*: there is no bound"),
        (
            Made(VariationalLayer(), point=True),
            DReG(),
            r"hold its PointLayer 'z' in a field .*: it has no noise",
        ),
    ],
)
def test_a_layer_that_no_field_holds_is_refused_for_its_reason(model, objective, answer):
    exp = experiment(model, objective)  # nothing to be seen yet
    with pytest.raises(ValueError, match=answer):
        dgmzoo.train(exp, progress=False)


@pytest.mark.thorough
def test_a_layer_made_of_a_field_is_fine():
    assert dgmzoo.train(experiment(Made(VariationalLayer())), progress=False).record["bound"] == "iw"


def of_z(**changes):
    def change(found):
        z = found.latents["z"]
        return found._replace(latents={"z": z._replace(**{name: f(z) for name, f in changes.items()})})

    return change


def resolved(exp):
    return resolve(exp, load_dataset(exp.data))


def test_evidence_of_one_sample_for_several_is_refused_before_training():
    model = Wrong(lambda found: found._replace(log_likelihood=found.log_likelihood[:1]))
    with pytest.raises(ValueError, match=r"log_likelihood of shape \(3, 2\), got \(1, 2\)"):
        resolved(experiment(model, ELBO()))


@pytest.mark.parametrize(
    "change, answer",
    [
        (lambda found: found._replace(log_likelihood=found.log_likelihood[0]), r"log_likelihood of shape \(3, 2\), got \(2,\)"),
        (lambda found: found._replace(log_likelihood=found.log_likelihood.T), r"log_likelihood of shape \(3, 2\), got \(2, 3\)"),
        (lambda found: found._replace(log_likelihood=found.log_likelihood.sum()), r"log_likelihood of shape \(3, 2\), got \(\)"),
        (lambda found: found._replace(aux={"a": jnp.zeros(())}), r"aux\['a'\] of shape \(2,\), got \(\)"),
        (of_z(log_p=lambda z: z.log_p[:1]), r"latents\['z'\].log_p of shape \(3, 2\), got \(1, 2\)"),
        (of_z(log_q=lambda z: z.log_q[0]), r"latents\['z'\].log_q of shape \(3, 2\), got \(2,\)"),
        (of_z(kl=lambda z: z.kl.sum(-1)), r"latents\['z'\].kl of shape \(1 or 3, 2, units\), got \(1, 2\)"),
        (of_z(kl=lambda z: z.kl[:, :1]), r"latents\['z'\].kl of shape \(1 or 3, 2, units\), got \(1, 1, 3\)"),
    ],
)  # fmt: skip
def test_evidence_of_another_shape_is_refused_before_training(change, answer):
    for objective in (ELBO(3), IWAE(3)):
        with pytest.raises(ValueError, match=f"evidence of Wrong with {answer}"):
            resolved(experiment(Wrong(change), objective))


def test_patience_without_a_validation_split_is_refused():
    with pytest.raises(ValueError, match=r"validation split for training\.patience 3, .*data\.num_validation"):
        dgmzoo.train(dgmzoo.experiment("vae/digits", {"training.patience": 3, "data.num_validation": 0}))
