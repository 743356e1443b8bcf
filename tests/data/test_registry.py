"""The catalogue: complete, light, and readable."""

import subprocess
import sys

import pytest

from dgmzoo import data
from dgmzoo.data import catalogue, describe


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_listing_imports_neither_numpy_nor_jax():
    code = (
        "import sys; from dgmzoo.data import catalogue, describe, Data; Data();"
        "[describe(name) for name in catalogue()];"
        "print(*{m.partition('.')[0] for m in sys.modules} & {'jax', 'numpy', 'sklearn', 'scipy', 'tyro'})"
    )
    assert run(code).split() == []


def test_finding_imports_no_jax():
    code = (
        "import sys; from dgmzoo.data import fetch; fetch('digits');"
        "print('jax' in sys.modules, 'sklearn' in sys.modules)"
    )
    assert run(code).split() == ["False", "False"]


@pytest.mark.parametrize("name", catalogue())
def test_entry_says_what_a_reader_needs(name):
    entry, text = catalogue()[name], describe(name)
    assert entry.title and entry.licence and entry.use and name in text and entry.title in text
    assert set(entry.splits) <= {"all", "train", "valid", "test"} and all(rows > 0 for rows in entry.splits.values())
    if entry.kind != "points":
        assert entry.paper and entry.files and entry.folder and entry.decoder and entry.download_bytes
        for source in entry.sources:
            assert source.kind in ("web", "archive", "copy", "npm", "apt")
            assert set(source.files) <= {*entry.files, *(file for files in entry.alternatives for file in files)}


def test_every_set_of_the_plan_is_registered():
    names = """digits mnist fashion_mnist binarized_mnist caltech101_silhouettes freyfaces omniglot_lake
    omniglot cifar10 adult connect4 dna mushrooms nips ocr_letters rcv1 web nltcs winequality_red
    winequality_white parkinsons ionosphere power gas hepmass miniboone bsds300 ptb 20news fsdd jsb_chorales
    nottingham musedata piano_midi"""
    assert set(names.split()) <= set(catalogue())


def test_public_names_exist():
    for name in data.__all__:
        assert callable(getattr(data, name))
    with pytest.raises(AttributeError, match="nothing"):
        data.nothing  # noqa: B018


def test_unknown_name():
    with pytest.raises(ValueError, match="did you mean mnist"):
        describe("minst")
    with pytest.raises(ValueError, match="dgmzoo data list"):
        describe("zzzzzz")
