"""The disk cache of decoded data sets: functions that read, write and lock a cached set.

A cached set is a folder of `.npy` files and a `manifest.json`. The folder is written under a temporary name and renamed
when it is complete, under a lock, so that neither two processes nor a full disk leave a partial set. Arrays are mapped,
not read; their digest is computed again only if a file's size or time changed, or on request.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from dgmzoo.data.readers import files

Arrays = dict[str, np.ndarray]
T = TypeVar("T")
SETTLED_SECONDS = 60
"""Age of a user's file from which on its digest is remembered: Linux writes changed pages to disk within 35 seconds."""
_DECODER_VERSION = 1
"""Increased when a decoder's arrays change: sets without a known digest are then decoded again."""


def root() -> Path:
    """Folder of the cache: `DGMZOO_CACHE`, or `dgmzoo` in the user's cache folder (XDG).

    A user without a home folder (in a container) has a new temporary one for each process.
    """
    try:
        if folder := os.environ.get("DGMZOO_CACHE"):
            return Path(folder).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgmzoo"
    except RuntimeError:  # no home folder
        return _temporary_root()


@functools.cache
def _temporary_root() -> Path:
    return Path(tempfile.mkdtemp(prefix="dgmzoo-"))


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 of the arrays' names, dtypes, shapes and little-endian bytes in C order, names sorted.

    >>> digest({"x": np.arange(3)}) == digest({"x": np.arange(3).astype(">i8")})
    True
    """
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        dtype = array.dtype.newbyteorder("<")
        sha256.update(f"{name} {dtype.str} {array.shape}\n".encode())
        step = max(1, (1 << 22) // max(1, array[:1].nbytes))
        for start in range(0, len(array), step):
            sha256.update(np.ascontiguousarray(array[start : start + step], dtype).data)
    return sha256.hexdigest()


@contextlib.contextmanager
def lock(name: str, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a set, so that one process at a time works on it; no lock where the cache cannot be written."""
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


def _array_path(folder: Path, key: str) -> Path:
    return folder / f"{key.replace('/', '-')}.npy"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def read(name: str, sha256: str | None, recompute: bool = False) -> tuple[Arrays, str] | None:
    """The cached arrays of a set, mapped, and their digest; None if there are none, or if their digest is not `sha256`.

    A damaged copy is reported by a warning and counts as none.

    Args:
      sha256: the digest of the published content, if it is known.
      recompute: compute the digest from every byte, whatever the sizes and times of the files are.

    Raises:
      ValueError: with `recompute`, content differs from the decoded one; the copy is not used again.
    """
    folder = root() / name
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        cached_sha256, stamps = manifest["sha256"], manifest["stamps"]
        if sha256 not in (None, cached_sha256) or (sha256 is None and manifest.get("decoders") != _DECODER_VERSION):
            return None  # decoded by a version whose registry or decoder differs
        arrays = {key: files.read_npy(_array_path(folder, key)) for key in stamps}
        unchanged = all(stamps[key] == _stamp(_array_path(folder, key)) for key in stamps)
        if (recompute or not unchanged) and digest(arrays) != cached_sha256:
            raise ValueError(f"expected content sha256 {cached_sha256[:16]}, got {digest(arrays)[:16]}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        warnings.warn(f"the cached copy of {name} in {folder} cannot be read ({error}); decoding anew", stacklevel=2)
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if recompute:
            (folder / "manifest.json").unlink()
            raise ValueError(
                f"the cached copy of {name} in {folder} is damaged: {error}; it is no longer used, and the next use "
                f"decodes the set again"
            ) from error
        warnings.warn(f"the cached copy of {name} in {folder} is damaged ({error}); decoding it again", stacklevel=2)
        return None
    return arrays, cached_sha256


def write(name: str, arrays: Arrays, sha256: str) -> Arrays:
    """Cache the arrays of a set and return them mapped; where that fails, warn and return them unchanged."""
    folder, temporary = root() / name, None
    try:
        for abandoned in root().glob(f".{name}-*"):  # by a process that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        temporary = root() / f".{name}-{os.getpid()}"
        temporary.mkdir()  # not by tempfile: the user's umask decides who may read it
        stamps = {}
        for key, array in arrays.items():
            np.save(_array_path(temporary, key), array, allow_pickle=False)
            stamps[key] = _stamp(_array_path(temporary, key))
        (temporary / "manifest.json").write_text(
            json.dumps({"sha256": sha256, "decoders": _DECODER_VERSION, "stamps": stamps})
        )
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        return {key: files.read_npy(_array_path(folder, key)) for key in arrays}
    except OSError as error:
        warnings.warn(f"could not cache {name} in {folder} ({error}); continuing without a cached copy", stacklevel=2)
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        return arrays


def _own_stamp(path: Path) -> list[int]:
    """Identity of a user's file: a copy that keeps size and time (`cp -p`) differs in the inode or the change time."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def memoize(path: Path, make: Callable[..., T], compute: Callable[[], T]) -> T:
    """The value of `compute()` for a user's file, remembered while the file stays the same: size, times and inode.

    The value for a file that was changed within the last minute is not remembered, since a change through a memory map
    reaches the times only when the page is next written to disk.

    Args:
      path: the file; its notes lie in the folder `own` of the cache.
      make: the named tuple class of the value, called with its fields.
      compute: called where nothing is remembered.
    """
    note = root() / "own" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
    stamp = _own_stamp(path)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(note.read_text())
        if content["stamp"] == stamp:
            return make(**content["found"])
    value = compute()
    changed = max(path.stat().st_mtime, path.stat().st_ctime)
    if time.time() - changed < SETTLED_SECONDS or _own_stamp(path) != stamp:
        return value
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"stamp": stamp, "found": value._asdict()}))
        temporary.rename(note)
    return value
