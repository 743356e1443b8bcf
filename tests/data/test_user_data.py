"""One's own data: each form in one line, each fault named."""

import os

import jax
import numpy as np
import pytest
from PIL import Image

from dgmzoo.data import Data, cache, from_arrays, load_dataset, lookup

random = np.random.default_rng(0)
X = random.random((60, 6)).astype(np.float32)
PIXELS = random.integers(0, 256, (60, 5, 7)).astype(np.uint8)


def test_arrays_in_memory():
    data = load_dataset(from_arrays(X[:40], valid=X[40:50], test=X[50:], label=np.arange(40) % 3, name="mine"))
    assert "label" in data.splits["train"] and "label" not in data.splits["test"]
    assert (data.name, data.shape, data.encoding, data.num_classes) == ("mine", (6,), None, 3)
    np.testing.assert_array_equal(data.splits["valid"]["x"], X[40:50])
    np.testing.assert_array_equal(data.observe(jax.random.key(0), data.splits["test"])["x"], X[50:])


def test_labels_by_split():
    config = from_arrays(X[:40], test=X[40:], label={"train": np.zeros(40, int), "test": np.ones(20, int)})
    assert load_dataset(config).splits["test"]["label"].tolist() == [1] * 20
    with pytest.raises(ValueError, match="train, valid or test"):
        from_arrays(X, label={"dev": np.zeros(60, int)})


def test_config_of_arrays_is_equal_by_its_fields_alone():
    assert from_arrays(X) == from_arrays(X + 1) != from_arrays(X, seed=1)
    assert "0." not in repr(from_arrays(X))


def test_npy_is_mapped_and_split_by_the_seed(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    data = load_dataset(Data(str(tmp_path / "x.npy"), encoding="dynamic"))
    assert data.shape == (5, 7, 1) and [len(r["x"]) for r in data.splits.values()] == [48, 6, 6]
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[data.row_numbers["test"]])
    assert load_dataset(Data(str(tmp_path / "x.npy"))).encoding == "gray"


def test_npz_with_splits_and_labels(tmp_path):
    np.savez(
        tmp_path / "x.npz",
        train=PIXELS[:50],
        train_label=np.arange(50) % 4,
        test=PIXELS[50:],
        test_label=[3] * 10,
    )
    data = load_dataset(Data(str(tmp_path / "x.npz")))
    assert set(data.splits) == {"train", "test"} and data.num_classes == 4
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[50:])
    np.savez_compressed(tmp_path / "y.npz", x=np.asfortranarray(X))
    assert load_dataset(Data(str(tmp_path / "y.npz"))).sha256 == load_dataset(from_arrays(X)).sha256


def test_table(tmp_path):
    np.savetxt(tmp_path / "t.csv", X, delimiter=",", header="a,b,c,d,e,f", comments="")
    data = load_dataset(Data(str(tmp_path / "t.csv")))
    np.testing.assert_allclose(data.splits["train"]["x"], X[data.row_numbers["train"]], rtol=1e-6)
    (tmp_path / "b.csv").write_text("\n".join("0,1,1" if row % 2 else "1,0,0" for row in range(30)))
    assert load_dataset(Data(str(tmp_path / "b.csv"))).entry.maximum == 1


def test_folder_of_images_with_classes_and_splits(tmp_path):
    for at, (split, kind) in enumerate([("train", "cat"), ("train", "dog"), ("test", "dog")] * 4):
        place = tmp_path / "pets" / split / kind
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[at]).save(place / f"{at:02}.png")
    data = load_dataset(Data(str(tmp_path / "pets")))
    assert {s: len(r["x"]) for s, r in data.splits.items()} == {"train": 8, "test": 4}
    assert data.splits["train"]["label"].tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[[2, 5, 8, 11]])
    Image.new("RGB", (4, 4)).save(tmp_path / "pets" / "train" / "cat" / "odd.webp")
    with pytest.raises(ValueError, match="resize"):
        load_dataset(Data(str(tmp_path / "pets")))


def test_rows_called_train_alone_are_split_like_rows_called_nothing(tmp_path):
    np.savez(tmp_path / "a.npz", train=PIXELS, train_label=np.arange(60) % 4)
    data = load_dataset(Data(str(tmp_path / "a.npz")))
    assert {split: len(rows["x"]) for split, rows in data.splits.items()} == {"train": 48, "valid": 6, "test": 6}
    assert data.sha256 == load_dataset(from_arrays(PIXELS, label=np.arange(60) % 4)).sha256
    for at in range(9):
        place = tmp_path / "pets" / "train" / "cat"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[at]).save(place / f"{at}.png")
    assert set(load_dataset(Data(str(tmp_path / "pets"))).splits) == {"train", "valid", "test"}


