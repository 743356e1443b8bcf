"""`read_arrays`: read a user's .npy, .npz, .csv or image folder into a dict of arrays with keys "split/field"."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.readers import files
from dgmzoo.data.readers.images import decode_image

Arrays = dict[str, np.ndarray]
_SPLITS = ("train", "valid", "test")
_OTHER_FIELDS = ("label", "context", "mask")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def read_arrays(path: Path) -> Arrays:
    """Read a file or folder as `split/field` -> values, with the split `all` where there are none.

    Raises:
      ValueError: another kind of file, or one that is damaged; says which are expected.
    """
    if path.is_dir():
        return _read_image_folder(path)
    if not path.is_file():
        raise ValueError(f"expected a file or a folder, got {path}, which is a pipe, a socket or a device")
    if path.suffix == ".npy":
        return {"all/x": files.read_npy(path)}
    if path.suffix == ".npz":
        limit = max(1 << 30, 100 * path.stat().st_size)  # a .npy, which is mapped, may be of any size
        return _rename_members(files.read_npz(path, limit), str(path))
    if path.suffix == ".csv":
        return _read_table(path)
    raise ValueError(f"expected a .npy, .npz, .csv or a folder of images, got {path}")


def _read_table(path: Path) -> Arrays:
    """The columns of a table as `all/x`, and a column named `label` as `all/label`."""
    names, x = files.read_table(path)
    if names and ("" in names or len(names) != x.shape[1]):
        raise ValueError(
            f"expected a name for each of the {x.shape[1]} columns, got {', '.join(map(repr, names))} in {path}; pandas "
            f"writes its index without one: use index=False"
        )
    if not names and x.shape[1] > 2 and np.array_equal(x[0], np.arange(x.shape[1])):
        raise ValueError(
            f"expected rows or names of columns, got 0, 1, 2, ... in the first line of {path}, which pandas writes for "
            f"columns without names: use header=False, or name them"
        )
    arrays = {}
    if "label" in names:
        label, x = x[:, names.index("label")], np.delete(x, names.index("label"), 1)
        arrays["all/label"] = label.astype(np.int64) if np.array_equal(label, np.rint(label)) else label
    return {"all/x": x.astype(np.uint8 if np.isin(x, (0, 1)).all() else np.float32), **arrays}


def _rename_members(members: Mapping[str, np.ndarray], what: str) -> Arrays:
    """Members `x`, or `train`, `valid`, `test`, with `label` or `train_label` (`context`, `mask`), as `split/field`."""
    key_of_member = {"x": "all/x"} | {field: f"all/{field}" for field in _OTHER_FIELDS}
    for split in _SPLITS:
        key_of_member |= {split: f"{split}/x"} | {f"{split}_{field}": f"{split}/{field}" for field in _OTHER_FIELDS}
    if not set(members) <= set(key_of_member) or ("x" in members) == ("train" in members):
        raise ValueError(
            f"expected either x or train (with valid, test) in {what}, and labels as label or train_label, "
            f"got {', '.join(sorted(members)) or 'nothing'}"
        )
    return {key_of_member[member]: array for member, array in members.items()}


def _read_image_folder(path: Path) -> Arrays:
    """Images of one size: folders `train`, `valid`, `test` are splits, other folders (inside these or not) classes."""
    image_paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGE_SUFFIXES and p.is_file())
    parts = [p.relative_to(path).parts for p in image_paths]
    split_of_image = [part[0] if part[0] in _SPLITS else "all" for part in parts]
    if not image_paths or ("all" in split_of_image and len(set(split_of_image)) > 1):
        raise ValueError(
            f"expected images in {path}, in folders train, valid, test or in none, got {len(image_paths)} in total"
        )
    class_of_image = ["/".join(part[split != "all" : -1]) for part, split in zip(parts, split_of_image, strict=True)]
    classes = sorted(set(class_of_image))
    images, total_bytes = [], 0
    for image_path in image_paths:
        if (size := image_path.stat().st_size) > 1 << 28:
            raise ValueError(f"expected an image, got {size} bytes at {image_path}")
        images.append(decode_image(image_path.read_bytes(), 1 << 24, str(image_path)))
        total_bytes += images[-1].nbytes
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f"expected every image to be {images[0].shape}, got {images[-1].shape} at {image_path}; resize them"
            )
        if total_bytes > files.LIMIT:
            raise ValueError(
                f"expected images of at most {files.LIMIT} bytes in total, got more in {path}; save a .npy"
            )
    arrays: Arrays = {}
    for split in dict.fromkeys(split_of_image):
        rows = [row for row, split_of_row in enumerate(split_of_image) if split_of_row == split]
        arrays[f"{split}/x"] = np.stack([images[row] for row in rows])
        if len(classes) > 1:
            arrays[f"{split}/label"] = np.array([classes.index(class_of_image[row]) for row in rows], np.int32)
    return arrays
