"""One's own data: each form in one line, each fault named."""

import jax
import numpy as np
import pytest
from PIL import Image

from dgmzoo.data import Data, cache, from_arrays, load, store

random = np.random.default_rng(0)
X = random.random((60, 6)).astype(np.float32)
PIXELS = random.integers(0, 256, (60, 5, 7)).astype(np.uint8)


def test_arrays_in_memory():
    data = load(from_arrays(X[:40], valid=X[40:50], test=X[50:], label=np.arange(40) % 3, name="mine"))
    assert "label" in data.splits["train"] and "label" not in data.splits["test"]
    assert (data.name, data.shape, data.binarization, data.num_classes) == ("mine", (6,), None, 3)
    np.testing.assert_array_equal(data.splits["valid"]["x"], X[40:50])
    np.testing.assert_array_equal(data.observe(jax.random.key(0), data.splits["test"])["x"], X[50:])


def test_labels_by_split():
    config = from_arrays(X[:40], test=X[40:], label={"train": np.zeros(40, int), "test": np.ones(20, int)})
    assert load(config).splits["test"]["label"].tolist() == [1] * 20
    with pytest.raises(ValueError, match="train, valid or test"):
        from_arrays(X, label={"dev": np.zeros(60, int)})


def test_config_of_arrays_is_equal_by_its_fields_alone():
    assert from_arrays(X) == from_arrays(X + 1) != from_arrays(X, seed=1)
    assert "0." not in repr(from_arrays(X))


def test_npy_is_mapped_and_split_by_the_seed(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    data = load(Data(str(tmp_path / "x.npy"), binarization="dynamic"))
    assert data.shape == (5, 7, 1) and [len(r["x"]) for r in data.splits.values()] == [48, 6, 6]
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[data.numbers["test"]])
    assert load(Data(str(tmp_path / "x.npy"))).binarization == "gray"


def test_npz_with_splits_and_labels(tmp_path):
    np.savez(
        tmp_path / "x.npz",
        train=PIXELS[:50],
        train_label=np.arange(50) % 4,
        test=PIXELS[50:],
        test_label=[3] * 10,
    )
    data = load(Data(str(tmp_path / "x.npz")))
    assert set(data.splits) == {"train", "test"} and data.num_classes == 4
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[50:])
    np.savez_compressed(tmp_path / "y.npz", x=np.asfortranarray(X))
    assert load(Data(str(tmp_path / "y.npz"))).sha256 == load(from_arrays(X)).sha256


def test_table(tmp_path):
    np.savetxt(tmp_path / "t.csv", X, delimiter=",", header="a,b,c,d,e,f", comments="")
    data = load(Data(str(tmp_path / "t.csv")))
    np.testing.assert_allclose(data.splits["train"]["x"], X[data.numbers["train"]], rtol=1e-6)
    (tmp_path / "b.csv").write_text("\n".join("0,1,1" if row % 2 else "1,0,0" for row in range(30)))
    assert load(Data(str(tmp_path / "b.csv"))).entry.maximum == 1


def test_folder_of_images_with_classes_and_splits(tmp_path):
    for at, (split, kind) in enumerate([("train", "cat"), ("train", "dog"), ("test", "dog")] * 4):
        place = tmp_path / "pets" / split / kind
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[at]).save(place / f"{at:02}.png")
    data = load(Data(str(tmp_path / "pets")))
    assert {s: len(r["x"]) for s, r in data.splits.items()} == {"train": 8, "test": 4}
    assert data.splits["train"]["label"].tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[[2, 5, 8, 11]])
    Image.new("RGB", (4, 4)).save(tmp_path / "pets" / "train" / "cat" / "odd.webp")
    with pytest.raises(ValueError, match="resize"):
        load(Data(str(tmp_path / "pets")))


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="expected images"):
        load(Data(str(tmp_path)))


class HuggingFace:
    """What the code asks of a `datasets.Dataset`."""

    column_names = ("image", "label")

    def with_format(self, kind):
        assert kind == "numpy"
        return {"image": PIXELS, "label": np.arange(60) % 10}


class TensorFlow:
    """What the code asks of a `tf.data.Dataset`."""

    def as_numpy_iterator(self):
        return iter(zip(PIXELS, np.arange(60) % 10, strict=True))


@pytest.mark.parametrize("kind", [HuggingFace, TensorFlow])
def test_numpy_views_of_other_libraries(kind):
    assert load(from_arrays(kind())).sha256 == load(from_arrays(PIXELS, label=np.arange(60) % 10)).sha256


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (from_arrays(np.where(np.arange(60)[:, None] == 7, np.nan, X)), "NaN or infinity in row 7"),
        (from_arrays(np.where(np.arange(60)[:, None] == 7, np.inf, X)), "NaN or infinity in row 7"),
        (from_arrays(X, test=X[:, :5]), "one shape and dtype"),
        (from_arrays(X, test=PIXELS), "one shape and dtype"),
        (from_arrays(np.array([None] * 9)), "expected numbers"),
        (from_arrays([[1.0], [2.0, 3.0]]), "one shape"),
        (from_arrays(X[:0]), "expected rows"),
        (from_arrays(X[:2]), "at least 3 rows"),
        (from_arrays(np.array([[300], [1], [2]])), "0 to 255"),
        (from_arrays(X, label=np.zeros(59, int)), "one entry per row"),
        (from_arrays(X, label=X[:, 0]), "whole numbers from 0"),
        (from_arrays(X, label=-np.ones(60, int)), "whole numbers from 0"),
        (from_arrays({"x": X, "weight": X}), "label and mask"),
        (from_arrays(X * 2, binarization="dynamic"), r"intensities in \[0, 1\]"),
        (from_arrays(X - 1, binarization="static"), r"intensities in \[0, 1\]"),
        (from_arrays(PIXELS > 99, binarization="dynamic"), "0 or 1"),
        (from_arrays(X, num_validation=54), "below the 54"),
    ],
)
def test_faults_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        load(config)


def test_intensities_may_be_binarized():
    data = load(from_arrays(X, binarization="dynamic"))
    assert set(np.unique(data.fixed("train")["x"])) == {0.0, 1.0}
    np.testing.assert_allclose(
        np.mean([load(from_arrays(X, binarization="dynamic", seed=s)).fixed("train")["x"].mean() for s in range(40)]),
        X[data.numbers["train"]].mean(),
        atol=4 * 0.5 / np.sqrt(40 * 48 * 6),
    )


def test_a_file_is_scanned_once_while_it_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, X)
    first = load(Data(str(path))).sha256
    with monkeypatch.context() as patch:
        patch.setattr(cache, "digest", lambda arrays: pytest.fail("scanned again"))
        assert load(Data(str(path))).sha256 == first
    (note,) = (cache.root() / "own").iterdir()
    for rubbish in ("{}", "[]", "", '{"stamp": null}', note.read_text().replace("low", "lowest")):
        note.write_text(rubbish)
        assert load(Data(str(path))).sha256 == first
    np.save(path, np.concatenate([X, X]))
    assert load(Data(str(path))).sha256 not in (first, "") and store.digest({"all/x": X}) == first
