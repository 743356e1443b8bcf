"""Finding a set, decoding it, checking its content and keeping the decoded arrays in the user's cache.

A cached set is a folder of `.npy` files and a `manifest.json`, renamed into place whole under a lock, so that two processes or
a full disk never leave half of one. Its arrays are mapped, not read; their digest is computed again only if a file's size or
time changed, or by `verify`.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data import files
from dgmzoo.data.registry import Entry, entry

Arrays = dict[str, np.ndarray]


def cache() -> Path:
    """The user's cache: `DGMZOO_CACHE`, or `dgmzoo` in the platform's cache folder (XDG)."""
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


def arrays(name: str, log: Callable[[str], None] | None = None) -> tuple[Arrays, str]:
    """A registered set's decoded arrays `{"train/x": [N, ...], ...}`, mapped from the cache, and their digest.

    Looks in the cache, then DGMZOO_DATA, then at copies that other libraries left, then fetches.

    Raises:
      ValueError: a file under DGMZOO_DATA is not what was published.
      FileNotFoundError: no source has the set; says where was looked.
    """
    known = entry(name)
    with _lock(name):
        if (cached := _cached(known)) is not None:
            return cached
        problems = []
        for origin, paths, trusted in _origins(known, log):
            try:
                decoded = decode(known, paths)
                found = check(known, decoded, origin)
            except (ValueError, OSError) as error:
                if trusted:
                    raise
                problems.append(f"{origin}: {error}")
                continue
            return _keep(known, decoded, found), found
    raise FileNotFoundError(
        "\n  ".join([f"expected {name} in one of its places, found it in none:", *problems])
    )


def _origins(known: Entry, log) -> Iterator[tuple[str, dict[str, Path], bool]]:
    """Places that have all of a set's files, nearest first: (where, files by name, whether the user named the place)."""
    if not known.files:
        yield "this installation", {}, True
    if (root := os.environ.get("DGMZOO_DATA")) and (paths := _there(Path(root) / known.folder, known)):
        yield str(Path(root) / known.folder), paths, True
    for source in known.sources:
        if source.kind == "copy" and (paths := _there(_place(source.where), known, source.files)):
            yield source.where, paths, False


def _place(where: str) -> Path:
    """A folder; `{package}` at its start is where that Python package is installed."""
    if where.startswith("{"):
        package, _, rest = where[1:].partition("}")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return Path("/nonexistent")
        return Path(spec.submodule_search_locations[0] + rest)
    return Path(os.path.expandvars(where)).expanduser()


def _there(folder: Path, known: Entry, named: Mapping[str, str] | None = None) -> dict[str, Path] | None:
    paths = {}
    for name, inside in (named or {name: name for name in known.files}).items():
        path = next((p for p in (folder / inside, folder / f"{inside}.gz") if p.is_file()), None)
        if path is None:
            return None
        paths[name] = path
    return paths


def decode(known: Entry, paths: Mapping[str, Path]) -> Arrays:
    """A set's arrays from its files, by its decoder."""
    module, _, function = known.decoder.partition(".")
    return getattr(importlib.import_module(f"dgmzoo.data.{module}"), function)(paths)


def check(known: Entry, decoded: Arrays, origin: str) -> str:
    """The digest of decoded arrays, once they are what the registry says.

    Raises:
      ValueError: other splits, shapes or dtypes, or another digest.
    """
    rows = {key[:-2]: a for key, a in decoded.items() if key.endswith("/x")}
    if {split: len(a) for split, a in rows.items()} != dict(known.splits):
        got = ", ".join(f"{split} {len(a)}" for split, a in rows.items())
        raise ValueError(f"expected {known.name} with rows {dict(known.splits)}, got {got} from {origin}")
    for split, a in rows.items():
        if (
            a.dtype != known.dtype
            or len(a.shape) != len(known.shape) + 1
            or any(want not in (0, got) for want, got in zip(known.shape, a.shape[1:], strict=True))
        ):
            raise ValueError(
                f"expected {known.name}/{split} as {known.dtype} {known.shape}, got {a.dtype} {a.shape[1:]} from {origin}"
            )
    found = digest(decoded)
    if known.sha256 is not None and found != known.sha256:
        raise ValueError(
            f"expected {known.name} with content sha256 {known.sha256[:16]}, got {found[:16]} from {origin}; "
            f"the files are altered or another variant: remove them, or name them by their path as your own data"
        )
    return found


@contextlib.contextmanager
def _lock(name: str):
    """One process at a time works on a set; a place that cannot be written needs no lock."""
    try:
        cache().mkdir(parents=True, exist_ok=True)
        handle = open(cache() / f"{name}.lock", "w")
    except OSError:
        yield
        return
    with handle:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _cached(known: Entry, again: bool = False) -> tuple[Arrays, str] | None:
    """The set as cached, or None; `again` computes the digest whatever the stamps say."""
    folder = cache() / known.name
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        found, stamps = manifest["sha256"], manifest["stamps"]
        mapped = {key: files.npy(folder / f"{key.replace('/', '-')}.npy") for key in stamps}
        same = all(stamps[key] == _stamp(folder / f"{key.replace('/', '-')}.npy") for key in stamps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if known.sha256 not in (None, found):
        return None  # decoded by another version of the registry
    if (again or not same) and digest(mapped) != found:
        warnings.warn(
            f"the cached copy of {known.name} in {folder} was altered; decoding it again", stacklevel=2
        )
        return None
    return mapped, found


def _keep(known: Entry, decoded: Arrays, found: str) -> Arrays:
    """Write decoded arrays to the cache and return them mapped; where that fails, the arrays as they are."""
    folder = cache() / known.name
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{known.name}-", dir=cache()))
    except OSError:
        return decoded
    try:
        stamps = {}
        for key, array in decoded.items():
            path = temporary / f"{key.replace('/', '-')}.npy"
            np.save(path, array, allow_pickle=False)
            stamps[key] = _stamp(path)
        (temporary / "manifest.json").write_text(json.dumps({"sha256": found, "stamps": stamps}))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        warnings.warn(f"could not cache {known.name} in {folder} ({error}); going on without", stacklevel=2)
        shutil.rmtree(temporary, ignore_errors=True)
        return decoded
    return _cached(known)[0]
