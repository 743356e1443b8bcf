"""A user's arrays keep their masks, their meaning and their values: integers, casts to float32, atoms, channels."""

import jax
import numpy as np
import pytest

from dgmzoo.data import Data, from_arrays, load_dataset, lookup
from dgmzoo.data.columns import few_valued_columns

random = np.random.default_rng(0)
X = random.normal(3, 2, (60, 4)).astype(np.float32)
MASK = random.random((60, 4)) > 0.3
HIDDEN = np.where(MASK, X, -999).astype(np.float32)


def same(one, other) -> None:
    """Assert that two data sets have equal content."""
    assert one.sha256 == other.sha256
    for split in one.splits:
        rows, others = one.evaluation_rows(split), other.evaluation_rows(split)
        assert set(rows) == set(others)
        for field in rows:
            np.testing.assert_array_equal(rows[field], others[field])


def test_f6_masked_array_keeps_its_mask():
    expected = load_dataset(from_arrays({"x": HIDDEN, "mask": MASK}))
    same(load_dataset(from_arrays(np.ma.masked_array(HIDDEN, mask=~MASK))), expected)
    same(load_dataset(from_arrays({"x": np.ma.masked_array(HIDDEN, mask=~MASK)})), expected)
    same(load_dataset(from_arrays([np.ma.masked_array(*pair) for pair in zip(HIDDEN, ~MASK, strict=True)])), expected)
    same(load_dataset(from_arrays(np.ma.masked_values(HIDDEN, -999))), expected)
    assert "mask" not in load_dataset(from_arrays(np.ma.masked_array(X))).splits["train"]


def test_f6_mask_of_an_array_joins_the_field():
    rows = MASK[:, 0] | MASK[:, 1]
    both = MASK & rows[:, None]
    given = {"x": np.ma.masked_array(HIDDEN, mask=~MASK), "mask": np.broadcast_to(rows[:, None], MASK.shape)}
    same(load_dataset(from_arrays(given)), load_dataset(from_arrays({"x": HIDDEN, "mask": both})))


def test_f6_masked_labels_and_contexts_are_refused():
    label = np.ma.masked_array(np.zeros(60, int), mask=np.arange(60) == 3)
    with pytest.raises(ValueError, match="train/label without a mask"):
        load_dataset(from_arrays(X, label=label))
    with pytest.raises(ValueError, match="train/context without a mask"):
        load_dataset(from_arrays({"x": X, "context": np.ma.masked_array(X, mask=~MASK)}))
    assert load_dataset(from_arrays(X, label=np.ma.masked_array(np.zeros(60, int)))).num_classes == 1


def test_f6_mask_that_one_of_two_joined_splits_has_is_not_lost():
    config = from_arrays({"x": HIDDEN[:40], "mask": MASK[:40]}, X[40:50], X[50:], num_validation=8, standardize=False)
    data = load_dataset(config)
    expected = np.concatenate([MASK[:40], np.ones((20, 4), bool)])
    for split, rows in data.splits.items():
        np.testing.assert_array_equal(rows["mask"], expected[data.row_numbers[split]])


def test_f47_hidden_elements_may_be_nan_or_any_number():
    for hidden in (np.nan, np.inf, -1e30):
        given = {"x": np.where(MASK, X, hidden).astype(np.float32), "mask": MASK}
        same(load_dataset(from_arrays(given)), load_dataset(from_arrays({"x": HIDDEN, "mask": MASK})))
    intensities = random.random((60, 4)).astype(np.float32)
    data = load_dataset(from_arrays({"x": np.where(MASK, intensities, -999), "mask": MASK}))
    assert data.in_unit_interval and np.isfinite(data.evaluation_rows("test")["x"]).all()


def test_f47_hidden_elements_stay_in_the_range_of_the_observed_ones():
    positive = np.where(MASK, np.exp(X), np.nan)
    x = load_dataset(from_arrays({"x": positive, "mask": MASK}, standardize=False)).evaluation_rows("train")["x"]
    assert (x > 0).all()


def test_f47_nan_without_a_mask_is_refused_with_the_way_in():
    with pytest.raises(ValueError, match=r"pass a mask: from_arrays"):
        load_dataset(from_arrays(np.where(MASK, X, np.nan)))
    with pytest.raises(ValueError, match=r"NaN or infinity in row 0; .*pass a mask"):
        load_dataset(from_arrays({"x": np.full((60, 2), np.nan), "mask": np.tile([True, False], (60, 1))}))
    with pytest.raises(ValueError, match="False everywhere"):
        load_dataset(from_arrays({"x": X, "mask": np.zeros(X.shape, bool)}))


def test_f10_the_same_whole_numbers_are_the_same_data_in_every_type(tmp_path):
    x = random.integers(0, 200, (60, 3))
    np.savetxt(tmp_path / "x.csv", x, fmt="%d", delimiter=",", header="a,b,c", comments="")
    configs = [from_arrays(x.astype(dtype)) for dtype in (np.int64, np.int16, np.float64, np.float32)]
    for config in (*configs, from_arrays(x.tolist()), Data(str(tmp_path / "x.csv"))):
        data = load_dataset(config)
        assert data.entry.kind == "table" and data.encoding is None
        np.testing.assert_array_equal(data.evaluation_rows("train")["x"], x[data.row_numbers["train"]])
        batch = data.observe(jax.random.key(0), data.splits["test"])["x"]
        np.testing.assert_array_equal(batch, x[data.row_numbers["test"]].astype(np.float32))


