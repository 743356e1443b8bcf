"""A user's arrays: accepted forms, masks, contexts, and a message for each kind of fault."""

import os

import jax
import numpy as np
import pytest

from dgmzoo.data import Data, cache, from_arrays, load_dataset, lookup

random = np.random.default_rng(0)
X = random.random((60, 6)).astype(np.float32)
PIXELS = random.integers(0, 256, (60, 5, 7)).astype(np.uint8)


def test_arrays_in_memory_keep_their_splits_and_labels():
    data = load_dataset(from_arrays(X[:40], valid=X[40:50], test=X[50:], label=np.arange(40) % 3, name="mine"))
    assert "label" in data.splits["train"] and "label" not in data.splits["test"]
    assert (data.name, data.shape, data.encoding, data.num_classes) == ("mine", (6,), None, 3)
    np.testing.assert_array_equal(data.splits["valid"]["x"], X[40:50])
    np.testing.assert_array_equal(data.observe(jax.random.key(0), data.splits["test"])["x"], X[50:])


def test_mask_of_the_first_axes_covers_x():
    x, mask = random.random((60, 4, 3)).astype(np.float32), random.random((60, 4)) > 0.3
    for stored_mask in (mask, np.broadcast_to(mask[..., None], x.shape)):
        data = load_dataset(from_arrays({"x": x, "mask": stored_mask}))
        expected = np.broadcast_to(mask[data.row_numbers["test"], :, None, None], (6, 4, 3, 1))
        np.testing.assert_array_equal(data.evaluation_rows("test")["mask"], expected)
        np.testing.assert_array_equal(data.observe(jax.random.key(0), data.splits["test"])["mask"], expected)
    data = load_dataset(from_arrays({"x": x[:, 0, 0], "mask": mask[:, 0]}))
    np.testing.assert_array_equal(data.evaluation_rows("test")["mask"], mask[data.row_numbers["test"], :1])


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 77), (60, 6, 1)])
def test_mask_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="cover the first axes"):
        load_dataset(from_arrays({"x": X, "mask": np.ones(shape, bool)}))


def test_mask_of_weights_is_refused():
    with pytest.raises(ValueError, match="True"):
        load_dataset(from_arrays({"x": X, "mask": np.full(X.shape, 0.5)}))


def test_contexts_follow_their_rows_and_are_validated():
    x, context = np.zeros((20, 2), np.float32), np.arange(60.0).reshape(20, 3)
    data = load_dataset(from_arrays({"x": x, "context": context}))
    assert data.splits["train"]["context"].shape == (16, 3)
    np.testing.assert_array_equal(data.evaluation_rows("test")["context"], context[data.row_numbers["test"]])
    with pytest.raises(ValueError, match=r"finite values in all/context"):
        load_dataset(from_arrays({"x": x, "context": context * np.nan}))
    with pytest.raises(ValueError, match="every context of arrays to have one shape"):
        load_dataset(from_arrays({"x": x, "context": context}, test={"x": x, "context": context[:, :2]}))


class HuggingFace:
    """The part of `datasets.Dataset` that is used."""

    column_names = ("image", "label")

    def with_format(self, kind):
        assert kind == "numpy"
        return {"image": PIXELS, "label": np.arange(60) % 10}


class TensorFlow:
    """The part of `tf.data.Dataset` that is used."""

    def as_numpy_iterator(self):
        return iter(zip(PIXELS, np.arange(60) % 10, strict=True))