@pytest.mark.parametrize("splits", [("train", "valid"), ("valid",), ("valid", "test"), ("test",)])
def test_rows_without_train_or_test_are_refused_before_training(splits, tmp_path):
    for split in splits:
        (tmp_path / "pets" / split).mkdir(parents=True)
        Image.fromarray(PIXELS[0]).save(tmp_path / "pets" / split / "a.png")
    with pytest.raises(ValueError, match=f"with train and test rows .*, got {' and '.join(splits)}"):
        load_dataset(Data(str(tmp_path / "pets")))
    if "train" in splits:
        np.savez(tmp_path / "a.npz", train=X, valid=X)
        for config in (Data(str(tmp_path / "a.npz")), from_arrays(X, valid=X)):
            with pytest.raises(ValueError, match="got train and valid"):
                load_dataset(config)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(np.full((4, 5), 40_000, np.uint16)), "more than 8 bits"),
        (Image.fromarray(np.zeros((4, 5, 4), np.uint8)), "transparent"),
        (Image.new("LA", (4, 5), (9, 9)), "transparent"),
    ],
    ids=["16 bits", "RGBA", "LA"],
)
def test_an_image_whose_values_would_be_guessed_is_refused(image, message, tmp_path):
    (tmp_path / "pets").mkdir()
    image.save(tmp_path / "pets" / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png: .*{message}"):
        load_dataset(Data(str(tmp_path / "pets")))


def test_an_alpha_channel_that_hides_nothing_is_dropped(tmp_path):
    (tmp_path / "pets").mkdir()
    for at in range(9):
        Image.fromarray(np.dstack([PIXELS[at]] * 3 + [np.full_like(PIXELS[at], 255)])).save(
            tmp_path / "pets" / f"{at}.png"
        )
    np.testing.assert_array_equal(
        np.sort(np.concatenate([rows["x"] for rows in load_dataset(Data(str(tmp_path / "pets"))).splits.values()]), 0),
        np.sort(np.stack([PIXELS[:9]] * 3, -1), 0),
    )


def test_a_program_is_no_image_whatever_its_name(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("was run"))
    (tmp_path / "pets").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "pets" / "a.png", "EPS")
    with pytest.raises(ValueError, match=r"expected an image, got .*a\.png"):
        load_dataset(Data(str(tmp_path / "pets")))


def test_a_pipe_is_refused_and_a_folder_may_have_any_name(tmp_path):
    os.mkfifo(tmp_path / "p.npy")
    with pytest.raises(ValueError, match="is a pipe"):
        load_dataset(Data(str(tmp_path / "p.npy")))
    (tmp_path / "d.npz").mkdir()
    for at in range(9):
        Image.fromarray(PIXELS[at]).save(tmp_path / "d.npz" / f"{at}.png")
    assert load_dataset(Data(str(tmp_path / "d.npz"))).shape == (5, 7, 1)


def test_a_mask_covers_the_first_axes_of_x():
    x, mask = random.random((60, 4, 3)).astype(np.float32), random.random((60, 4)) > 0.3
    for given in (mask, np.broadcast_to(mask[..., None], x.shape)):
        data = load_dataset(from_arrays({"x": x, "mask": given}))
        want = np.broadcast_to(mask[data.row_numbers["test"], :, None, None], (6, 4, 3, 1))
        np.testing.assert_array_equal(data.evaluation_rows("test")["mask"], want)
        np.testing.assert_array_equal(data.observe(jax.random.key(0), data.splits["test"])["mask"], want)
    data = load_dataset(from_arrays({"x": x[:, 0, 0], "mask": mask[:, 0]}))
    np.testing.assert_array_equal(data.evaluation_rows("test")["mask"], mask[data.row_numbers["test"], :1])


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 77), (60, 6, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="cover the first axes"):
        load_dataset(from_arrays({"x": X, "mask": np.ones(shape, bool)}))


def test_a_mask_of_weights_is_refused():
    with pytest.raises(ValueError, match="True"):
        load_dataset(from_arrays({"x": X, "mask": np.full(X.shape, 0.5)}))