@pytest.mark.parametrize("low", [-5, 300])
def test_f10_whole_numbers_outside_of_a_byte_are_a_table(low):
    x = low + random.integers(0, 200, (60, 3))
    config = from_arrays(x, test=x, standardize=False)
    np.testing.assert_array_equal(load_dataset(config).evaluation_rows("test")["x"], x)


def test_f10_images_bytes_and_binary_values_stay_intensities():
    images = random.integers(0, 256, (60, 5, 7))
    for x in (images, images[..., None], images.astype(np.uint8), images.reshape(60, 35).astype(np.uint8)):
        assert load_dataset(from_arrays(x)).entry.maximum == 255
    assert load_dataset(from_arrays(images % 2)).entry.maximum == 1
    assert load_dataset(from_arrays((images % 2).reshape(60, 35))).entry.maximum == 1


def test_f10_whole_numbers_of_a_table_may_be_classes():
    x = random.integers(0, 900, (60, 3))
    data = load_dataset(from_arrays(x, encoding="classes"))
    np.testing.assert_array_equal(data.evaluation_rows("test")["x"], x[data.row_numbers["test"]])
    assert data.evaluation_rows("test")["x"].dtype == np.int32
    with pytest.raises(ValueError, match="whole numbers from 0"):
        load_dataset(from_arrays(x - x.max(), encoding="classes"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (1e9 + X[:, 1].astype(float), "column 1 with"),
        (X[:, 1].astype(float) * 1e-300, "column 1 with"),
        (1_600_000_000 + 60 * np.arange(60.0), "column 1 with"),
        (X[:, 1].astype(float) * 1e200, "within the range of float32, got .* in column 1"),
    ],
    ids=["shifted", "tiny", "time stamps", "large"],
)
def test_f12_values_that_float32_loses_are_refused(column, message, tmp_path):
    x = X.astype(np.float64)
    x[:, 1] = column
    with pytest.raises(ValueError, match=message):
        load_dataset(from_arrays(x))
    with pytest.raises(ValueError, match=message):
        load_dataset(from_arrays({"x": X, "context": x}))
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=message):
        load_dataset(Data(str(tmp_path / "x.npy")))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c,d", comments="", fmt="%.17g")
    with pytest.raises(ValueError, match=message.replace("column 1", "column 1 'b'")):
        load_dataset(Data(str(tmp_path / "x.csv")))


def test_f12_whole_numbers_that_float32_loses_are_refused():
    with pytest.raises(ValueError, match="column 0 with 60 values"):
        load_dataset(from_arrays(2**24 + np.arange(60)[:, None] * [1, 1000]))
    with pytest.raises(ValueError, match="column 0 with 60 values"):
        load_dataset(from_arrays(2**60 + np.arange(60)))


def test_f12_chance_collisions_of_many_rows_are_accepted():
    x = random.random((200_000, 1)) - 0.5
    data = load_dataset(from_arrays(x))
    assert len(np.unique(x.astype(np.float32))) < len(x) == sum(len(rows["x"]) for rows in data.splits.values())


class Frame:
    """The part of `pandas.DataFrame` that is used."""

    columns = ("length", "width", "height", "unit")

    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return np.array(self.x, dtype)


def test_f24_constant_and_few_valued_columns_are_named(tmp_path):
    x = X.copy()
    x[:, 3] = 7
    x[:, 0] = np.rint(x[:, 0] / 4)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="length,width,height,unit", comments="")
    for config in (from_arrays(Frame(x)), Data(str(tmp_path / "x.csv"))):
        with pytest.warns(UserWarning, match=r"'length' \(. values\), column 3 'unit' \(1 value\): its likelihood"):
            load_dataset(config)


def test_f24_value_that_a_third_of_the_rows_share_is_named():
    x = X.copy()
    x[:30, 2] = 0
    with pytest.warns(UserWarning, match=r"column 2 \(0 in 50% of the rows\)"):
        load_dataset(from_arrays(x))


@pytest.mark.filterwarnings("error")
def test_f24_counts_intensities_and_continuous_columns_pass_without_a_warning():
    for x in (X, random.integers(0, 9, (60, 3)), random.integers(0, 9, (60, 3)) / 8):
        load_dataset(from_arrays(x))
    hidden = np.where(MASK, X, 0)
    load_dataset(from_arrays({"x": hidden, "mask": MASK}))
    assert few_valued_columns(hidden, MASK) == []


def test_f50_channels_first_get_a_hint():
    x = random.integers(0, 256, (9, 3, 32, 32)).astype(np.uint8)
    with pytest.warns(UserWarning, match=r"3x32 pixels of 32 channels; .* x.transpose\(0, 2, 3, 1\)"):
        load_dataset(from_arrays(x))
    load_dataset(from_arrays(x.transpose(0, 2, 3, 1)))


def test_digest_is_that_of_the_values():
    assert load_dataset(from_arrays(X)).sha256 == lookup.digest({"all/x": X})