@pytest.mark.parametrize("kind", [HuggingFace, TensorFlow])
def test_datasets_of_other_libraries_are_read_through_numpy(kind):
    expected = load_dataset(from_arrays(PIXELS, label=np.arange(60) % 10))
    assert load_dataset(from_arrays(kind())).sha256 == expected.sha256


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
        (from_arrays(np.arange(3 * 4).reshape(3, 2, 2) * 300), "0 to 255"),
        (from_arrays(X, label=np.zeros(59, int)), "one entry per row"),
        (from_arrays(X, label=X[:, 0]), "whole numbers from 0"),
        (from_arrays(X, label=-np.ones(60, int)), "whole numbers from 0"),
        (from_arrays({"x": X, "weight": X}), "label, context and mask"),
        (from_arrays(X * 2, encoding="dynamic"), r"intensities in \[0, 1\]"),
        (from_arrays(X - 1, encoding="static"), r"intensities in \[0, 1\]"),
        (from_arrays(PIXELS > 99, encoding="dynamic"), "0 or 1"),
        (from_arrays(X, num_validation=54), "below the 54"),
        (from_arrays(X[:40], X[40:50], X[50:], label=np.zeros(40, int), num_validation=5), "field label in all rows"),
        (from_arrays({"x": X, "context": X}, test=X), "context in every split .* none in test"),
        (from_arrays(X, test=(X > 0.5).astype(np.int64)), "one shape and dtype"),
    ],
)
def test_faults_are_named_in_the_message(config, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(config)


def test_intensities_may_be_binarized():
    data = load_dataset(from_arrays(X, encoding="dynamic"))
    assert set(np.unique(data.evaluation_rows("train")["x"])) == {0.0, 1.0}
    datasets = (load_dataset(from_arrays(X, encoding="dynamic", seed=seed)) for seed in range(40))
    mean = np.mean([dataset.evaluation_rows("train")["x"].mean() for dataset in datasets])
    expected = X[data.row_numbers["train"]].mean()
    np.testing.assert_allclose(mean, expected, atol=4 * 0.5 / np.sqrt(40 * 48 * 6))


def test_mapped_file_is_scanned_once_while_it_stays_the_same(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, X)
    monkeypatch.setattr(cache, "SETTLED_SECONDS", -1)
    first = load_dataset(Data(str(path))).sha256
    with monkeypatch.context() as patch:
        patch.setattr(cache, "digest", lambda arrays: pytest.fail("scanned again"))
        assert load_dataset(Data(str(path))).sha256 == first
    (note,) = (cache.root() / "own").iterdir()
    for damaged in ("{}", "[]", "", '{"stamp": null}', note.read_text().replace("low", "lowest")):
        note.write_text(damaged)
        assert load_dataset(Data(str(path))).sha256 == first
    np.save(path, np.concatenate([X, X]))
    assert load_dataset(Data(str(path))).sha256 not in (first, "") and lookup.digest({"all/x": X}) == first


def test_f18_changes_that_keep_size_and_time_are_noticed(tmp_path, monkeypatch):
    path, other = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(path, X)
    np.save(other, 1 - X)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    monkeypatch.setattr(cache, "SETTLED_SECONDS", -1)
    first = load_dataset(Data(str(path))).sha256
    os.utime(other, ns=times)
    os.replace(other, path)  # as `cp -p` and `mv` do
    second = load_dataset(Data(str(path))).sha256
    assert path.stat().st_mtime_ns == times[1] and second == lookup.digest({"all/x": 1 - X}) != first


def test_f18_digest_of_a_file_that_has_just_changed_is_not_remembered(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X)
    load_dataset(Data(str(path)))
    assert not (cache.root() / "own").exists()
    mapped = np.load(path, mmap_mode="r+")
    mapped[7, 0] = np.nan  # not flushed: the times of the file may stay the same
    with pytest.raises(ValueError, match="row 7"):
        load_dataset(Data(str(path)))


def test_f19_arrays_in_memory_are_copied():
    train, test, label = X[:40].copy(), X[40:].copy(), np.arange(40) % 3
    data = load_dataset(from_arrays(train, test=test, label=label))
    for array in (train, test, label):
        array *= 5
    np.testing.assert_array_equal(data.splits["train"]["x"], X[:40])
    np.testing.assert_array_equal(data.evaluation_rows("test")["x"], X[40:])
    assert data.splits["train"]["label"].max() == 2


def test_f19_loaded_splits_of_arrays_are_read_only(tmp_path):
    np.savez(tmp_path / "x.npz", train=X[:40], test=X[40:])
    for config in (from_arrays(X[:40], test=X[40:]), Data(str(tmp_path / "x.npz"))):
        with pytest.raises(ValueError, match="read-only"):
            load_dataset(config).splits["test"]["x"][0] = 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_f19_read_only_views_and_writable_maps_are_copied_too(dtype, tmp_path):
    rows = X.astype(dtype)
    view = rows.view()
    view.flags.writeable = False
    np.save(tmp_path / "x.npy", rows)
    writable = np.load(tmp_path / "x.npy", mmap_mode="r+")
    viewed, mapped = load_dataset(from_arrays(view, test=view)), load_dataset(from_arrays(writable, test=writable))
    rows *= 2
    writable *= 2
    for data in (viewed, mapped):
        np.testing.assert_array_equal(data.splits["train"]["x"], X)


def test_read_only_map_in_memory_stays_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = load_dataset(from_arrays(mapped, test=mapped))
    assert isinstance(data.splits["train"]["x"], np.memmap)


def test_f50_home_is_expanded_and_suffixes_may_be_in_capitals(tmp_path):
    (tmp_path / "home").mkdir(exist_ok=True)
    np.save(tmp_path / "home" / "x.npy", X)
    os.rename(tmp_path / "home" / "x.npy", tmp_path / "home" / "X.NPY")
    np.savez(tmp_path / "home" / "y.npz", x=X)
    os.rename(tmp_path / "home" / "y.npz", tmp_path / "home" / "Y.NPZ")
    np.savetxt(tmp_path / "home" / "Z.CSV", X, delimiter=",", header="a,b,c,d,e,f", comments="", fmt="%.9g")
    digests = {load_dataset(Data(f"~/{name}")).sha256 for name in ("X.NPY", "Y.NPZ", "Z.CSV")}
    assert digests == {lookup.digest({"all/x": X})}
    with pytest.raises(ValueError, match="path of a file"):
        load_dataset(Data("~nobody-of-this-name/x.npy"))