def test_whole_numbers_may_be_classes():
    words = random.integers(0, 7, (60, 5))
    data = load_dataset(from_arrays(words, encoding="classes"))
    assert data.encoding == "classes"
    batch = data.observe(jax.random.key(0), data.splits["train"])
    for x in (batch["x"], data.evaluation_rows("train")["x"]):
        assert x.dtype == np.int32
        np.testing.assert_array_equal(x, words[data.row_numbers["train"]])
    bits = load_dataset(from_arrays(words > 3, encoding="classes"))
    np.testing.assert_array_equal(bits.evaluation_rows("test")["x"], (words > 3)[bits.row_numbers["test"]])
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        load_dataset(from_arrays(X, encoding="classes"))


def test_gray_levels_are_the_same_on_host_and_device():
    every = np.arange(256, dtype=np.uint8)[:, None]
    data = load_dataset(from_arrays(every, test=every))
    host = data.evaluation_rows("test")["x"]
    np.testing.assert_array_equal(jax.jit(data.observe)(jax.random.key(0), {"x": every})["x"], host)
    assert host[0] == 0 and host[-1] == 1


def test_a_name_that_is_taken_and_rows_that_are_none():
    with pytest.raises(ValueError, match="got 'mnist', which is a registered set"):
        from_arrays(X, name="mnist")
    with pytest.raises(ValueError, match="got None"):
        from_arrays(None)


def test_table_as_other_programs_write_it(tmp_path):
    path = tmp_path / "t.csv"
    rows = [",".join(map(str, row)) for row in X]
    want = load_dataset(from_arrays(np.array([row.split(",") for row in rows], np.float32))).sha256
    path.write_text("\n".join(rows), "utf-8-sig")
    assert load_dataset(Data(str(path))).sha256 == want
    path.write_text("\n".join(['"a, b",c,d,e,f,g', *(row.replace(",", '","').join('""') for row in rows)]))
    assert load_dataset(Data(str(path))).sha256 == want
    path.write_text(
        "\n".join(
            [
                "a,b,label,c,d,e,f",
                *(",".join([*r.split(",")[:2], str(at % 4), *r.split(",")[2:]]) for at, r in enumerate(rows)),
            ]
        )
    )
    data = load_dataset(Data(str(path)))
    assert data.shape == (6,) and data.num_classes == 4
    np.testing.assert_array_equal(data.splits["test"]["label"], data.row_numbers["test"] % 4)
    for first, message in [
        ("0,1,2,3,4,5", "header=False"),
        (",a,b,c,d,e", "index=False"),
        ("a,b,c", "each of the 6 columns"),
    ]:
        path.write_text("\n".join([first, *rows]))
        with pytest.raises(ValueError, match=message):
            load_dataset(Data(str(path)))


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="expected images"):
        load_dataset(Data(str(tmp_path)))


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
    assert (
        load_dataset(from_arrays(kind())).sha256 == load_dataset(from_arrays(PIXELS, label=np.arange(60) % 10)).sha256
    )


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
        (from_arrays({"x": X, "weight": X}), "label, context and mask"),
        (from_arrays(X * 2, encoding="dynamic"), r"intensities in \[0, 1\]"),
        (from_arrays(X - 1, encoding="static"), r"intensities in \[0, 1\]"),
        (from_arrays(PIXELS > 99, encoding="dynamic"), "0 or 1"),
        (from_arrays(X, num_validation=54), "below the 54"),
    ],
)
def test_faults_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(config)


def test_intensities_may_be_binarized():
    data = load_dataset(from_arrays(X, encoding="dynamic"))
    assert set(np.unique(data.evaluation_rows("train")["x"])) == {0.0, 1.0}
    np.testing.assert_allclose(
        np.mean(
            [
                load_dataset(from_arrays(X, encoding="dynamic", seed=s)).evaluation_rows("train")["x"].mean()
                for s in range(40)
            ]
        ),
        X[data.row_numbers["train"]].mean(),
        atol=4 * 0.5 / np.sqrt(40 * 48 * 6),
    )


def test_a_file_is_scanned_once_while_it_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, X)
    first = load_dataset(Data(str(path))).sha256
    with monkeypatch.context() as patch:
        patch.setattr(cache, "digest", lambda arrays: pytest.fail("scanned again"))
        assert load_dataset(Data(str(path))).sha256 == first
    (note,) = (cache.root() / "own").iterdir()
    for rubbish in ("{}", "[]", "", '{"stamp": null}', note.read_text().replace("low", "lowest")):
        note.write_text(rubbish)
        assert load_dataset(Data(str(path))).sha256 == first
    np.save(path, np.concatenate([X, X]))
    assert load_dataset(Data(str(path))).sha256 not in (first, "") and lookup.digest({"all/x": X}) == first
