"""`data.missing`: elements hidden at random by the seed alone, in all splits, together with a mask of the data."""

import numpy as np
import pytest

from dgmzoo.data import Data, LazyRows, from_arrays, load_dataset, row_splits

random = np.random.default_rng(0)
X = random.normal(3, 2, (3000, 6)).astype(np.float32)


def test_f47_missing_hides_a_share_of_all_splits():
    data = load_dataset(from_arrays(X, missing=0.2, standardize=False))
    whole = load_dataset(from_arrays(X, standardize=False))
    assert data.sha256 == whole.sha256
    for split in ("train", "valid", "test"):
        rows, expected = data.evaluation_rows(split), whole.evaluation_rows(split)["x"]
        mask = rows["mask"]
        assert abs(mask.mean() - 0.8) < 4 * np.sqrt(0.16 / mask.size)
        np.testing.assert_array_equal(rows["x"], np.where(mask, expected, 0))
        assert np.abs(np.corrcoef(mask.T) - np.eye(6)).max() < 0.25


def test_f47_missing_depends_on_seed_and_row_alone():
    one, other = (load_dataset(from_arrays(X, missing=0.2, num_validation=num)) for num in (None, 500))
    masks = []
    for data in (one, other):
        mask = np.empty(X.shape, bool)
        for split, rows in data.splits.items():
            mask[data.row_numbers[split]] = rows["mask"]
        masks.append(mask)
    np.testing.assert_array_equal(*masks)
    assert (load_dataset(from_arrays(X[:2000], test=X[2000:], missing=0.2, seed=1)).splits["train"]["mask"]).any()
    again = load_dataset(from_arrays(X[:2000], test=X[2000:], missing=0.2)).splits["train"]["mask"]
    np.testing.assert_array_equal(again, masks[0][:2000])
    another = load_dataset(from_arrays(X[:2000], test=X[2000:], missing=0.2, seed=1)).splits["train"]["mask"]
    assert (again != another).any()


def test_f47_missing_joins_the_mask_of_the_data():
    x, mask = X.reshape(3000, 3, 2), random.random((3000, 3)) > 0.5
    data = load_dataset(from_arrays({"x": x, "mask": mask}, missing=0.2))
    alone = load_dataset(from_arrays(x, missing=0.2))
    expected = mask[data.row_numbers["test"]][..., None, None] & alone.evaluation_rows("test")["mask"]
    np.testing.assert_array_equal(data.evaluation_rows("test")["mask"], expected)


def test_f47_missing_is_independent_of_the_binarization():
    data = load_dataset(Data("digits", missing=0.5))
    x, mask = load_dataset(Data("digits")).evaluation_rows("train")["x"], data.evaluation_rows("train")["mask"]
    varies = x.std((0, 3)) > 0.3
    x, mask = x[:, varies].ravel(), mask[:, varies].ravel()
    assert abs(np.corrcoef(x, mask)[0, 1]) < 4 / np.sqrt(x.size)
    assert set(np.unique(data.evaluation_rows("train")["x"])) == {0, 1}


def test_f47_missing_keeps_x_in_the_range_of_the_data():
    positive = np.exp(X)
    x = load_dataset(from_arrays(positive, missing=0.5, standardize=False)).evaluation_rows("train")["x"]
    assert (x > 0).all()


def test_f47_missing_of_large_splits_is_drawn_as_rows_are_read(monkeypatch):
    config = from_arrays(X, missing=0.2)
    whole = load_dataset(config)
    monkeypatch.setattr(row_splits, "LAZY_ABOVE_BYTES", 1000)
    data = load_dataset(config)
    rows, index = data.splits["train"], np.array([[3, 1], [0, 9]])
    assert isinstance(rows["x"], LazyRows) and isinstance(rows["mask"], LazyRows)
    for field in ("x", "mask"):
        np.testing.assert_allclose(rows[field][index], whole.splits["train"][field][index], rtol=1e-6)
        np.testing.assert_allclose(rows[field][5], whole.splits["train"][field][5], rtol=1e-6)
        np.testing.assert_allclose(np.asarray(rows[field]), whole.splits["train"][field], rtol=1e-6)


def test_f47_missing_of_a_registered_table_is_normalised_by_observed_rows(registered, folder):
    x = random.normal(3, 5, (203, 12)).round(4)
    lines = [";".join(f'"c{i}"' for i in range(12)), *(";".join(map(str, row)) for row in x)]
    (folder("winequality_red") / "winequality-red.csv").write_text("\n".join(lines))
    registered("winequality_red", splits={"all": 203}, random_splits={"valid": 20})
    data = load_dataset(Data("winequality_red", missing=0.3))
    rows = data.splits["train"]
    observed = np.ma.masked_array(rows["x"], mask=~rows["mask"])
    np.testing.assert_allclose(observed.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(observed.std(0), 1, rtol=1e-5)


def test_f47_missing_of_words_is_refused(registered, folder):
    text = "a b c\nb c\n"
    for split in ("train", "valid", "test"):
        (folder("ptb") / f"ptb.{split}.txt").write_text(text)
    registered("ptb", splits={"train": 2, "valid": 2, "test": 2})
    with pytest.raises(ValueError, match=r"data.missing 0 for ptb"):
        load_dataset(Data("ptb", missing=0.2))
