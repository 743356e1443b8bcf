"""`bind` tells a module the facts of the data that it asks for."""

import dataclasses

import flax.linen as nn

from dgmzoo import Tokens
from dgmzoo.config.preflight import bind
from dgmzoo.data.config import Data
from dgmzoo.data.dataset import load_dataset
from dgmzoo.layers.likelihoods.base import Likelihood


class Sentences(nn.Module):
    """An entry with every field that `bind` sets."""

    likelihood: Likelihood = Tokens()
    num_labels: int | None = None
    end: int | None = None
    shape: tuple[int, ...] | None = None


def test_fields_of_the_data_are_set_and_own_values_stay():
    toy = load_dataset(Data("toy_moons"))
    entry = dataclasses.replace(toy.entry, kind="tokens")
    words = dataclasses.replace(toy, entry=entry, vocabulary=("the", "<eos>", "of"), num_classes=7)
    bound = bind(Sentences(), words)
    assert (bound.likelihood.vocabulary, bound.num_labels, bound.end, bound.shape) == (3, 7, 1, (2,))
    kept = bind(Sentences(likelihood=Tokens(vocabulary=5), end=0), words)
    assert (kept.likelihood.vocabulary, kept.end) == (5, 0)
    none = bind(Sentences(), toy)
    assert (none.likelihood.vocabulary, none.end) == (None, None)
