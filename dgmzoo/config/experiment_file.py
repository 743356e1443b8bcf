"""A user's experiment file, and the modules beside it that it imports."""

import ast
import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

_BROUGHT: dict[str, dict[str, tuple[Path, str]]] = {}
"""Of the packages and modules that users' files have brought in: top-level name -> module -> file and its digest then."""


def execute(path: Path) -> ModuleType:
    """Run a file as a module, whose classes can be found like any other's.

    Modules beside it are its own: where another file has brought in others of the same name, or they have changed since,
    they are imported anew, and where the caller has imported others, the caller's are back afterwards.

    Raises:
      ValueError: there is no such file, or it does not run.
    """
    if not path.is_file():
        raise ValueError(f"expected the path of an experiment's file, got {str(path)!r}, which is not there")
    spec = importlib.util.spec_from_file_location(f"dgmzoo_user_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    folder, groups = str(path.parent.resolve()), _grouped(_beside(path))
    stale = {top for top, own in groups.items() if _loaded(top) and _others(top, own)}
    if stale & _BROUGHT.keys():
        stale |= _BROUGHT.keys() & groups.keys()  # one may have taken names from another
    new = stale | {top for top in groups if not _loaded(top)}
    for file, _ in (of for top in stale for of in groups[top].values()):
        with contextlib.suppress(OSError):  # Python takes it for new where size and second are those of before
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
    before = {name: sys.modules.pop(name) for top in new for name in _loaded(top)}
    before |= {spec.name: sys.modules[spec.name]} if spec.name in sys.modules else {}
    sys.modules[spec.name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        _replace([spec.name, *(name for top in new for name in _loaded(top))], before)
        if isinstance(error, ValueError) or not isinstance(error, Exception):
            raise
        raise ValueError(f"expected {path} to run, got {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    for top, own in groups.items():
        callers = {name: old for name, old in before.items() if _top(name) == top and top not in _BROUGHT}
        if callers:
            _replace(_loaded(top), callers)
        elif top in new or top in _BROUGHT:  # else the caller's, shared
            _BROUGHT[top] = {name: of for name, of in own.items() if _file(name) == of[0]}
    for top in [top for top, brought in _BROUGHT.items() if not brought]:
        del _BROUGHT[top]  # named in the file, but not reached
    return module


def digest(path: Path) -> str:
    """sha256 of the file and, if it imports any, of the modules beside it."""
    own = _sha256(path)
    beside = [f"{name} {sha256}" for name, (_, sha256) in sorted(_beside(path).items())]
    return hashlib.sha256("\n".join([own, *beside]).encode()).hexdigest() if beside else own


def _beside(path: Path) -> dict[str, tuple[Path, str]]:
    """Module -> file and digest, of those in the file's folder that it imports, or that these do.

    Read from their import statements, without running them.

    Raises:
      ValueError: one has the name of a module of the standard library, so that either might be imported.
    """
    found: dict[str, tuple[Path, str]] = {}
    left = [(path, "")]
    while left:
        file, package = left.pop()
        for name in _imported(file, package):
            if name in found or _top(name) == "dgmzoo":
                continue
            stem = path.parent.resolve().joinpath(*name.split("."))
            if where := next(
                (each for each in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if each.is_file()), None
            ):
                if _top(name) in sys.stdlib_module_names:
                    raise ValueError(
                        f"expected modules beside {path} with names of their own, got {where}, which is called like one of "
                        "the standard library; rename it"
                    )
                found[name] = where.resolve(), _sha256(where)
                left.append((where, name if where.name == "__init__.py" else name.rpartition(".")[0]))
    return found


def _imported(file: Path, package: str) -> list[str]:
    """Names that a file's import statements may stand for, with the packages that they are in: `a`, `a.b` of `a.b`."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []  # running it will tell
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = package.split(".") if package else []
            above = inside[: len(inside) - node.level + 1] if node.level else []
            base = [*above, *filter(None, [node.module])]
            names += [".".join([*base, alias.name]) for alias in node.names]  # a module, or something in one
    return [".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)]


def _grouped(beside: Mapping[str, tuple[Path, str]]) -> dict[str, dict[str, tuple[Path, str]]]:
    return {_top(each): {name: of for name, of in beside.items() if _top(name) == _top(each)} for each in beside}


def _others(top: str, own: Mapping[str, tuple[Path, str]]) -> bool:
    """Whether what is loaded under a top-level name is not the file's own, or was brought in before it changed."""
    if top in _BROUGHT:
        both = _BROUGHT[top].keys() & own.keys()
        return not both or any(_BROUGHT[top][name] != own[name] for name in both)
    return any(_file(name) != own[name][0] for name in _loaded(top) if name in own)


def _loaded(top: str) -> list[str]:
    return [name for name in sys.modules if _top(name) == top]


def _file(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).resolve() if file else None


def _replace(names: list[str], others: Mapping[str, ModuleType]) -> None:
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(others)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
