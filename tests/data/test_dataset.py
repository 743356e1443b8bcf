"""Loading a set: splits, static and dynamic binarization, folds, digests, and requests that are refused."""

import numpy as np
import pytest

from dgmzoo.data import Data, from_arrays, host_random, load_dataset, lookup


def test_default_set_is_digits_split_by_the_seed():
    data = load_dataset(Data())
    assert {name: len(rows["x"]) for name, rows in data.splits.items()} == {
        "train": 1257,
        "valid": 180,
        "test": 360,
    }
    assert (data.shape, data.encoding, data.num_classes) == ((8, 8, 1), "dynamic", 10)
    all_rows = np.sort(np.concatenate(list(data.row_numbers.values())))
    np.testing.assert_array_equal(all_rows, np.arange(1797))
    assert set(data.splits["test"]["label"]) == set(range(10))


def test_digits_equal_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, published = load_dataset(Data()), load_digits()
    for split, rows in data.splits.items():
        np.testing.assert_array_equal(rows["x"][..., 0], published.images[data.row_numbers[split]])
        np.testing.assert_array_equal(rows["label"], published.target[data.row_numbers[split]])


def test_split_depends_on_the_data_seed():
    first, repeated, other = (load_dataset(Data(seed=seed)).row_numbers["test"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, repeated)
    assert len(set(first) & set(other)) < len(first)


def test_num_validation_holds_out_training_rows(mnist_arrays):
    assert set(load_dataset(Data("mnist")).splits) == {"train", "test"}
    data = load_dataset(Data("mnist", num_validation=120))
    assert [len(data.row_numbers[s]) for s in ("train", "valid", "test")] == [380, 120, 80]
    np.testing.assert_array_equal(data.splits["valid"]["x"], mnist_arrays["train/x"][data.row_numbers["valid"]])
    np.testing.assert_array_equal(data.splits["valid"]["label"], mnist_arrays["train/label"][data.row_numbers["valid"]])
    assert not set(data.row_numbers["valid"]) & set(data.row_numbers["train"])
    np.testing.assert_array_equal(data.splits["test"]["x"], mnist_arrays["test/x"])


def test_num_validation_pools_train_and_validation_rows():
    x = np.arange(40, dtype=np.float32)[:, None]
    config = from_arrays(x[:20], valid=x[20:30], test=x[30:])
    assert load_dataset(config).row_numbers["valid"].tolist() == list(range(20, 30))
    without_validation = load_dataset(from_arrays(x[:20], valid=x[20:30], test=x[30:], num_validation=0))
    assert set(without_validation.splits) == {"train", "test"}
    np.testing.assert_array_equal(without_validation.splits["train"]["x"], x[:30])
    pooled = load_dataset(from_arrays(x[:20], valid=x[20:30], test=x[30:], num_validation=12))
    assert [len(rows["x"]) for rows in pooled.splits.values()] == [18, 12, 10]
    np.testing.assert_array_equal(pooled.splits["valid"]["x"][:, 0], pooled.row_numbers["valid"])


def test_static_binarization_is_one_sample_of_the_whole_set(mnist_arrays):
    whole = load_dataset(Data("mnist", encoding="static"))
    with_validation = load_dataset(Data("mnist", encoding="static", num_validation=100))
    assert whole.encoding == "static" and set(np.unique(whole.splits["train"]["x"])) == {0, 1}
    for split in ("train", "valid"):
        np.testing.assert_array_equal(
            with_validation.splits[split]["x"], whole.splits["train"]["x"][with_validation.row_numbers[split]]
        )
    np.testing.assert_array_equal(with_validation.splits["test"]["x"], whole.splits["test"]["x"])
    other = load_dataset(Data("mnist", encoding="static", seed=1))
    assert (other.splits["test"]["x"] != whole.splits["test"]["x"]).any()
    np.testing.assert_array_equal(whole.evaluation_rows("test")["x"], whole.splits["test"]["x"])


def test_f4_evaluation_rows_are_drawn_and_the_same_for_every_number_of_rows(mnist_arrays):
    data = load_dataset(Data("mnist", num_validation=100))
    rows = data.evaluation_rows("train")
    assert rows["x"].dtype == np.float32 and set(np.unique(rows["x"])) == {0.0, 1.0}
    chosen = host_random.subset(len(rows["x"]), 7)
    assert sorted(chosen) != list(range(7)) and len(set(chosen)) == 7
    np.testing.assert_array_equal(data.evaluation_rows("train", 7)["x"], rows["x"][chosen])
    np.testing.assert_array_equal(data.evaluation_rows("train", 3)["x"], rows["x"][chosen[:3]])
    assert data.evaluation_rows("train", 7)["label"].shape == (7,)
    np.testing.assert_array_equal(
        load_dataset(Data("mnist", num_validation=100)).evaluation_rows("train")["x"], rows["x"]
    )


def test_published_binarization_is_static_and_admits_no_other(registered, folder, random):
    rows = {split: random.integers(0, 2, (9, 784)) for split in ("train", "valid", "test")}
    for split, x in rows.items():
        text = "".join(" ".join(map(str, row)) + " \n" for row in x)
        (folder("binarized_mnist") / f"binarized_mnist_{split}.amat").write_text(text)
    registered("binarized_mnist", splits={"train": 9, "valid": 9, "test": 9})
    data = load_dataset(Data("binarized_mnist"))
    assert data.encoding == "static"
    np.testing.assert_array_equal(data.splits["valid"]["x"].reshape(9, 784), rows["valid"])
    np.testing.assert_array_equal(data.evaluation_rows("valid")["x"].reshape(9, 784), rows["valid"])
    with pytest.raises(ValueError, match="0 or 1"):
        load_dataset(Data("binarized_mnist", encoding="dynamic"))


def test_folds_of_a_table_cover_it_and_are_normalised_by_their_training_rows(registered, folder, random):
    x = random.normal(3, 5, (203, 12)).round(4)
    lines = [";".join(f'"c{i}"' for i in range(12)), *(";".join(map(str, row)) for row in x)]
    (folder("winequality_red") / "winequality-red.csv").write_text("\n".join(lines))
    registered("winequality_red", splits={"all": 203}, random_splits={"valid": 20})
    folds = [load_dataset(Data("winequality_red", fold=fold)) for fold in range(10)]
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.row_numbers["test"] for fold in folds])), np.arange(203))
    data = folds[3]
    assert len(data.row_numbers["valid"]) == 20 and data.encoding is None
    train = x[data.row_numbers["train"], :11]
    np.testing.assert_allclose(data.splits["train"]["x"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(data.splits["train"]["x"].std(0), 1, rtol=1e-5)
    expected = (x[data.row_numbers["test"], :11] - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(data.splits["test"]["x"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Data(num_validation=1437), "below the 1437"),
        (Data(fold=1), "data.fold 0"),
        (Data("dgits"), "did you mean digits"),
        (Data("toy_moons", encoding="dynamic"), "got 'dynamic'; add --data.encoding None"),
    ],
)
def test_protocol_without_meaning_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(config)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train, valid, test"):
        load_dataset(Data()).evaluation_rows("dev")


def test_missing_file_raises_file_not_found():
    with pytest.raises(FileNotFoundError, match=r"expected data at .*mine\.npy"):
        load_dataset(Data("mine.npy"))


def test_altered_benchmark_file_is_refused(mnist_arrays, registered):
    registered("mnist", splits={"train": 500, "test": 80}, sha256="0" * 64)
    with pytest.raises(ValueError, match="content sha256 0000000000000000"):
        load_dataset(Data("mnist"))


def test_digest_depends_on_content_not_on_containers(mnist_arrays):
    assert load_dataset(Data("mnist")).sha256 == lookup.digest(mnist_arrays)
    assert lookup.digest({"a": np.arange(4)}) == lookup.digest({"a": np.arange(4).astype(">i8")})
    changed = {key: a.copy() for key, a in mnist_arrays.items()}
    changed["test/label"][3] ^= 1
    assert lookup.digest(changed) != lookup.digest(mnist_arrays)
