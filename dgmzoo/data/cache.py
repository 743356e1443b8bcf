"""The user's cache of decoded sets.

A set is a folder of `.npy` files and a `manifest.json`, renamed into place whole and under a lock, so that
neither two processes nor a full disk leave half of one. Arrays are mapped, not read; their digest is computed
again only if a file's size or time changed, or when asked.
"""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from dgmzoo.data.readers import files

Arrays = dict[str, np.ndarray]
T = TypeVar("T")
_DECODERS = 1
"""Raised when a decoder changes what it gives: sets without a known digest are decoded again then."""


def root() -> Path:
    """`DGMZOO_CACHE`, or `dgmzoo` in the user's cache folder (XDG)."""
    if place := os.environ.get("DGMZOO_CACHE"):
        return Path(place).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgmzoo"


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 of the arrays' names, dtypes, shapes and little-endian bytes in C order, names sorted."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        dtype = array.dtype.newbyteorder("<")
        total.update(f"{name} {dtype.str} {array.shape}\n".encode())
        step = max(1, (1 << 22) // max(1, array[:1].nbytes))
        for start in range(0, len(array), step):
            total.update(np.ascontiguousarray(array[start : start + step], dtype).data)
    return total.hexdigest()


@contextlib.contextmanager
def lock(name: str, log: Callable[[str], None]) -> Iterator[None]:
    """One process at a time works on a set; where the cache cannot be written there is nothing to guard."""
    try:
        root().mkdir(parents=True, exist_ok=True)
        handle = open(root() / f"{name}.lock", "w")
    except OSError:
        yield
        return
    with handle:
        with contextlib.suppress(ImportError):  # no fcntl on Windows
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log(f"waiting for another process that works on {name}")
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                pass  # a file system without locks
        yield


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key.replace('/', '-')}.npy"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def read(name: str, sha256: str | None, again: bool = False) -> tuple[Arrays, str] | None:
    """A set as cached, mapped, and its digest; None if there is none, or not that of `sha256`.

    An altered copy is reported and counts as none. `again` computes the digest whatever the files' stamps say.

    Raises:
      ValueError: asked `again`, content is not what was decoded; the copy is struck off, so that it is not used again.
    """
    folder = root() / name
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        found, stamps = manifest["sha256"], manifest["stamps"]
        if sha256 not in (None, found) or (sha256 is None and manifest.get("decoders") != _DECODERS):
            return None  # decoded by a version that knew other content under this name
        mapped = {key: files.npy(_file(folder, key)) for key in stamps}
        same = all(stamps[key] == _stamp(_file(folder, key)) for key in stamps)
        if (again or not same) and digest(mapped) != found:
            raise ValueError(f"expected content sha256 {found[:16]}, got {digest(mapped)[:16]}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        warnings.warn(f"the cached copy of {name} in {folder} cannot be read ({error}); decoding anew", stacklevel=2)
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if again:
            (folder / "manifest.json").unlink()
            raise ValueError(
                f"the cached copy of {name} in {folder} is damaged: {error}; it is struck off, and the next use decodes "
                f"the set anew"
            ) from error
        warnings.warn(f"the cached copy of {name} in {folder} is damaged ({error}); decoding it again", stacklevel=2)
        return None
    return mapped, found


def write(name: str, arrays: Arrays, sha256: str) -> Arrays:
    """Cache arrays and return them mapped; where that fails, warn and return them as they are."""
    folder, temporary = root() / name, None
    try:
        for left in root().glob(f".{name}-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary = root() / f".{name}-{os.getpid()}"
        temporary.mkdir()  # as readable as the user's umask says
        stamps = {}
        for key, array in arrays.items():
            np.save(_file(temporary, key), array, allow_pickle=False)
            stamps[key] = _stamp(_file(temporary, key))
        (temporary / "manifest.json").write_text(
            json.dumps({"sha256": sha256, "decoders": _DECODERS, "stamps": stamps})
        )
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        return {key: files.npy(_file(folder, key)) for key in arrays}
    except OSError as error:
        warnings.warn(f"could not cache {name} in {folder} ({error}); going on without", stacklevel=2)
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        return arrays


def memo(path: Path, make: Callable[..., T], compute: Callable[[], T]) -> T:
    """`compute()` for a user's file, a named tuple of kind `make`, remembered while size and time of the file stay."""
    note = root() / "own" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
    stamp = _stamp(path)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text())
        if known["stamp"] == stamp:
            return make(**known["found"])
    value = compute()
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh = note.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({"stamp": stamp, "found": value._asdict()}))
        fresh.rename(note)
    return value
