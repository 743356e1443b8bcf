"""`load_file`: run a plugin, which registers its classes; `load_installed`: run the plugins of installed packages."""

import functools
import importlib.metadata
import warnings
from pathlib import Path

from dgmzoo.config import experiment_file

_LOADED: dict[str, str] = {}


def load_file(path: str | Path) -> None:
    """Run a plugin file, which registers its classes. A file that has run already is not run again.

    Raises:
      ValueError: there is no such file, or it does not run.
    """
    file = Path(path).expanduser().resolve()
    experiment_file.execute(file)
    _LOADED[str(file)] = experiment_file.digest(file)


def loaded_files() -> dict[str, str]:
    """Path -> sha256, of the plugin files that this process has run; a run directory keeps them.

    >>> isinstance(loaded_files(), dict)
    True
    """
    return dict(_LOADED)


@functools.cache
def load_installed() -> None:
    """Call the functions that installed packages list under the entry point group `dgmzoo`; one that fails is a warning.

    >>> load_installed()
    """
    for entry in importlib.metadata.entry_points(group="dgmzoo"):
        try:
            entry.load()()
        except Exception as error:
            warnings.warn(f"plugin {entry.name} ({entry.value}) failed: {type(error).__name__}: {error}", stacklevel=2)
