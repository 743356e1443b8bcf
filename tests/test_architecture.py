"""The structure of the package: import order, root modules, file sizes, first lines of docstrings."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.command import ROOT

# From the bottom up: a folder imports itself and those above it in this list. Experiments are loaded by config, by name.
ORDER = (
    "validation",
    "files",
    "experiments",
    "data",
    "model",
    "reparam",
    "layers",
    "objectives",
    "zoo",
    "config",
    "evaluation",
    "report",
    "training",
    "testing",
    "run",
    "api",
    "loading",
    "comparison",
    "command",
)
NOT_IMPORTED_BY = {  # arrows that would point downwards and are still not allowed
    "zoo": {"objectives", "data", "files"},
    "layers": {"data", "files", "validation"},
    "model": {"data", "files", "validation"},
    "reparam": {"data", "files", "validation", "model"},
    "data": {"validation", "files", "experiments"},
    "config": {"zoo"},
}
ROOT_MODULES = {"__init__", "__main__", "api", "loading", "run", "validation", "files"}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    paths = [path for path in (ROOT / "dgmzoo").rglob("*.py") if "experiments" not in path.relative_to(ROOT).parts]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(paths)}


def imports(path: Path) -> set[str]:
    """Dotted names of dgmzoo that a file imports, anywhere in it: modules, and names in modules."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dgmzoo":
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("dgmzoo.")}
    return names


def folder(name: str) -> str:
    return name.split(".")[1]


def test_every_folder_has_its_place_in_the_order():
    folders = {folder(name) for name in modules()} - {"__init__", "__main__"}
    assert folders | {"experiments"} == set(ORDER)
    assert {name.split(".")[1] for name in modules() if name.count(".") == 1} == ROOT_MODULES


@pytest.mark.parametrize("room", [room for room in ORDER if room != "experiments"])
def test_imports_point_downwards(room):
    allowed = set(ORDER[: ORDER.index(room) + 1]) - NOT_IMPORTED_BY.get(room, set())
    for name, path in modules().items():
        if folder(name) == room:
            wrong = {target for target in imports(path) if folder(target) not in allowed}
            assert not wrong, f"{path} imports {wrong}"


def test_no_modules_import_each_other_in_a_circle():
    known = modules()

    def module_of(name: str) -> str | None:
        package = f"{name}.__init__"
        parent = name.rpartition(".")[0]
        return next((each for each in (name, package, parent, f"{parent}.__init__") if each in known), None)

    # The lazy __init__ of a package names its modules and is no arrow of theirs.
    graph = {name: {module_of(target) for target in imports(path)} - {None, name} for name, path in known.items()}
    graph = {
        name: targets for name, targets in graph.items() if name not in ("dgmzoo.__init__", "dgmzoo.data.__init__")
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_core_knows_neither_flax_nor_files():
    for name, path in modules().items():
        if folder(name) == "reparam":
            text = path.read_text()
            assert "flax" not in text and "jax.jit" not in text and "open(" not in text, path


def test_compilation_is_requested_in_evaluation_testing_devices_and_benchmark():
    for name, path in modules().items():
        if "jax.jit" in path.read_text() or "jax.pmap" in path.read_text():
            assert folder(name) in ("evaluation", "testing") or path.name in ("devices.py", "benchmark.py"), path


def test_no_private_part_of_jax_is_used():
    for path in modules().values():
        assert "jax._src" not in path.read_text(), path


def test_files_can_be_read_in_one_sitting():
    paths = [*modules().values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


_RIDDLE = re.compile(r"(What|Who|Which|How|Those|Whether|Where|Such|It|They|That|All that|Of which)\b")


def docstrings(path: Path):
    """(name, first line) of a module and of its public classes and functions."""
    tree = ast.parse(path.read_text())
    yield "module", (ast.get_docstring(tree) or "").split("\n")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if text := ast.get_docstring(node):
                yield node.name, text.split("\n")[0]


def test_first_lines_name_the_thing():
    riddles = []
    for path in modules().values():
        if path.name == "__init__.py" and not path.read_text().strip():
            continue
        for what, line in docstrings(path):
            assert line or what != "module", f"{path} has no docstring"
            is_predicate = line.startswith("Whether ")  # the customary first line of a predicate
            if _RIDDLE.match(line) and not is_predicate:
                riddles.append(f"{path.relative_to(ROOT)}: {what}: {line}")
    assert not riddles, "\n".join(riddles)
