"""The house: which package may import which, what the wheel holds, what the listing reads."""

import ast
import configparser
from pathlib import Path

import pytest

from dgmzoo import experiments
from dgmzoo.config.experiment import load
from tests.support.command import ROOT

# Rooms from the ground up; each may import its own and those named. Experiments are loaded by config alone, by name.
MAY_IMPORT = {
    "weight_noise": set(),
    "parts": set(),
    "model": {"weight_noise", "parts"},
    "wrapped": {"model"},
    "files": set(),
    "functions": set(),
    "reparam": set(),
    "data": set(),
    "layers": {"reparam", "model", "weight_noise"},
    "zoo": {"layers", "reparam", "model"},
    "objectives": {"layers", "reparam", "model", "parts"},
    "user_file": set(),
    "config": {"user_file", "objectives", "data", "model", "experiments"},
    "overrides": {"config", "objectives", "layers", "functions", "parts"},
    "evaluation": {"overrides", "config", "data", "model", "parts", "reparam", "files"},
    "training": {"evaluation", "overrides", "config", "objectives", "data", "wrapped", "model", "reparam", "files"},
    "binding": {"overrides", "config", "data", "layers", "wrapped", "model"},
    "run": {"binding", "training", "evaluation", "overrides", "config", "data", "model", "files"},
    "api": {"run", "binding", "training", "overrides", "config", "data", "model"},
    "comparison": {
        "api",
        "run",
        "binding",
        "training",
        "evaluation",
        "overrides",
        "config",
        "objectives",
        "data",
        "layers",
        "model",
        "files",
    },
    "arguments": {"overrides", "config"},
    "bench": {"binding", "training", "evaluation", "overrides", "config", "data", "model"},
    "results": {"experiments"},
    "cli_data": {"data"},
    "cli": {
        "cli_data",
        "api",
        "comparison",
        "bench",
        "arguments",
        "results",
        "training",
        "evaluation",
        "data",
        "experiments",
        "files",
    },
    "experiments": {"config", "data", "objectives", "zoo", "layers"},
}


def imports(path: Path) -> set[str]:
    """Rooms of dgmzoo that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dgmzoo":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("dgmzoo.")}
    return found


def files_of(room: str) -> list[Path]:
    root = ROOT / "experiments" if room == "experiments" else ROOT / "dgmzoo" / room
    return sorted(root.rglob("*.py")) or [root.with_suffix(".py")]


def test_every_room_is_named():
    rooms = {
        path.stem for path in (ROOT / "dgmzoo").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} == set(MAY_IMPORT) - {"experiments"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_point_one_way(room):
    for path in files_of(room):
        wrong = imports(path) - MAY_IMPORT[room] - {room}
        assert not wrong, f"{path} imports {wrong}"


def test_the_core_knows_neither_flax_nor_files():
    for path in files_of("reparam"):
        text = path.read_text()
        assert "flax" not in text and "jax.jit" not in text and "open(" not in text, path


def test_compilation_lives_where_it_is_looked_for():
    for path in (ROOT / "dgmzoo").rglob("*.py"):
        if "jax.jit" in path.read_text() or "jax.pmap" in path.read_text():
            assert path.parent.name == "evaluation" or path.name in ("parallel.py", "bench.py"), path


def test_setup_lists_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "dgmzoo").rglob("__init__.py")}
    there |= {
        ".".join(("dgmzoo", *path.parent.relative_to(ROOT).parts))
        for path in (ROOT / "experiments").rglob("__init__.py")
    }
    assert listed == there


@pytest.mark.parametrize("name", experiments.names())
def test_the_static_listing_tells_the_truth(name):
    shown, loaded = experiments.summary(name), load(name)
    assert shown.description and shown.description.endswith(".") and len(shown.description) < 130
    assert shown.data == loaded.data.name
    assert shown.papers == tuple((paper.value, paper.source) for paper in loaded.papers)
