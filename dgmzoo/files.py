"""Small files, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


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
    """Write a whole file or none."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
