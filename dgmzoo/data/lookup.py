"""`load_arrays`: find and read a registered data set; `fetch`: bring it into the cache; `verify`: check its digest.

Places are tried in this order: the cache, DGMZOO_DATA, copies that other libraries left on this machine, then the
public sources of the set's entry one by one.
"""

import contextlib
import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data import cache, download
from dgmzoo.data.entry import Entry, Source
from dgmzoo.data.registry import find

Arrays = dict[str, np.ndarray]
Log = Callable[[str], None]
Progress = download.Progress
digest = cache.digest


def silent_log(message: str) -> None:
    """Discard a message: the default log."""


def load_arrays(name: str, log: Log = silent_log, progress: Progress | None = None) -> tuple[Arrays, str]:
    """The decoded arrays `{"train/x": [N, ...], ...}` of a registered set, mapped from the cache, and their digest.

    Args:
      log: called with a message about each fetch: what, from where, how much.
      progress: called with (file, bytes so far, bytes in total or None) while a file is fetched.

    Raises:
      ValueError: unknown name, or a file under DGMZOO_DATA differs from the published one.
      FileNotFoundError: no source has the set; the message has the answer of each. Or DGMZOO_DATA names no folder.
    """
    entry = find(name)
    data_folder()  # a folder that does not exist is an error even where the cache has the set
    with cache.lock(name, log):
        if (cached := cache.read(name, entry.sha256)) is not None:
            return cached
        problems = []
        for location, paths, is_users_choice in _local_copies(entry):
            try:
                arrays = decode(entry, paths)
                sha256 = verify_arrays(entry, arrays, location)
            except (ValueError, OSError) as error:
                if is_users_choice:
                    raise
                problems.append(f"{location}: {error}")
                continue
            return cache.write(name, arrays, sha256), sha256
        for source in entry.sources:
            if source.kind != "copy":
                try:
                    return _fetch_and_decode(entry, source, log, progress)
                except (ConnectionError, ValueError) as error:
                    problems.append(f"{source.location}: {error}")
                    log(f"{problems[-1]}; trying the next source")
    raise FileNotFoundError(
        "\n  ".join(
            [
                f"expected {name} in the cache, under DGMZOO_DATA or from one of its sources, got it from none:",
                *(problems or [f"no public source is known; {entry.use}"]),
                f"put {', '.join(entry.files)} into $DGMZOO_DATA/{entry.folder}/ by hand",
            ]
        )
    )


def _fetch_and_decode(entry: Entry, source: Source, log: Log, progress: Progress | None) -> tuple[Arrays, str]:
    """Fetch a set from one source, decode, verify and cache it; a resumed download of other content is repeated."""
    folder = cache.root() / "downloads" / entry.name
    log(
        f"fetching {entry.name} from {source.location} ({source.kind}), about {entry.download_bytes / 1e6:.1f} MB, "
        f"to {cache.root()}"
    )
    for _ in range(2):
        paths, resumed = download.download_files(entry, source, folder, progress)
        try:
            arrays = decode(entry, paths)
            sha256 = verify_arrays(entry, arrays, source.location)
        except ValueError:
            shutil.rmtree(folder, ignore_errors=True)
            if not resumed:
                raise
            log(f"the download resumed from {source.location} does not fit together; fetching it again from the start")
            continue
        cached = cache.write(entry.name, arrays, sha256)
        shutil.rmtree(folder, ignore_errors=True)
        return cached, sha256
    raise ValueError(f"expected {entry.name} from {source.location}, got other content twice")


def _local_copies(entry: Entry) -> Iterator[tuple[str, dict[str, Path], bool]]:
    """Local places that have all of a set's files, in order of preference: (location, paths, chosen by the user)."""
    if not entry.files:
        yield "this installation", {}, True
    if folder := data_folder():
        if paths := _find_files(folder / entry.folder, entry):
            yield str(folder / entry.folder), paths, True
    for source in entry.sources:
        if source.kind == "copy" and (paths := _find_files(_folder(source.location), entry, source.files)):
            yield source.location, paths, False


def data_folder() -> Path | None:
    """The folder that DGMZOO_DATA names; None if it is unset.

    Raises:
      FileNotFoundError: there is no such folder.
    """
    value = os.environ.get("DGMZOO_DATA")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"expected DGMZOO_DATA to name a folder of data sets, got {value}, which is none; create it, or unset it"
        )
    return folder


def _folder(location: str) -> Path:
    """The folder of a `copy` source; `{package}` at its start is the folder of that Python package (not imported)."""
    if location.startswith("{"):
        package, _, rest = location[1:].partition("}")
        spec = importlib.util.find_spec(package)
        return Path((spec.submodule_search_locations or [""])[0] + rest) if spec else Path("/nonexistent")
    return Path(location).expanduser()


