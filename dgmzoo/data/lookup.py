"""A registered set by its name: found, fetched, decoded, and its content checked.

Looked for in this order: the cache, DGMZOO_DATA, copies that other libraries left, then the sources of its
entry one by one.
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


def silent(message: str) -> None:
    """A log that tells nobody."""


def arrays(name: str, log: Log = silent, progress: Progress | None = None) -> tuple[Arrays, str]:
    """A set's decoded arrays `{"train/x": [N, ...], ...}`, mapped from the cache, and their digest.

    Args:
      log: told what is fetched, from where and how much.
      progress: (file, bytes so far, bytes in all or None), while a file comes in.

    Raises:
      ValueError: unknown name, or a file under DGMZOO_DATA is not what was published.
      FileNotFoundError: no source has the set; says what each of them answered.
    """
    known = find(name)
    with cache.lock(name, log):
        if (cached := cache.read(name, known.sha256)) is not None:
            return cached
        problems = []
        for origin, paths, named in _at_hand(known):
            try:
                decoded = decode(known, paths)
                found = check(known, decoded, origin)
            except (ValueError, OSError) as error:
                if named:
                    raise
                problems.append(f"{origin}: {error}")
                continue
            return cache.write(name, decoded, found), found
        for source in known.sources:
            if source.kind != "copy":
                try:
                    return _fetched(known, source, log, progress)
                except (ConnectionError, ValueError) as error:
                    problems.append(f"{source.where}: {error}")
                    log(f"{problems[-1]}; trying the next source")
    raise FileNotFoundError(
        "\n  ".join(
            [
                f"expected {name} in the cache, under DGMZOO_DATA or from one of its sources, got it from none:",
                *(problems or [f"no public source is known; {known.use}"]),
                f"put {', '.join(known.files)} into $DGMZOO_DATA/{known.folder}/ by hand",
            ]
        )
    )


def _fetched(known: Entry, source: Source, log: Log, progress: Progress | None) -> tuple[Arrays, str]:
    folder = cache.root() / "downloads" / known.name
    log(
        f"fetching {known.name} from {source.where} ({source.kind}), about {known.size / 1e6:.1f} MB, to {cache.root()}"
    )
    for _ in range(2):
        paths, resumed = download.fetch(known, source, folder, progress)
        try:
            decoded = decode(known, paths)
            found = check(known, decoded, source.where)
        except ValueError:
            shutil.rmtree(folder, ignore_errors=True)
            if not resumed:
                raise
            log(f"what was gone on with from {source.where} does not fit together; fetching it anew")
            continue
        kept = cache.write(known.name, decoded, found)
        shutil.rmtree(folder, ignore_errors=True)
        return kept, found
    raise ValueError(f"expected {known.name} from {source.where}, got other content twice")


def _at_hand(known: Entry) -> Iterator[tuple[str, dict[str, Path], bool]]:
    """Local places that have all of a set's files, nearest first: (where, files, named by the user)."""
    if not known.files:
        yield "this installation", {}, True
    if (place := os.environ.get("DGMZOO_DATA")) and (paths := _there(Path(place).expanduser() / known.folder, known)):
        yield str(Path(place) / known.folder), paths, True
    for source in known.sources:
        if source.kind == "copy" and (paths := _there(_place(source.where), known, source.files)):
            yield source.where, paths, False


def _place(where: str) -> Path:
    """A folder; `{package}` at its start is where that Python package is installed (it is not imported)."""
    if where.startswith("{"):
        package, _, rest = where[1:].partition("}")
        spec = importlib.util.find_spec(package)
        return Path((spec.submodule_search_locations or [""])[0] + rest) if spec else Path("/nonexistent")
    return Path(where).expanduser()


def _there(folder: Path, known: Entry, named: Mapping[str, str] | None = None) -> dict[str, Path] | None:
    choices = [named] if named else [{name: name for name in names} for names in (known.files, *known.also)]
    for choice in choices:
        paths = {}
        for name, inside in choice.items():
            if path := next((p for p in (folder / inside, folder / f"{inside}.gz") if p.is_file()), None):
                paths[name] = path
        if len(paths) == len(choice):
            return paths
    return None


def decode(known: Entry, paths: Mapping[str, Path]) -> Arrays:
    """A set's arrays from its files, by its decoder."""
    module, _, function = known.decoder.rpartition(".")
    decoder = getattr(importlib.import_module(f"dgmzoo.data.{module}"), function)
    try:
        return decoder(paths, known)
    except (LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError) as error:
        # A good container of the wrong things: decoders check what they can, this is for what they did not think of.
        where = ", ".join(sorted({str(path.parent) for path in paths.values()}))
        raise ValueError(
            f"expected the files of {known.name} as published, got others in {where} ({error!r}); fetch them again"
        ) from error


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
        fits = len(a.shape) == len(known.shape) + 1 and all(
            want in (0, got) for want, got in zip(known.shape, a.shape[1:], strict=True)
        )
        if a.dtype != known.dtype or not fits:
            raise ValueError(
                f"expected {known.name} {split} as {known.dtype} {known.shape}, got {a.dtype} {a.shape[1:]} "
                f"from {origin}"
            )
    found = cache.digest(decoded)
    if known.sha256 is not None and found != known.sha256:
        raise ValueError(
            f"expected {known.name} with content sha256 {known.sha256[:16]}, got {found[:16]} from "
            f"{origin}; the files "
            f"are altered or another variant: replace them, or give their path as your own data"
        )
    return found


def at_hand(name: str) -> str | None:
    """Where a set is already, or None if it would have to be fetched; nothing is decoded."""
    known = find(name)
    with contextlib.suppress(OSError):
        if (cache.root() / name / "manifest.json").is_file():
            return str(cache.root() / name)
    return next((origin for origin, _, _ in _at_hand(known)), None)


def fetch(name: str, log: Log = silent, progress: Progress | None = None) -> Path:
    """Bring a set into the cache, if it is not there; its folder.

    Raises:
      ValueError, FileNotFoundError: as `arrays`.
      OSError: the cache cannot be written.
    """
    arrays(name, log, progress)
    folder = cache.root() / name
    if not (folder / "manifest.json").is_file():
        raise OSError(f"expected {name} to be kept in {folder}, got a cache that cannot be written; set DGMZOO_CACHE")
    return folder


def verify(name: str, log: Log = silent) -> str:
    """The digest of a set at hand, computed again from every byte.

    Raises:
      ValueError: content differs from what was published (or, where that is unknown, from what was decoded); a cached
        copy that does is not used again.
      FileNotFoundError: the set is not at hand.
    """
    known = find(name)
    with cache.lock(name, log):
        if (cached := cache.read(name, known.sha256, again=True)) is not None:
            return cached[1]
        for origin, paths, _ in _at_hand(known):
            return check(known, decode(known, paths), origin)
    raise FileNotFoundError(
        f"expected {name} in {cache.root()} or under DGMZOO_DATA; `dgmzoo data fetch {name}` brings it"
    )
