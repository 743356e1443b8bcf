"""Entries that ignore `Query.given`, or do not reproduce their evidence from it, are found before training (F3, F53)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from dgmzoo import MLP, VariationalLayer, api
from dgmzoo.comparison.measure import measure_run
from dgmzoo.evaluation import given_samples
from dgmzoo.evaluation.code_metrics import latent_traversal, mutual_information, sample_codes
from dgmzoo.evaluation.given_samples import check_given, ignored_layers, law_violation
from dgmzoo.layers.likelihoods.base import log_likelihood, parameters
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.model.contract import Evidence, Latent, Query
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.own_entry import ROWS, experiment_of, resolved_of
from tests.support.socket_probes import InverseAutoregressive

BATCH, KEY = {"x": jnp.asarray(ROWS[:2])}, jax.random.key(0)


class Normals(nn.Module):
    """A VAE whose treatment of `given` is a field: "score", "ignore", "copy", "relaxed"."""

    given: str = "score"

    @nn.compact
    def evidence(self, batch, query: Query) -> Evidence:
        loc = nn.Dense(3)(batch["x"])[None]  # [1, B, U]
        noise = jax.random.normal(self.make_rng("sample"), (query.num_samples, *loc.shape[1:]))
        z = value = loc + noise
        if "z" in query.given and self.given != "ignore":
            z = value = query.given["z"]
        if self.given == "copy":  # not the same object, although the same numbers
            z = value = jnp.flip(jnp.flip(z, 0), 0)
        if self.given == "relaxed":  # what goes into the decoder is no function of what is given back
            z = jax.lax.stop_gradient(z)
            value = z + (loc - jax.lax.stop_gradient(loc)) if "z" not in query.given else z
        log_q = -0.5 * jnp.square(z - loc).sum(-1)
        log_p = -0.5 * jnp.square(z).sum(-1)
        p = Bernoulli()(value, (4,))
        kl = (log_q - log_p)[..., None]
        latent = Latent(value, z, log_p, log_q, kl, {"mean": loc})
        return Evidence(log_likelihood(p, batch["x"]), {"z": latent}, parameters=parameters(p))


def test_f3_entries_that_ignore_given_samples_are_found(monkeypatch):
    assert ignored_layers(functional(Normals("ignore")), BATCH, KEY) == ["z"]
    assert ignored_layers(functional(Normals("copy")), BATCH, KEY) == []
    assert ignored_layers(functional(Normals("relaxed")), BATCH, KEY) == []
    monkeypatch.setattr(given_samples.jax, "jit", None)  # nothing is compiled for an entry that hands samples through
    assert ignored_layers(functional(Normals()), BATCH, KEY) == []
    assert ignored_layers(functional(HierarchicalVAE((2, 2), (4, 4), shape=(4,))), BATCH, KEY) == []


def test_the_noise_of_a_flow_is_not_scored_under_other_rows():
    latent = VariationalLayer(posterior=InverseAutoregressive())
    entry = VAE(2, latent, encoder=MLP((4,)), decoder=MLP((4,)))
    assert not check_given(resolved_of(entry, objective=ELBO())).model.takes_given


@pytest.mark.parametrize("settings", [{"objective": DReG(2)}, {"objective": ELBO(2), "training": {"remat": True}}])
def test_f3_what_needs_given_samples_refuses_an_entry_that_ignores_them(settings):
    name = "DReG" if isinstance(settings["objective"], DReG) else "training.remat"
    with pytest.raises(ValueError, match=f"score the samples in query.given for {name}, got other samples of z"):
        api.train(experiment_of(Normals("ignore"), **settings), progress=False)


def test_f3_code_metrics_of_an_entry_that_ignores_given_samples_are_not_available():
    run = api.train(experiment_of(Normals("ignore"), objective=IWAE(2)), progress=False)
    assert not run.model.takes_given
    record = measure_run("own", run)
    assert "sparsity/z" in record and not {"mutual_information", "robustness"} & set(record)
    rows = run.dataset.evaluation_rows("test")
    codes = sample_codes(run.model, run.variables, rows, KEY)
    with pytest.raises(ValueError, match="got one that ignores them"):
        mutual_information(run.model, run.variables, rows, codes, KEY)
    assert latent_traversal(run.model, run.variables, rows, codes, "z", [0], 3) is None
    whole = api.train(experiment_of(Normals(), objective=IWAE(2)), progress=False)
    assert {"mutual_information", "robustness"} <= set(measure_run("own", whole))


@pytest.mark.parametrize("settings", [{"objective": DReG(2)}, {"objective": ELBO(2), "training": {"remat": True}}])
def test_f53_a_value_that_is_no_function_of_the_sample_is_refused(settings):
    resolved = resolved_of(Normals("relaxed"), **settings)
    with pytest.raises(ValueError, match=r"reproduce its evidence in training .*another result for the gradient"):
        check_given(resolved)
    check_given(resolved, law=False)  # as for a run that is loaded
    check_given(resolved_of(Normals("relaxed"), objective=IWAE(2)))


def test_f53_zoo_layers_reproduce_their_evidence():
    assert law_violation(functional(VAE(2, shape=(4,))), BATCH, 2, KEY) is None
    assert law_violation(functional(Normals("copy")), BATCH, 2, KEY) is None

    class Shifted(Normals):
        def evidence(self, batch, query):
            evidence = super().evidence(batch, query)
            return evidence._replace(log_likelihood=evidence.log_likelihood + (1.0 if query.given else 0.0))

    assert law_violation(functional(Shifted()), BATCH, 2, KEY) == "the value of log_likelihood"
