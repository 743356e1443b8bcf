"""`read_image_folder`: a folder of images of one size; its folders are splits and classes."""

from collections import Counter
from pathlib import Path

import numpy as np

from dgmzoo.data.readers import files
from dgmzoo.data.readers.images import decode_image
from dgmzoo.data.readers.splits import split_in_name, split_of_name

Arrays = dict[str, np.ndarray]
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".svg", ".jfif", ".dcm")
"""Images that are not read: to leave them out silently would change the data."""


def read_image_folder(path: Path) -> Arrays:
    """Read the images of a folder as `split/x` uint8 [N, H, W, C], and their classes as `split/label`.

    Folders `train`, `valid`, `test` (in any case; also training, val, validation, dev, testing) are splits, other folders
    (inside these or not) are classes. Hidden files and folders are left out.

    Raises:
      ValueError: no images, images of different sizes or of other formats, or folders that may be splits or classes.
    """
    image_paths = _find_images(path)
    parts = _inner_parts([p.relative_to(path).parts for p in image_paths])
    split_of_image = [(split_of_name(part[0]) if len(part) > 1 else None) or "all" for part in parts]
    if not image_paths or ("all" in split_of_image and len(set(split_of_image)) > 1):
        counts = ", ".join(f"{count} in {split}" for split, count in Counter(split_of_image).items()) or "none"
        raise ValueError(
            f"expected images in {path}, in folders train, valid, test or in none, got {len(image_paths)} in total "
            f"({counts.replace('all', 'no split')})"
        )
    _check_splits(parts, split_of_image, path)
    class_of_image = ["/".join(part[split != "all" : -1]) for part, split in zip(parts, split_of_image, strict=True)]
    images = _decode(image_paths, path)
    classes = sorted(set(class_of_image))
    arrays: Arrays = {}
    for split in dict.fromkeys(split_of_image):
        rows = [row for row, split_of_row in enumerate(split_of_image) if split_of_row == split]
        arrays[f"{split}/x"] = np.stack([images[row] for row in rows])
        if len(classes) > 1:
            arrays[f"{split}/label"] = np.array([classes.index(class_of_image[row]) for row in rows], np.int32)
    return arrays


def _find_images(path: Path) -> list[Path]:
    """The image files below a folder, sorted; files and folders that are hidden are left out."""
    visible = sorted(p for p in path.rglob("*") if not files.is_hidden(p.relative_to(path)) and p.is_file())
    if other := [p for p in visible if p.suffix.lower() in _OTHER_SUFFIXES]:
        raise ValueError(
            f"expected images as {', '.join(suffix[1:] for suffix in _SUFFIXES)}, got {other[0]} ({len(other)} of other "
            f"formats); convert them, or move them out of {path}"
        )
    return [p for p in visible if p.suffix.lower() in _SUFFIXES]


def _inner_parts(parts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The parts of paths below the folder that holds all images, unless that folder is a split."""
    while parts and all(len(part) > 1 and part[0] == parts[0][0] for part in parts) and not split_of_name(parts[0][0]):
        parts = [part[1:] for part in parts]
    return parts


def _check_splits(parts: list[tuple[str, ...]], split_of_image: list[str], path: Path) -> None:
    """Refuse folders whose names are those of splits in another spelling or place, and two folders of one split."""
    folders_of_split: dict[str, set[str]] = {}
    for part, split in zip(parts, split_of_image, strict=True):
        if split != "all":
            folders_of_split.setdefault(split, set()).add(part[0])
    for split, folders in folders_of_split.items():
        if len(folders) > 1:
            raise ValueError(
                f"expected one folder of {split} images, got {', '.join(sorted(folders))} in {path}; join them"
            )
    if "all" in split_of_image:
        folders = {folder for part in parts for folder in part[:-1]}
        split_of_folder = {folder: split for folder in sorted(folders) if (split := split_in_name(folder))}
        if len(set(split_of_folder.values())) > 1:
            raise ValueError(
                f"expected folders train, valid, test directly in {path}, got {', '.join(split_of_folder)}, which would "
                f"become classes; rename or move them, also a class of that name"
            )


def _decode(image_paths: list[Path], path: Path) -> list[np.ndarray]:
    """The images [H, W, C], which must have one shape."""
    images, total_bytes = [], 0
    for image_path in image_paths:
        if (size := image_path.stat().st_size) > 1 << 28:
            raise ValueError(f"expected an image, got {size} bytes at {image_path}")
        images.append(decode_image(image_path.read_bytes(), 1 << 24, str(image_path)))
        total_bytes += images[-1].nbytes
        if images[-1].shape != images[0].shape:
            is_colour = images[-1].shape[:2] == images[0].shape[:2]
            advice = "convert them all to grey, or all to colour" if is_colour else "resize them"
            raise ValueError(
                f"expected every image to be {images[0].shape} (height, width, channels) like {image_paths[0].name}, got "
                f"{images[-1].shape} at {image_path}; {advice}"
            )
        if total_bytes > files.LIMIT:
            raise ValueError(
                f"expected images of at most {files.LIMIT} bytes in total, got more in {path}; save a .npy"
            )
    return images
