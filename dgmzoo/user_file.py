"""A user's experiment file, and the modules beside it that it imports."""

import hashlib
import importlib.util
import sys
from modulefinder import ModuleFinder
from pathlib import Path
from types import ModuleType

_BROUGHT: set[str] = set()  # names of modules that users' files have imported from beside them


def execute(path: Path) -> ModuleType:
    """Run a file as a module, whose classes can be found like any other's.

    What it imports from beside it is imported anew, so that a change there is seen and two files in two folders may each
    have a `net.py`; but a neighbour that the caller has imported is shared with the caller.

    Raises:
      ValueError: there is no such file, or it does not run.
    """
    if not path.is_file():
        raise ValueError(f"expected the path of an experiment's file, got {str(path)!r}, which is not there")
    spec = importlib.util.spec_from_file_location(f"dgmzoo_user_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent.resolve())
    try:
        beside = _beside(path)
        names = [spec.name, *(name for name, where in beside.items() if not _is_callers(name, where))]
        before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        sys.modules[spec.name] = module
        sys.path.insert(0, folder)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(before)
            raise
        finally:
            sys.path.remove(folder)
        _BROUGHT.update(names)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"expected {path} to run, got {type(error).__name__}: {error}") from error
    return module


def digest(path: Path) -> str:
    """sha256 of the file and, if it imports any, of the modules beside it."""
    own = _sha256(path)
    beside = [f"{name} {_sha256(where)}" for name, where in sorted(_beside(path).items())]
    return hashlib.sha256("\n".join([own, *beside]).encode()).hexdigest() if beside else own


def _beside(path: Path) -> dict[str, Path]:
    """Name -> file of the modules in the file's folder that it imports, or that these do; found without running them."""
    finder = ModuleFinder(path=[str(path.parent.resolve())], excludes=[*sys.stdlib_module_names, "dgmzoo"])
    finder.run_script(str(path))
    return {
        name: Path(found.__file__) for name, found in finder.modules.items() if found.__file__ and name != "__main__"
    }


def _is_callers(name: str, where: Path) -> bool:
    """Whether that very module has been imported, and not by a user's file."""
    there = getattr(sys.modules.get(name), "__file__", None)
    return there is not None and Path(there).resolve() == where.resolve() and name not in _BROUGHT


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
