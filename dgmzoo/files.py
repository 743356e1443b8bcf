"""Small files, written whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class CannotWrite(OSError):
    """A file could not be written: the disk is full, a limit is reached, the place is gone."""

    def __init__(self, path: Path, reason: str):
        super().__init__(
            f"could not write {path} ({reason}); what was complete before is kept: make room for it there, and give the "
            "same command again"
        )
        self.path, self.reason = path, reason


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a CannotWrite that names `path`."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(path, error.strerror or str(error)) from error


def read_json(path: Path) -> Any:
    """JSON from a file of at most 16 MB."""
    if path.stat().st_size > 1 << 24:
        raise ValueError(f"expected a small JSON file, got {path} of {path.stat().st_size} bytes")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, got something else ({error})") from None


def write_json(path: Path, value: Any) -> None:
    """Write a whole file or none."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or none.

    Raises:
      CannotWrite: what was there before is still there.
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
                temporary.unlink()  # it takes room
            raise


def append_text(path: Path, text: str) -> None:
    """Add to a file; on disk when this returns.

    Raises:
      CannotWrite: part of it may be there.
    """
    with writing(path), path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
