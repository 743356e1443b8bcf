"""Checks before training: fields that follow from the data, `generate` (F25) and the fields of all splits (F26)."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import dgmzoo
from dgmzoo import MADE, Experiment, Tokens, Training, from_arrays
from dgmzoo.config.preflight import bind, resolve
from dgmzoo.data.config import Data
from dgmzoo.data.dataset import load_dataset
from dgmzoo.layers.likelihoods.base import Likelihood
from tests.support.own_entry import ROWS, resolved_of


class Sentences(nn.Module):
    """An entry with every field that `bind` sets."""

    likelihood: Likelihood = Tokens()
    end: int | None = None
    shape: tuple[int, ...] | None = None


def test_fields_of_the_data_are_set_and_own_values_stay():
    toy = load_dataset(Data("toy_moons"))
    entry = dataclasses.replace(toy.entry, kind="tokens")
    words = dataclasses.replace(toy, entry=entry, vocabulary=("the", "<eos>", "of"))
    bound = bind(Sentences(), words)
    assert (bound.likelihood.vocabulary, bound.end, bound.shape) == (3, 1, (2,))
    kept = bind(Sentences(likelihood=Tokens(vocabulary=5), end=0), words)
    assert (kept.likelihood.vocabulary, kept.end) == (5, 0)
    none = bind(Sentences(), toy)
    assert (none.likelihood.vocabulary, none.end) == (None, None)


class NoContext(MADE):
    """An entry whose `generate` does not take the context that its data have."""

    def generate(self, num, context=None):
        return super().generate(num, {"no": context["missing"]})


class Few(MADE):
    """An entry whose `generate` gives x of another shape."""

    def generate(self, num, context=None):
        return super().generate(num, context)._replace(x=jnp.zeros((num, 2)))


class Labelled(MADE):
    """An entry whose density reads the label."""

    def evidence(self, batch, query):
        evidence = super().evidence(batch, query)
        return evidence._replace(
            log_likelihood=evidence.log_likelihood + 0.0 * batch["label"].astype(jnp.float32)[None]
        )


@pytest.mark.parametrize(
    "module, message",
    [
        (NoContext(hidden=(4,)), r"expected generate\(num, context\) of NoContext to run with the context .*KeyError"),
        (Few(hidden=(4,)), r"expected generate of Few to return a Draw with x of shape \(2, 4\), got \(2, 2\)"),
    ],
    ids=["context", "shape"],
)
def test_f25_a_generate_that_fails_is_refused_before_training(module, message):
    with pytest.raises(ValueError, match=message):
        resolved_of(module)


def test_f26_a_field_that_a_split_lacks_is_refused_before_training():
    rows = {"x": ROWS, "label": np.arange(60) % 3}
    config = from_arrays(rows, {"x": ROWS[:9], "label": np.zeros(9, int)}, {"x": ROWS[:9]})
    training = Training(steps=2, batch_size=8)
    resolve(Experiment(model=MADE(hidden=(4,)), data=config, training=training), load_dataset(config))  # reads no label
    experiment = Experiment(model=Labelled(hidden=(4,)), data=config, training=training)
    with pytest.raises(
        ValueError, match=r"expected the fields label, x in every split .* no 'label' in test, which Lab"
    ):
        resolve(experiment, load_dataset(config))


@pytest.mark.parametrize(
    "labels, answer", [(9, "set model.labels 10"), (3, "above the largest label of train of 'digits', 9, got 3")]
)
def test_labels_beyond_the_range_of_a_model_are_refused(labels, answer):
    experiment = dgmzoo.experiment("ddnn/digits_made", {"model.labels": labels})
    with pytest.raises(ValueError, match=answer):
        resolve(experiment, load_dataset(experiment.data))
