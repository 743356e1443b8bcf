"""The registry of data sets: complete entries, light imports, nearest names, and no import circle."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dgmzoo import data
from dgmzoo.data import catalogue, describe

ROOT = Path(data.__file__).parent
MODULES = {
    ".".join(("dgmzoo.data", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in sorted(ROOT.rglob("*.py"))
}
"""Name -> path of every module of dgmzoo.data."""


def output_of(code: str) -> str:
    """Standard output of a Python program in its own process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_listing_imports_neither_numpy_nor_jax():
    code = (
        "import sys; from dgmzoo.data import catalogue, describe, Data; Data();"
        "[describe(name) for name in catalogue()];"
        "print(*{m.partition('.')[0] for m in sys.modules} & {'jax', 'numpy', 'sklearn', 'scipy', 'tyro'})"
    )
    assert output_of(code).split() == []


def test_fetching_imports_neither_jax_nor_scikit_learn():
    code = (
        "import sys; from dgmzoo.data import fetch; fetch('digits');"
        "print('jax' in sys.modules, 'sklearn' in sys.modules)"
    )
    assert output_of(code).split() == ["False", "False"]


@pytest.mark.parametrize("name", catalogue())
def test_entry_has_title_licence_use_and_sources(name):
    entry, text = catalogue()[name], describe(name)
    assert entry.title and entry.licence and entry.use and name in text and entry.title in text
    assert set(entry.splits) <= {"all", "train", "valid", "test"} and all(rows > 0 for rows in entry.splits.values())
    if entry.kind != "points":
        assert entry.paper and entry.files and entry.folder and entry.decoder and entry.download_bytes
        for source in entry.sources:
            assert source.kind in ("web", "archive", "copy", "npm", "apt")
            assert set(source.files) <= {*entry.files, *(file for files in entry.alternatives for file in files)}


def test_expected_sets_are_registered():
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


def test_unknown_name_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match="did you mean mnist"):
        describe("minst")
    with pytest.raises(ValueError, match="dgmzoo data list"):
        describe("zzzzzz")


def imported_modules(path: Path) -> set[str]:
    """Modules of dgmzoo.data that a file imports when it is imported."""
    modules = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("dgmzoo.data"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name for name in names if name in MODULES} or {node.module}
    return modules & set(MODULES)


def test_imports_within_the_package_have_no_circle():
    imports = {name: imported_modules(path) - {name} for name, path in MODULES.items()}
    while leaves := [name for name, names in imports.items() if not names & set(imports)]:
        for name in leaves:
            del imports[name]
    assert not imports


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith(("dgmzoo.data.readers.", "dgmzoo.data.sets."))]
)
def test_readers_and_sets_import_neither_registry_nor_dataset(name):
    source = MODULES[name].read_text()
    assert "dgmzoo.data.registry" not in source and "dgmzoo.data.dataset" not in source
    assert not imported_modules(MODULES[name]) & {"dgmzoo.data", "dgmzoo.data.registry", "dgmzoo.data.dataset"}
