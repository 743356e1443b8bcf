"""Decodes the image data sets, such as MNIST, Omniglot and CIFAR-10, from their published files.

The decoder of a set returns `{"train/x": [N, H, W, C], "train/label": int32 [N], ...}`.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.readers import files, mat, text_table

Arrays = dict[str, np.ndarray]
Paths = Mapping[str, Path]
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""Formats that are read, whatever the name of a file is: Pillow starts other programs for some others."""
_TIFF_BITS_PER_SAMPLE = 258
"""Number of the TIFF tag."""


def digits(paths: Paths, entry: Entry) -> Arrays:
    """Decode scikit-learn's table of 64 gray levels and the class."""
    _, values = text_table.read_table(paths["digits.csv"], limit=entry.max_bytes)
    if values.shape[1] != 65 or values.min() < 0 or values.max() > 16:
        raise ValueError(f"expected 64 values 0 to 16 and a class a line, got {values.shape} in {paths['digits.csv']}")
    return {
        "all/x": values[:, :64].reshape(-1, 8, 8, 1).astype(np.uint8),
        "all/label": values[:, 64].astype(np.int32),
    }


def mnist(paths: Paths, entry: Entry) -> Arrays:
    """Decode MNIST and sets of its format: four idx files, or Keras' npz."""
    if "mnist.npz" in paths:
        members = files.read_npz(paths["mnist.npz"], 1 << 27)
        name_of_key = {"train/x": "x_train", "train/label": "y_train", "test/x": "x_test", "test/label": "y_test"}
        if missing := set(name_of_key.values()) - set(members):
            raise ValueError(f"expected {', '.join(sorted(missing))} in {paths['mnist.npz']}, got {', '.join(members)}")
        arrays = {key: members[name] for key, name in name_of_key.items()}
    else:
        arrays = {
            f"{split}/{field}": files.read_idx(paths[f"{stem}-{end}"], 1 << 27)
            for split, stem in (("train", "train"), ("test", "t10k"))
            for field, end in (("x", "images-idx3-ubyte"), ("label", "labels-idx1-ubyte"))
        }
    return {key: a.astype(np.int32) if key.endswith("label") else a[..., None] for key, a in arrays.items()}


def binarized_mnist(paths: Paths, entry: Entry) -> Arrays:
    """Decode Larochelle's binarization of MNIST: three text files."""
    return {
        f"{split}/x": files.read_amat(paths[f"binarized_mnist_{split}.amat"], 784, rows).reshape(-1, 28, 28, 1)
        for split, rows in entry.splits.items()
    }


def caltech101_silhouettes(paths: Paths, entry: Entry) -> Arrays:
    """Decode Marlin's file, which stores images by columns with 1 = background, to upright images with 1 = object."""
    path = paths[entry.files[0]]
    stems = {"train": "train", "valid": "val", "test": "test"}
    matrices = mat.read_matrices(
        path, [f"{stem}_{field}" for stem in stems.values() for field in ("data", "labels")], 1 << 27
    )
    arrays = {}
    for split, stem in stems.items():
        x, label = matrices[f"{stem}_data"], matrices[f"{stem}_labels"]
        if x.ndim != 2 or x.shape[1] != 784 or not np.isin(x, (0, 1)).all() or label.size != len(x):
            raise ValueError(f"expected {stem}_data [N, 784] of 0 and 1 with labels, got {x.dtype} {x.shape} in {path}")
        arrays[f"{split}/x"] = (1 - x.astype(np.uint8)).reshape(-1, 28, 28).transpose(0, 2, 1)[..., None].copy()
        arrays[f"{split}/label"] = label.ravel().astype(np.int32) - 1
    return arrays


def freyfaces(paths: Paths, entry: Entry) -> Arrays:
    """Decode Roweis' file: each column is an image of 28 rows and 20 columns."""
    x = mat.read_matrices(paths[entry.files[0]], ["ff"], 1 << 24)["ff"]
    if x.shape[0] != 560 or x.dtype != np.uint8:
        raise ValueError(f"expected ff uint8 [560, N], got {x.dtype} {x.shape} in {paths[entry.files[0]]}")
    return {"all/x": np.ascontiguousarray(x.T).reshape(-1, 28, 20, 1)}


def omniglot(paths: Paths, entry: Entry) -> Arrays:
    """Decode Burda's file: each column is an image of 28x28 gray levels in [0, 1], stored by columns."""
    matrices = mat.read_matrices(paths[entry.files[0]], ["data", "testdata"], 1 << 29)
    arrays = {}
    for split, name in (("train", "data"), ("test", "testdata")):
        x = matrices[name]
        if x.ndim != 2 or x.shape[0] != 784 or not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"expected {name} [784, N] in [0, 1], got {x.dtype} {x.shape} in {paths[entry.files[0]]}")
        x = x.T.reshape(-1, 28, 28).transpose(0, 2, 1)[..., None]
        arrays[f"{split}/x"] = np.ascontiguousarray(x, np.float32)
    return arrays


