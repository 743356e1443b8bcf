"""Decoders of the image sets: files to arrays `{"train/x": uint8 [N, H, W, C], "train/label": int32 [N], ...}`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data import files

Arrays = dict[str, np.ndarray]


def digits(paths: Mapping[str, Path]) -> Arrays:
    """scikit-learn's 8x8 digits: 1797 rows of 17 gray levels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images.astype(np.uint8)[..., None]
    return {"all/x": x, "all/label": bunch.target.astype(np.int32)}


def mnist(paths: Mapping[str, Path]) -> Arrays:
    """MNIST and its kin: four idx files, or Keras' npz."""
    if "mnist.npz" in paths:
        raw = files.npz(paths["mnist.npz"], 1 << 27)
        named = {"train/x": "x_train", "train/label": "y_train", "test/x": "x_test", "test/label": "y_test"}
        if missing := set(named.values()) - set(raw):
            raise ValueError(
                f"expected {', '.join(sorted(missing))} in {paths['mnist.npz']}, got {', '.join(raw)}"
            )
        raw = {key: raw[name] for key, name in named.items()}
    else:
        raw = {
            f"{split}/{field}": files.idx(paths[f"{stem}-{end}"])
            for split, stem in (("train", "train"), ("test", "t10k"))
            for field, end in (("x", "images-idx3-ubyte"), ("label", "labels-idx1-ubyte"))
        }
    return {key: a.astype(np.int32) if key.endswith("label") else a[..., None] for key, a in raw.items()}


def binarized_mnist(paths: Mapping[str, Path]) -> Arrays:
    """Larochelle's binarization: three text files."""
    return {
        f"{split}/x": files.amat(paths[f"binarized_mnist_{split}.amat"], 784).reshape(-1, 28, 28, 1)
        for split in ("train", "valid", "test")
    }
