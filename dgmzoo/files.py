"""`write_bytes`: replace a file atomically; `read_json`: read JSON; `CannotWrite`: the error of a failed write."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAX_JSON_BYTES = 1 << 24


class CannotWrite(OSError):
    """A file could not be written: the disk is full, a limit is reached, or the folder is gone.

    >>> CannotWrite(Path("run/result.json"), "No space left on device").reason
    'No space left on device'
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(
            f"could not write {path} ({reason}); complete files are kept: make room, and give the same command again to "
            "resume"
        )
        self.path, self.reason = path, reason


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a `CannotWrite` that names `path`.

    >>> with contextlib.suppress(CannotWrite), writing(Path("/proc/file")):
    ...     Path("/proc/file").write_text("")
    """
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error.strerror or str(error)) from error


def read_json(path: Path) -> Any:
    """Read JSON from a file of at most 16 MB.

    Raises:
      ValueError: the file is larger, or does not hold JSON.
    """
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(f"expected a small JSON file, got {path} of {path.stat().st_size} bytes")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got something else ({error})") from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, as `write_bytes` does.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_json(Path(directory) / "result.json", {"value": 81.5})
    ...     read_json(Path(directory) / "result.json")
    {'value': 81.5}
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically; on return the new content is on disk.

    Raises:
      CannotWrite: the file keeps its former content.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()  # make room
            raise


def append_text(path: Path, text: str) -> None:
    """Append a text to a file; on return it is on disk.

    Raises:
      CannotWrite: part of the text may have been written.
    """
    with writing(path), path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