def omniglot_lake(paths: Paths, entry: Entry) -> Arrays:
    """Decode Lake's characters at 105x105, 1 = ink: background as train, evaluation (new characters) as test."""
    arrays, start = {}, 0
    for split, stem in (("train", "images_background"), ("test", "images_evaluation")):
        if f"{stem}.npz" in paths:
            white = files.read_npz(paths[f"{stem}.npz"], 1 << 28).get("images")
            if white is None or white.ndim < 2 or white.shape[-2:] != (105, 105) or white.size % (20 * 105 * 105):
                raise ValueError(f"expected images [characters, 20, 105, 105] in {paths[f'{stem}.npz']}")
            white = white.reshape(-1, 20, 105, 105)
        else:
            white = _read_characters(paths[f"{stem}.zip"])
        arrays[f"{split}/x"] = (~white.astype(bool)).astype(np.uint8).reshape(-1, 105, 105, 1)
        arrays[f"{split}/label"] = np.repeat(np.arange(start, start + len(white), dtype=np.int32), 20)
        start += len(white)
    return arrays


def _read_characters(path: Path) -> np.ndarray:
    """Read Lake's zip of PNG files in order of their names: bool [characters, 20, 105, 105], True = white."""
    with files.reporting_damage(path, "zip file"):
        images = {
            name: decode_image(stream.read(), 1 << 20, name)
            for name, stream, _ in files.zip_members(path, 1 << 28, ".png")
        }
    stacked = [images[name][..., 0] > 127 for name in sorted(images)]
    if not stacked or len(stacked) % 20 or {image.shape for image in stacked} != {(105, 105)}:
        raise ValueError(f"expected 20 images of 105x105 a character, got {len(stacked)} in {path}")
    return np.stack(stacked).reshape(-1, 20, 105, 105)


def decode_image(data: bytes, limit: int, what: str) -> np.ndarray:
    """Decode an image file (png, jpeg, webp, ...) to uint8 [H, W, 1 or 3], upright by its EXIF orientation.

    Args:
      limit: largest number of pixels.
      what: name of the file, for messages.

    Raises:
      ValueError: another format, damaged, too large, several pages or frames, more than 8 bits a value, or transparent
        pixels.

    >>> from PIL import Image
    >>> stream = io.BytesIO()
    >>> Image.new("L", (4, 2)).save(stream, "PNG")
    >>> decode_image(stream.getvalue(), 100, "a.png").shape
    (2, 4, 1)
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > limit:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {limit}")
            if (bits := _bits_per_value(image, data)) > 8:
                raise ValueError(f"its values have {bits} bits, more than 8 bits; save 8-bit images, or all as a .npy")
            # A JPEG of the kind MPO is a photograph with previews of its own behind it.
            if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
                raise ValueError(f"it has {frames} pages or frames; save each as a file")
            if "A" in image.getbands() or "transparency" in image.info:
                if image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
                    raise ValueError("it has transparent pixels; save it over a background")
            upright = ImageOps.exif_transpose(image)
            array = np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA") else "RGB"))
    except UnidentifiedImageError as error:  # its own message holds an address in memory
        raise ValueError(f"expected an image, got {what}: it is damaged, or of a format that is not read") from error
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise ValueError(f"expected an image, got {what}: {error}") from error
    return array.reshape(*array.shape[:2], -1)


def _bits_per_value(image: Any, data: bytes) -> int:
    """Bits of a value by the file's header, since Pillow opens 16-bit colours as 8-bit ones."""
    if image.format == "PNG":
        return data[24]  # the signature (8), length and name of the first chunk (8), width, height (8)
    if image.format == "TIFF":
        return max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,)))
    return 16 if image.mode[0] in "IF" else 8


def cifar10(paths: Paths, entry: Entry) -> Arrays:
    """Decode the binary version of CIFAR-10: records of a label byte and 3 planes of 32x32."""
    arrays = {}
    for split, names in (("train", entry.files[:5]), ("test", entry.files[5:])):
        parts = [np.frombuffer(files.read_unpacked(paths[name], 1 << 26), np.uint8) for name in names]
        if any(len(part) % 3073 for part in parts):
            raise ValueError(
                f"expected records of 3073 bytes, got {[len(part) for part in parts]} bytes in {list(names)}"
            )
        records = np.concatenate(parts).reshape(-1, 3073)
        arrays[f"{split}/x"] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy()
        arrays[f"{split}/label"] = records[:, 0].astype(np.int32)
    return arrays