def _find_files(folder: Path, entry: Entry, name_map: Mapping[str, str] | None = None) -> dict[str, Path] | None:
    """Name -> path of a complete list of an entry's files in `folder`, or None.

    Args:
      name_map: name that the decoder uses -> path in `folder`; None: each of the entry's lists of files.
    """
    lists = [entry.files, *entry.alternatives]
    for names in [name_map] if name_map else [{name: name for name in names} for names in lists]:
        paths = {}
        for name, inside in names.items():
            if path := next((p for p in (folder / inside, folder / f"{inside}.gz") if p.is_file()), None):
                paths[name] = path
        if len(paths) == len(names):
            return paths
    return None


def decode(entry: Entry, paths: Mapping[str, Path]) -> Arrays:
    """Decode a set's files into arrays, by the decoder that its entry names.

    Raises:
      ValueError: the files differ from the published ones.
    """
    module, _, function = entry.decoder.rpartition(".")
    decoder = getattr(importlib.import_module(f"dgmzoo.data.{module}"), function)
    try:
        return decoder(paths, entry)
    except (LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError) as error:
        # Decoders check for the damage that is known. Other content in an intact container may raise any of these.
        folders = ", ".join(sorted({str(path.parent) for path in paths.values()}))
        raise ValueError(
            f"expected the files of {entry.name} as published, got others in {folders} ({error!r}); fetch them again"
        ) from error


def verify_arrays(entry: Entry, arrays: Arrays, location: str) -> str:
    """Verify decoded arrays against the registry and return their digest.

    Args:
      location: origin of the arrays, for messages.

    Raises:
      ValueError: other splits, shapes or dtypes, or another digest.
    """
    rows = {key[:-2]: a for key, a in arrays.items() if key.endswith("/x")}
    if {split: len(a) for split, a in rows.items()} != dict(entry.splits):
        sizes = ", ".join(f"{split} {len(a)}" for split, a in rows.items())
        raise ValueError(f"expected {entry.name} with rows {dict(entry.splits)}, got {sizes} from {location}")
    for split, a in rows.items():
        has_shape = len(a.shape) == len(entry.shape) + 1 and all(
            expected in (0, size) for expected, size in zip(entry.shape, a.shape[1:], strict=True)
        )
        if a.dtype != entry.dtype or not has_shape:
            raise ValueError(
                f"expected {entry.name} {split} as {entry.dtype} {entry.shape}, got {a.dtype} {a.shape[1:]} "
                f"from {location}"
            )
    sha256 = cache.digest(arrays)
    if entry.sha256 is not None and sha256 != entry.sha256:
        raise ValueError(
            f"expected {entry.name} with content sha256 {entry.sha256[:16]}, got {sha256[:16]} from {location}; the "
            f"files are altered or another variant: replace them, or give their path as your own data"
        )
    return sha256


def local_copy(name: str) -> str | None:
    """Location of a local copy of a registered set, or None if the set would have to be fetched; nothing is decoded.

    >>> local_copy("toy_moons")
    'this installation'
    """
    entry = find(name)
    with contextlib.suppress(OSError):
        if (cache.root() / name / "manifest.json").is_file():
            return str(cache.root() / name)
    return next((location for location, _, _ in _local_copies(entry)), None)


def fetch(name: str, log: Log = silent_log, progress: Progress | None = None) -> Path:
    """Bring a registered set into the cache, unless it is there, and return its folder.

    Args:
      log, progress: as `load_arrays`.

    Raises:
      ValueError, FileNotFoundError: as `load_arrays`.
      OSError: the cache cannot be written.
    """
    load_arrays(name, log, progress)
    folder = cache.root() / name
    if not (folder / "manifest.json").is_file():
        raise OSError(f"expected {name} to be kept in {folder}, got a cache that cannot be written; set DGMZOO_CACHE")
    return folder


def verify(name: str, log: Log = silent_log) -> str:
    """Compute the digest of a local copy of a registered set from every byte, and verify it.

    Raises:
      ValueError: content differs from the published one (or, where its digest is unknown, from the decoded one); a
        damaged cached copy is not used again.
      FileNotFoundError: there is no local copy.
    """
    entry = find(name)
    with cache.lock(name, log):
        if (cached := cache.read(name, entry.sha256, recompute=True)) is not None:
            return cached[1]
        for location, paths, _ in _local_copies(entry):
            return verify_arrays(entry, decode(entry, paths), location)
    raise FileNotFoundError(
        f"expected {name} in {cache.root()} or under DGMZOO_DATA; `dgmzoo data fetch {name}` brings it"
    )
