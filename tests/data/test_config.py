"""Data configs: invalid fields are refused, and configs of arrays in memory compare by their fields."""

import numpy as np
import pytest

from dgmzoo.data import Data, from_arrays, load_dataset

X = np.random.default_rng(0).random((60, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoding": "sometimes"}, "data.encoding one of"),
        ({"num_validation": -1}, "data.num_validation"),
        ({"num_validation": True}, "data.num_validation"),
        ({"seed": 1.5}, "data.seed"),
        ({"fold": 10}, "0 to 9"),
        ({"name": ""}, "name of a data set"),
        ({"missing": 1.0}, "data.missing"),
        ({"missing": -0.1}, "data.missing"),
        ({"missing": True}, "data.missing"),
        ({"standardize": 1}, "data.standardize"),
    ],
)
def test_invalid_field_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Data(**fields)


def test_configs_of_arrays_compare_by_their_fields_alone():
    assert from_arrays(X) == from_arrays(X + 1) != from_arrays(X, seed=1)
    assert "arrays=" not in repr(from_arrays(X))


def test_registered_name_and_missing_rows_are_refused():
    with pytest.raises(ValueError, match="got 'mnist', which is a registered set"):
        from_arrays(X, name="mnist")
    with pytest.raises(ValueError, match="got None"):
        from_arrays(None)


def test_labels_may_be_given_by_split():
    config = from_arrays(X[:40], test=X[40:], label={"train": np.zeros(40, int), "test": np.ones(20, int)})
    assert load_dataset(config).splits["test"]["label"].tolist() == [1] * 20
    with pytest.raises(ValueError, match="train, valid or test"):
        from_arrays(X, label={"dev": np.zeros(60, int)})
