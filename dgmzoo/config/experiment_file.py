"""`execute`: run a user's experiment file; `sources`: the file with those that it needs; `digest`: their hash.

Two rules keep one process consistent. The experiment file itself is loaded under a module name made from its digest, so
that two versions of it can be compared side by side. A module beside it is imported under its own name, of which Python
holds one: a second file that needs another module of that name is refused, with both paths.
"""

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

_IMPORTED: dict[Path, str] = {}
"""File of a module beside an experiment file -> its sha256 when this process imported it."""
_RAN: dict[str, str] = {}
"""Name of an experiment file's module -> its digest when it ran."""
_CONTENTS: dict[str, dict[str, bytes]] = {}
"""Digest of an experiment file -> name and content of each file that it needs."""
_RUNNING: list[Path] = []
"""The experiment files that are being run, the innermost last."""
_LOADED: dict[Path, set[Path]] = {}
"""Experiment file -> the other experiment files that it has loaded by their paths."""


_PREFIX, _DIGITS = "dgmzoo_experiment_", 12


def execute(path: Path) -> ModuleType:
    """Run an experiment file as a module; a file of the same content that has run already is not run again.

    Raises:
      ValueError: there is no such file, it does not run, or a module beside it clashes with one that is loaded.
    """
    if not path.is_file():
        raise ValueError(f"expected the path of an experiment file, got {str(path)!r}, which does not exist")
    path = path.resolve()
    source = path.read_bytes()
    name = f"{_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode() + source).hexdigest()[:_DIGITS]}"
    modules = modules_beside(path)
    _check_modules(path, modules)
    if name in sys.modules and _RAN.get(name) == digest(path):  # else a file that it has loaded is another by now
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    module.__spec__ = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module  # dataclasses and Linen look up the module of a class
    sys.path.insert(0, str(path.parent))
    _LOADED[path] = set()
    _RUNNING.append(path)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no __pycache__ beside a user's script
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        raise ValueError(f"expected {path} to run, got {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
        sys.path.remove(str(path.parent))
        _RUNNING.pop()
    for module_name, file in modules.items():
        if _file_of(module_name) == file:
            _IMPORTED.setdefault(file, _sha256(file))
    _RAN[name] = digest(path)
    return module


def written_name(module: str) -> str:
    """The name of a module as configurations write it: that of an experiment file without its digest.

    >>> written_name("dgmzoo_experiment_mine_0123456789ab"), written_name("jax.nn")
    ('mine', 'jax.nn')
    """
    return module.removeprefix(_PREFIX)[: -_DIGITS - 1] if module.startswith(_PREFIX) else module


def locate(name: str) -> Path:
    """The experiment file at a path.

    A relative path in an experiment file that is being run is relative to the folder of that file, if there is such a
    file, and the found file becomes one of its `sources`.
    """
    path = Path(name).expanduser()
    if _RUNNING:
        beside = _RUNNING[-1].parent / path
        path = beside if beside.is_file() else path
        _LOADED[_RUNNING[-1]].add(path.resolve())
    return path.resolve()


def sources(path: Path) -> dict[str, Path]:
    """The files that an experiment file needs: name -> path, the file itself first; the names are relative to the folder that holds all.

    These are the file itself, the modules beside it that it imports, and the experiment files that it has loaded by
    their paths, with theirs.
    """
    files, queue = set(), [path.resolve()]
    while queue:
        file = queue.pop()
        if file not in files:
            files |= {file, *modules_beside(file).values()}
            queue += _LOADED.get(file, ())
    folder = os.path.commonpath([file.parent for file in files])
    first = path.resolve()
    return {str(file.relative_to(folder)): file for file in [first, *sorted(files - {first})]}


def digest(path: Path) -> str:
    """The sha256 of an experiment file and of the other `sources` that it has, whose `contents` are remembered."""
    files = {name: file.read_bytes() for name, file in sources(path).items()}
    sha256 = digest_of({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    _CONTENTS[sha256] = files
    return sha256


def contents(sha256: str) -> dict[str, bytes]:
    """The files of a `digest` that this process has computed, as they were then."""
    return _CONTENTS[sha256]


def digest_of(files: Mapping[str, str]) -> str:
    """The sha256 of some files, by name and sha256; of a single file its own.

    >>> digest_of({"mine.py": "0a1b"})
    '0a1b'
    """
    if len(files) == 1:
        return next(iter(files.values()))
    lines = [f"{name} {sha256}" for name, sha256 in sorted(files.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def modules_beside(path: Path) -> dict[str, Path]:
    """Module name -> file, of the modules in the file's folder that the file imports, directly or through each other.

    The import statements are read without running them.

    Raises:
      ValueError: a module has the name of one of the standard library, so that either might be imported.
    """
    modules: dict[str, Path] = {}
    queue = [(path, "")]
    while queue:
        file, package = queue.pop()
        for name in _imported_names(file, package):
            if name in modules or _top(name) == "dgmzoo":
                continue
            stem = path.parent.resolve().joinpath(*name.split("."))
            candidates = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
            found = next((candidate for candidate in candidates if candidate.is_file()), None)
            if found is None:
                continue
            if _top(name) in sys.stdlib_module_names:
                raise ValueError(
                    f"expected modules beside {path} with names of their own, got {found}, which is named like one of "
                    "the standard library; rename it"
                )
            modules[name] = found.resolve()
            queue.append((found, name if found.name == "__init__.py" else name.rpartition(".")[0]))
    return modules


def _imported_names(file: Path, package: str) -> list[str]:
    """Module names that a file's import statements may stand for, with their packages: `a` and `a.b` of `a.b`."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []  # running the file reports the error
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".") if package else []
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = [*above, *filter(None, [node.module])]
            names += [".".join([*base, alias.name]) for alias in node.names]  # a module, or a name in one
    return [".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)]


def _check_modules(path: Path, modules: dict[str, Path]) -> None:
    """Refuse modules whose name is taken by another file, and modules that changed since they were imported."""
    for name, file in modules.items():
        loaded = _file_of(name)
        if loaded is not None and loaded != file and _IMPORTED.get(loaded) != _sha256(file):
            raise ValueError(
                f"expected one module named {name!r} in this process, got {file} for {path} while {loaded} is loaded; "
                "rename one of them, or use another process"
            )
        if loaded == file and _IMPORTED.get(file, _sha256(file)) != _sha256(file):
            raise ValueError(
                f"expected {file} as it was when this process imported it, got a changed file; restart Python"
            )


def _file_of(name: str) -> Path | None:
    """The file of a loaded module; None if the module is not loaded or has no file."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).resolve() if file else None


def _top(name: str) -> str:
    return name.partition(".")[0]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
