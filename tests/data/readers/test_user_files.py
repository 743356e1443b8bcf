"""A user's files: `.npy`, `.npz`, tables and folders of images, and the files that are refused."""

import os

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from dgmzoo.data import Data, from_arrays, load_dataset
from dgmzoo.data.readers.user_files import read_arrays

random = np.random.default_rng(0)
X = random.random((60, 6)).astype(np.float32)
PIXELS = random.integers(0, 256, (60, 5, 7)).astype(np.uint8)


def save_images(folder) -> None:
    """Save nine gray images."""
    folder.mkdir(parents=True)
    for number, image in enumerate(PIXELS[:9]):
        Image.fromarray(image).save(folder / f"{number}.png")


def test_npy_is_mapped_and_split_by_the_seed(tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    data = load_dataset(Data(str(tmp_path / "x.npy"), encoding="dynamic"))
    assert data.shape == (5, 7, 1) and [len(rows["x"]) for rows in data.splits.values()] == [48, 6, 6]
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[data.row_numbers["test"]])
    assert load_dataset(Data(str(tmp_path / "x.npy"))).encoding == "gray"


def test_npz_may_have_splits_and_labels(tmp_path):
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


def test_table_has_real_or_binary_columns(tmp_path):
    np.savetxt(tmp_path / "t.csv", X, delimiter=",", header="a,b,c,d,e,f", comments="")
    data = load_dataset(Data(str(tmp_path / "t.csv")))
    np.testing.assert_allclose(data.splits["train"]["x"], X[data.row_numbers["train"]], rtol=1e-6)
    (tmp_path / "b.csv").write_text("\n".join("0,1,1" if row % 2 else "1,0,0" for row in range(30)))
    assert load_dataset(Data(str(tmp_path / "b.csv"))).entry.maximum == 1


def test_tables_of_other_programs_are_read_or_refused(tmp_path):
    path = tmp_path / "t.csv"
    rows = [",".join(map(str, row)) for row in X]
    expected = load_dataset(from_arrays(np.array([row.split(",") for row in rows], np.float32))).sha256
    path.write_text("\n".join(rows), "utf-8-sig")
    assert load_dataset(Data(str(path))).sha256 == expected
    path.write_text("\n".join(['"a, b",c,d,e,f,g', *(row.replace(",", '","').join('""') for row in rows)]))
    assert load_dataset(Data(str(path))).sha256 == expected
    cells = [row.split(",") for row in rows]
    labelled = [",".join([*row[:2], str(number % 4), *row[2:]]) for number, row in enumerate(cells)]
    path.write_text("\n".join(["a,b,label,c,d,e,f", *labelled]))
    data = load_dataset(Data(str(path)))
    assert data.shape == (6,) and data.num_classes == 4
    np.testing.assert_array_equal(data.splits["test"]["label"], data.row_numbers["test"] % 4)
    for first_line, message in [
        ("0,1,2,3,4,5", "header=False"),
        (",a,b,c,d,e", "index=False"),
        ("a,b,c", "each of the 6 columns"),
    ]:
        path.write_text("\n".join([first_line, *rows]))
        with pytest.raises(ValueError, match=message):
            load_dataset(Data(str(path)))


def test_image_folders_are_splits_and_classes(tmp_path):
    for number, (split, animal) in enumerate([("train", "cat"), ("train", "dog"), ("test", "dog")] * 4):
        folder = tmp_path / "pets" / split / animal
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[number]).save(folder / f"{number:02}.png")
    data = load_dataset(Data(str(tmp_path / "pets")))
    assert {split: len(rows["x"]) for split, rows in data.splits.items()} == {"train": 8, "test": 4}
    assert data.splits["train"]["label"].tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(data.splits["test"]["x"][..., 0], PIXELS[[2, 5, 8, 11]])
    Image.new("RGB", (4, 4)).save(tmp_path / "pets" / "train" / "cat" / "odd.webp")
    with pytest.raises(ValueError, match="resize"):
        load_dataset(Data(str(tmp_path / "pets")))


