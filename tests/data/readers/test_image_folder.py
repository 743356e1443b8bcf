"""Folders of images: hidden files, spellings of splits, depth, pages, orientation."""

import numpy as np
import pytest
from PIL import Image

from dgmzoo.data import Data, load_dataset
from dgmzoo.data.readers import files
from tests.data.readers.test_files import npy_bytes, zip_bytes
from tests.support import file_writers

random = np.random.default_rng(0)
PIXELS = random.integers(0, 256, (60, 5, 7)).astype(np.uint8)


def save_images(folder, numbers=range(9)) -> None:
    """Save gray images."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(PIXELS[number]).save(folder / f"{number:02}.png")


@pytest.fixture
def pets(tmp_path):
    """Path of a folder."""
    return tmp_path / "pets"


def test_f14_hidden_files_and_folders_are_left_out(pets):
    for animal, numbers in (("cat", range(9)), ("dog", range(9, 20))):
        save_images(pets / animal, numbers)
        save_images(pets / animal / ".ipynb_checkpoints", numbers)
        (pets / animal / "._00.png").write_bytes(b"\0\5\x16\7")
    save_images(pets / "__MACOSX" / "cat")
    save_images(pets / ".thumbnails")
    save_images(pets / "dog" / "@eaDir")
    data = load_dataset(Data(str(pets)))
    assert data.num_classes == 2 and sum(len(rows["x"]) for rows in data.splits.values()) == 20


def test_f14_folder_of_images_may_lie_in_a_hidden_folder(tmp_path):
    save_images(tmp_path / ".cache" / "pets")
    assert load_dataset(Data(str(tmp_path / ".cache" / "pets"))).shape == (5, 7, 1)


def test_f14_members_of_an_archive_that_macos_adds_are_left_out(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(zip_bytes({"x.npy": npy_bytes(PIXELS), "__MACOSX/._x.npy": b"\0\5\x16\7", ".DS_Store": b"1"}))
    assert list(files.read_npz(path)) == ["x"]


@pytest.mark.parametrize("suffix", [".heic", ".AVIF", ".ppm"])
def test_f14_images_of_formats_that_are_not_read_are_named(suffix, pets):
    save_images(pets)
    (pets / f"more{suffix}").write_bytes(b"1")
    with pytest.raises(ValueError, match=rf"got .*more\{suffix} .*convert them"):
        load_dataset(Data(str(pets)))


@pytest.mark.parametrize(
    "names", [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRAIN", "dev", "Testing")]
)
def test_f15_splits_are_known_by_their_usual_names(names, pets):
    for name, numbers in zip(names, (range(9), range(9, 12), range(12, 20)), strict=True):
        save_images(pets / name, numbers)
    data = load_dataset(Data(str(pets)))
    assert {split: len(rows["x"]) for split, rows in data.splits.items()} == {"train": 9, "valid": 3, "test": 8}
    assert data.num_classes is None


def test_f15_splits_of_an_archive_are_known_by_their_usual_names(tmp_path):
    np.savez(
        tmp_path / "x.npz", Train=PIXELS[:30], Train_label=np.arange(30) % 2, val=PIXELS[30:40], testing=PIXELS[40:]
    )
    data = load_dataset(Data(str(tmp_path / "x.npz")))
    assert set(data.splits) == {"train", "valid", "test"} and data.num_classes == 2
    np.savez(tmp_path / "y.npz", train=PIXELS[:30], training=PIXELS[:30], test=PIXELS[30:])
    with pytest.raises(ValueError, match="expected either x or train"):
        load_dataset(Data(str(tmp_path / "y.npz")))


@pytest.mark.parametrize(
    "folders",
    [
        ("train_images", "test_images"),
        ("X-train", "X-test"),
        ("train2017", "test2017"),
        ("trainA", "testA"),
        ("cat/train", "cat/test", "dog/train", "dog/test"),
    ],
)
def test_f15_folders_named_like_splits_are_not_taken_for_classes(folders, pets):
    for number, folder in enumerate(folders):
        save_images(pets / folder, range(9 * number, 9 * number + 9))
    with pytest.raises(ValueError, match="would become classes"):
        load_dataset(Data(str(pets)))


def test_f15_splits_below_one_folder_are_found(pets):
    for split, numbers in (("train", range(9)), ("test", range(9, 20))):
        save_images(pets / "images" / split / "cat", numbers)
    data = load_dataset(Data(str(pets)))
    assert {split: len(rows["x"]) for split, rows in data.splits.items()} == {"train": 9, "test": 11}


def test_f15_two_folders_of_one_split_are_refused(pets):
    for name in ("train", "Training", "test"):
        save_images(pets / name)
    with pytest.raises(ValueError, match="one folder of train images, got Training, train"):
        load_dataset(Data(str(pets)))


def test_f15_class_with_a_name_like_a_split_stays_a_class(pets):
    for name in ("test tube", "flask"):
        save_images(pets / name)
    assert load_dataset(Data(str(pets))).num_classes == 2


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_f7_png_of_16_bits_is_refused_by_its_header(channels, pets):
    pets.mkdir()
    (pets / "a.png").write_bytes(file_writers.png16_bytes(random.integers(0, 4096, (5, 7, channels)).astype(np.uint16)))
    with Image.open(pets / "a.png") as image:
        assert image.mode[0] not in "IF"  # Pillow would cut it to 8 bits
    with pytest.raises(ValueError, match=r"a\.png: its values have 16 bits"):
        load_dataset(Data(str(pets)))


def test_f7_tiff_of_16_bits_is_refused(pets):
    pets.mkdir()
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(pets / "a.tif")
    with pytest.raises(ValueError, match="16 bits"):
        load_dataset(Data(str(pets)))
    (pets / "a.tif").write_bytes(file_writers.tiff16_bytes(random.integers(0, 4096, (5, 7, 3)).astype(np.uint16)))
    with pytest.raises(ValueError, match=r"a\.tif: its values have 16 bits"):
        load_dataset(Data(str(pets)))


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_f16_several_pages_or_frames_are_refused(suffix, pets):
    pets.mkdir()
    frames = [Image.fromarray(image) for image in PIXELS[:3]]
    frames[0].save(pets / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=rf"a\.{suffix}: it has 3 pages or frames"):
        load_dataset(Data(str(pets)))
    frames[0].save(pets / f"a.{suffix}")
    with pytest.raises(ValueError, match="at least 3 rows"):
        load_dataset(Data(str(pets)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(("orientation", "turned"), [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))])
def test_f17_orientation_of_a_camera_is_applied(orientation, turned, suffix, pets):
    pets.mkdir()
    x = np.zeros((16, 24), np.uint8)
    x[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(3):
        Image.fromarray(x).save(pets / f"{number}.{suffix}", exif=exif)
    data = load_dataset(Data(str(pets)))
    image = data.splits["train"]["x"][0, ..., 0]
    assert image.shape == turned(x).shape
    np.testing.assert_array_equal(image > 127, turned(x) > 127)


def test_f50_suffixes_of_images_may_be_in_capitals(pets):
    pets.mkdir()
    for number in range(9):
        Image.fromarray(PIXELS[number]).save(pets / f"{number}.PNG", format="PNG")
    assert load_dataset(Data(str(pets))).shape == (5, 7, 1)
