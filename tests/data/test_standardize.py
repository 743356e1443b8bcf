"""Own tables in units of the training rows, and the nats that lead back to their own units."""

import numpy as np
import pytest

from dgmzoo.data import Data, LazyRows, from_arrays, load_dataset, row_splits
from dgmzoo.data.standardize import Standardization

random = np.random.default_rng(0)
SCALES = np.array([1000.0, 1.0, 0.01])
X = (random.normal(size=(3000, 3)) * SCALES + [5000, -3, 0.5]).astype(np.float32)


def nats_of_normals(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Negative log-density [N, D] of independent normal columns."""
    return 0.5 * ((x - mean) / scale) ** 2 + np.log(scale) + 0.5 * np.log(2 * np.pi)


def test_f11_own_tables_are_standardised_by_their_training_rows(tmp_path):
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header="a,b,c", comments="", fmt="%.9g")
    np.save(tmp_path / "x.npy", X)
    for config in (from_arrays(X), Data(str(tmp_path / "x.csv")), Data(str(tmp_path / "x.npy"))):
        data = load_dataset(config)
        train = X[data.row_numbers["train"]].astype(float)
        np.testing.assert_allclose(data.splits["train"]["x"].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(data.splits["train"]["x"].std(0), 1, rtol=1e-4)
        expected = (X[data.row_numbers["test"]] - train.mean(0)) / train.std(0)
        np.testing.assert_allclose(data.splits["test"]["x"], expected, rtol=1e-3, atol=1e-5)
        assert data.log_det == pytest.approx(np.log(train.std(0)).sum())


def test_f11_log_determinant_gives_nats_of_the_original_units():
    data, raw = load_dataset(from_arrays(X)), load_dataset(from_arrays(X, standardize=False))
    x, original = (each.evaluation_rows("test")["x"].astype(float) for each in (data, raw))
    train = raw.evaluation_rows("train")["x"].astype(float)
    expected = nats_of_normals(original, train.mean(0), train.std(0)).sum(1).mean()
    assert nats_of_normals(x, np.zeros(3), np.ones(3)).sum(1).mean() + data.log_det == pytest.approx(expected, rel=1e-5)
    assert raw.log_det == 0.0 and data.sha256 == raw.sha256
    np.testing.assert_allclose(data.standardization.invert(x), original, rtol=1e-4, atol=1e-4)


def test_f11_hidden_elements_have_no_part_in_it():
    mask = random.random(X.shape) > 0.3
    data = load_dataset(from_arrays({"x": np.where(mask, X, np.nan), "mask": mask}))
    numbers = data.row_numbers["train"]
    observed = np.ma.masked_array(X[numbers].astype(float), mask=~mask[numbers])
    np.testing.assert_allclose(data.standardization.mean, observed.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.standardization.scale, observed.std(0), rtol=1e-6)
    rows = data.evaluation_rows("test")
    expected = mask[data.row_numbers["test"]] @ np.log(data.standardization.scale)
    np.testing.assert_allclose(data.log_det_of(rows), expected)
    whole = {"x": rows["x"]}
    np.testing.assert_allclose(data.log_det_of(whole), data.log_det)


def test_f11_log_line_says_so_and_how_to_switch_it_off():
    messages: list[str] = []
    data = load_dataset(from_arrays(X, name="mine"), messages.append)
    (message,) = messages
    assert f"{data.log_det:.4g} nats" in message and "mine" in message and "data.standardize False" in message


@pytest.mark.parametrize(
    "x",
    [random.integers(0, 90, (60, 3)), random.random((60, 3)), random.normal(size=(60, 5, 7))],
    ids=["counts", "intensities", "images"],
)
def test_f11_counts_intensities_and_images_stay_as_they_are(x):
    data = load_dataset(from_arrays(x))
    assert data.standardization is None and data.log_det == 0.0
    assert data.evaluation_rows("test")["x"].ravel() == pytest.approx(x[data.row_numbers["test"]].ravel(), rel=1e-6)


def test_f11_constant_column_keeps_its_scale():
    x = X.copy()
    x[:, 1] = 7
    with pytest.warns(UserWarning, match=r"column 1 \(1 value\)"):
        data = load_dataset(from_arrays(x))
    assert data.standardization.scale[1] == 1 and (data.splits["train"]["x"][:, 1] == 0).all()


def test_f11_large_tables_are_standardised_as_rows_are_read(monkeypatch):
    whole = load_dataset(from_arrays(X))
    monkeypatch.setattr(row_splits, "LAZY_ABOVE_BYTES", 1000)
    data = load_dataset(from_arrays(X))
    assert isinstance(data.splits["train"]["x"], LazyRows) and data.splits["train"]["x"].dtype == np.float32
    np.testing.assert_array_equal(data.splits["train"]["x"][:], whole.splits["train"]["x"])


def test_statistics_of_many_rows_are_exact_far_from_zero():
    x = random.normal(1e4, 1, (200_000, 2))
    standardization = Standardization.of({"x": x})
    np.testing.assert_allclose(standardization.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(standardization.scale, x.std(0), rtol=1e-10)


def test_protocol_of_a_registered_table_is_no_option(registered, folder):
    lines = [
        ";".join(f'"c{i}"' for i in range(12)),
        *(";".join(map(str, row)) for row in random.normal(size=(203, 12))),
    ]
    (folder("winequality_red") / "winequality-red.csv").write_text("\n".join(lines))
    registered("winequality_red", splits={"all": 203}, random_splits={"valid": 20})
    assert load_dataset(Data("winequality_red")).log_det == 0.0
    with pytest.raises(ValueError, match=r"data\.standardize True"):
        load_dataset(Data("winequality_red", standardize=False))
