"""Comparisons that are refused before anything is trained or written."""

import pytest

import dgmzoo
from dgmzoo.comparison.run import api
from tests.support.small_comparison import small_experiment

REFUSED = {
    "nothing": ({}, "expected layers or overrides"),
    "no seeds": ({"layers": ["normal"], "seeds": ()}, "at least one"),
    "no lists": ({"layers": "normal"}, "expected lists of layers"),
    "a number": ({"layers": ["normal"], "seeds": 3}, "seeds=range(3)"),
    "twice": ({"layers": ["normal", "normal"]}, "different names, got 'normal' and 'normal'"),
    "unknown layer": ({"layers": ["normal", "nromal"]}, "nromal: expected model.latent one of normal, horseshoe"),
    "refused pair": ({"layers": ["normal"], "overrides": [{"model.latent": "point", "objective": "iwae"}]}, "use elbo"),
    "other data": ({"overrides": [{"data.seed": 1}]}, "got 'data.seed'"),
    "shape": ({"layers": ["normal"], "overrides": [{"model.shape": (3,)}]}, "model.shape=[3]: expected model.shape"),
    "batch": ({"layers": ["normal"], "overrides": [{"training.batch_size": 500}]}, "at most the 200"),
    "patience": ({"layers": ["normal"], "overrides": [{"training.patience": 3}]}, "patience None with 3 seeds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_does_not_fit_is_refused_before_training(case, monkeypatch, tmp_path):
    monkeypatch.setattr(api, "train", None)
    arguments, message = REFUSED[case]
    with pytest.raises(ValueError) as error:
        dgmzoo.compare(small_experiment(), run_dir=tmp_path, progress=False, **arguments)
    assert message in str(error.value) and list(tmp_path.iterdir()) == []
