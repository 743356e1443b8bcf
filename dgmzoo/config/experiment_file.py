"""`execute`: run a user's experiment file; `digest`: hash the file together with the local modules it imports.

Two rules keep one process consistent. The experiment file itself is loaded under a module name made from its digest, so
that two versions of it can be compared side by side. A module beside it is imported under its own name, of which Python
holds one: a second file that needs another module of that name is refused, with both paths.
"""

import ast
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_IMPORTED: dict[Path, str] = {}
"""File of a module beside an experiment file -> its sha256 when this process imported it."""


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
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    module.__spec__ = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module  # dataclasses and Linen look up the module of a class
    sys.path.insert(0, str(path.parent))
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
    for module_name, file in modules.items():
        if _file_of(module_name) == file:
            _IMPORTED.setdefault(file, _sha256(file))
    return module


def written_name(module: str) -> str:
    """The name of a module as configurations write it: that of an experiment file without its digest.

    >>> written_name("dgmzoo_experiment_mine_0123456789ab"), written_name("jax.nn")
    ('mine', 'jax.nn')
    """
    return module.removeprefix(_PREFIX)[: -_DIGITS - 1] if module.startswith(_PREFIX) else module


def digest(path: Path) -> str:
    """The sha256 of an experiment file and, if it imports any, of the modules beside it."""
    own = _sha256(path)
    lines = [f"{name} {_sha256(file)}" for name, file in sorted(modules_beside(path).items())]
    return hashlib.sha256("\n".join([own, *lines]).encode()).hexdigest() if lines else own


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
        if loaded is not None and loaded != file:
            raise ValueError(
                f"expected one module named {name!r} in this process, got {file} for {path} while {loaded} is loaded; "
                "rename one of them, or use another process"
            )
        if loaded is not None and _IMPORTED.get(file, _sha256(file)) != _sha256(file):
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