def test_train_rows_alone_are_split_like_rows_without_a_split(tmp_path):
    np.savez(tmp_path / "a.npz", train=PIXELS, train_label=np.arange(60) % 4)
    data = load_dataset(Data(str(tmp_path / "a.npz")))
    assert {split: len(rows["x"]) for split, rows in data.splits.items()} == {"train": 48, "valid": 6, "test": 6}
    assert data.sha256 == load_dataset(from_arrays(PIXELS, label=np.arange(60) % 4)).sha256
    save_images(tmp_path / "pets" / "train" / "cat")
    assert set(load_dataset(Data(str(tmp_path / "pets"))).splits) == {"train", "valid", "test"}


@pytest.mark.parametrize("splits", [("train", "valid"), ("valid",), ("valid", "test"), ("test",)])
def test_data_without_train_or_test_rows_are_refused(splits, tmp_path):
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
def test_images_of_16_bits_or_with_transparency_are_refused(image, message, tmp_path):
    (tmp_path / "pets").mkdir()
    image.save(tmp_path / "pets" / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png: .*{message}"):
        load_dataset(Data(str(tmp_path / "pets")))


def test_opaque_alpha_channel_is_dropped(tmp_path):
    (tmp_path / "pets").mkdir()
    for number, gray in enumerate(PIXELS[:9]):
        rgba = np.dstack([gray] * 3 + [np.full_like(gray, 255)])
        Image.fromarray(rgba).save(tmp_path / "pets" / f"{number}.png")
    data = load_dataset(Data(str(tmp_path / "pets")))
    images = np.concatenate([rows["x"] for rows in data.splits.values()])
    np.testing.assert_array_equal(np.sort(images, 0), np.sort(np.stack([PIXELS[:9]] * 3, -1), 0))


def test_postscript_named_png_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("was run"))
    (tmp_path / "pets").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "pets" / "a.png", "EPS")
    with pytest.raises(ValueError, match=r"expected an image, got .*a\.png"):
        load_dataset(Data(str(tmp_path / "pets")))


@pytest.mark.usefixtures("bounded_memory_and_time")
def test_image_of_too_many_pixels_or_damaged_is_refused(tmp_path):
    (tmp_path / "faces").mkdir()
    Image.new("1", (9000, 9000)).save(tmp_path / "faces" / "a.png")
    with pytest.raises(ValueError, match=r"9000x9000 pixels are more than .*"):
        load_dataset(Data(str(tmp_path / "faces")))
    (tmp_path / "faces" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(ValueError, match=r"expected an image, got .*a\.png"):
        load_dataset(Data(str(tmp_path / "faces")))


def test_pipe_is_refused_and_a_folder_may_have_any_name(tmp_path):
    os.mkfifo(tmp_path / "p.npy")
    with pytest.raises(ValueError, match="is a pipe"):
        load_dataset(Data(str(tmp_path / "p.npy")))
    save_images(tmp_path / "d.npz")
    assert load_dataset(Data(str(tmp_path / "d.npz"))).shape == (5, 7, 1)


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected images"):
        load_dataset(Data(str(tmp_path)))


@pytest.mark.parametrize(
    "text, encoding, answer",
    [
        ("", "utf-8", "got .*mine.csv: it has no rows"),
        ("a;b\n1,5;2,5\n", "utf-8", r"'1,5' \(row 1, column 1\) has a decimal comma; write decimal points"),
        ("größe,b\n1,2\n", "latin-1", "byte 2 is not UTF-8; save it in that encoding"),
        ("a,kind\n1,2\n1,setosa\n", "utf-8", r"'setosa' \(row 2, column 2\) is not a number; .* column named `label`"),
        ("id,a\n1,0.3\n2,0.1\n3,0.2\n", "utf-8", "got 'id' in .*, which numbers the rows; remove it"),
        ("Unnamed: 0,a\n0,0.3\n1,0.1\n", "utf-8", "which numbers the rows"),
    ],
)
def test_f50_a_refused_table_says_what_to_do(tmp_path, text, encoding, answer):
    (tmp_path / "mine.csv").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=answer):
        read_arrays(tmp_path / "mine.csv")


def test_f50_a_label_column_is_found_without_case_and_ids_that_do_not_count_stay(tmp_path):
    (tmp_path / "mine.csv").write_text("id,Label\n5,1\n3,0\n")
    content = read_arrays(tmp_path / "mine.csv")
    assert content.arrays["all/label"].tolist() == [1, 0] and content.arrays["all/x"].ravel().tolist() == [5, 3]
