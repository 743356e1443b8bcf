"""Decoder of binary vectors: text and npz forms of a set have one digest, and other values are refused."""

import shutil

import numpy as np
import pytest

from dgmzoo.data import catalogue, lookup

SPLITS = ("train", "valid", "test")


def libsvm_text(x: np.ndarray) -> str:
    """Lines `-1 id:1 ...`, ids from 1."""
    return "".join("-1 " + " ".join(f"{i + 1}:1" for i in np.flatnonzero(row)) + "\n" for row in x)


def amat_text(x: np.ndarray) -> str:
    """Blank-separated lines, whose last value is a target."""
    return "".join(" ".join(map(str, [*row, 0])) + "\n" for row in x)


def comma_text(x: np.ndarray) -> str:
    """Comma-separated lines."""
    return "".join(",".join(map(str, row)) + "\n" for row in x)


TEXT_OF_SET = {
    "connect4": libsvm_text,
    "dna": libsvm_text,
    "mushrooms": libsvm_text,
    "web": libsvm_text,
    "nips": amat_text,
    "rcv1": amat_text,
    "nltcs": comma_text,
}


@pytest.mark.parametrize("name", TEXT_OF_SET)
def test_text_and_npz_have_one_digest(name, folder, registered, random, empty_cache):
    size = catalogue()[name].shape[0]
    x = {split: random.integers(0, 2, (num, size)) for split, num in zip(SPLITS, (30, 9, 8), strict=True)}
    entry = registered(name, splits={split: len(rows) for split, rows in x.items()})
    for file, rows in zip(entry.alternatives[0], x.values(), strict=True):
        (folder(name) / file).write_text(TEXT_OF_SET[name](rows))
    arrays, digest = lookup.load_arrays(name)
    assert {row.tobytes() for row in arrays["valid/x"]} == {row.astype(np.uint8).tobytes() for row in x["valid"]}
    shutil.rmtree(empty_cache)
    np.savez(folder(name) / entry.files[0], **{split: random.permutation(rows) for split, rows in x.items()})
    assert lookup.load_arrays(name)[1] == digest


def test_other_ids_values_or_lines_are_refused(folder, registered):
    registered("web", splits={"train": 1, "valid": 1, "test": 1})
    for text, message in [
        ("+1 301:1\n", "ids 1 to 300"),
        ("+1 5:2\n", "of 0 and 1"),
        ("1 0\n", "table of numbers"),
    ]:
        for name in catalogue()["web"].alternatives[0]:
            (folder("web") / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            lookup.load_arrays("web")
