"""Decoders of the image sets, on generated files of the published form."""

import io
import shutil
import zipfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from dgmzoo.data import lookup


def test_caltech_silhouettes_are_upright_with_1_for_the_object(folder, registered, random):
    rows = {"train": 7, "val": 5, "test": 4}
    images = {stem: random.integers(0, 2, (num, 28, 28)) for stem, num in rows.items()}
    stored = {f"{stem}_labels": np.arange(1, num + 1.0)[:, None] for stem, num in rows.items()}
    for stem, x in images.items():
        stored[f"{stem}_data"] = (1 - x).transpose(0, 2, 1).reshape(-1, 784).astype(float)
    savemat(folder("caltech101_silhouettes") / "caltech101_silhouettes_28_split1.mat", stored)
    registered("caltech101_silhouettes", splits={"train": 7, "valid": 5, "test": 4})
    arrays, _ = lookup.load_arrays("caltech101_silhouettes")
    np.testing.assert_array_equal(arrays["valid/x"][..., 0], images["val"])
    assert arrays["test/label"].tolist() == [0, 1, 2, 3]


def test_freyfaces_are_the_columns_of_the_matrix(folder, registered, random):
    faces = random.integers(0, 256, (12, 28, 20)).astype(np.uint8)
    savemat(folder("freyfaces") / "frey_rawface.mat", {"ff": faces.reshape(12, 560).T})
    registered("freyfaces", splits={"all": 12})
    np.testing.assert_array_equal(lookup.load_arrays("freyfaces")[0]["all/x"][..., 0], faces)


def test_omniglot_images_of_burda_are_upright(folder, registered, random):
    images = {"data": random.random((9, 28, 28)), "testdata": random.random((4, 28, 28))}
    stored = {name: x.transpose(0, 2, 1).reshape(-1, 784).T for name, x in images.items()}
    savemat(folder("omniglot") / "chardata.mat", stored)
    registered("omniglot", splits={"train": 9, "test": 4})
    arrays, _ = lookup.load_arrays("omniglot")
    np.testing.assert_allclose(arrays["test/x"][..., 0], images["testdata"], rtol=1e-6)


def test_omniglot_of_lake_has_one_digest_from_npz_and_from_png(folder, registered, random, empty_cache):
    white = {
        "background": random.random((3, 20, 105, 105)) > 0.1,
        "evaluation": random.random((2, 20, 105, 105)) > 0.1,
    }
    for part, x in white.items():
        np.savez(folder("omniglot_lake") / f"images_{part}.npz", images=x, labels=np.zeros(x.shape[:2], int))
    registered("omniglot_lake", splits={"train": 60, "test": 40})
    arrays, digest = lookup.load_arrays("omniglot_lake")
    np.testing.assert_array_equal(arrays["train/x"][..., 0], ~white["background"].reshape(60, 105, 105))
    assert arrays["test/label"].tolist() == [3] * 20 + [4] * 20
    shutil.rmtree(empty_cache)
    for part, x in white.items():
        (folder("omniglot_lake") / f"images_{part}.npz").unlink()
        with zipfile.ZipFile(folder("omniglot_lake") / f"images_{part}.zip", "w") as archive:
            for character, drawing in np.ndindex(*x.shape[:2]):
                out = io.BytesIO()
                Image.fromarray(x[character, drawing]).save(out, "PNG")
                name = f"images/Greek/character{character:02}/{character:04}_{drawing:02}.png"
                archive.writestr(name, out.getvalue())
    assert lookup.load_arrays("omniglot_lake")[1] == digest


def test_cifar10_planes_become_channels(folder, registered, random):
    images = random.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    labels = random.integers(0, 10, 12).astype(np.uint8)
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(12, -1)], 1)
    entry = registered("cifar10", splits={"train": 10, "test": 2})
    for name, part in zip(entry.files, np.split(records, 6), strict=True):
        (folder("cifar10") / name).write_bytes(part.tobytes())
    arrays, _ = lookup.load_arrays("cifar10")
    np.testing.assert_array_equal(arrays["train/x"], images[:10])
    np.testing.assert_array_equal(arrays["test/label"], labels[10:])
