"""`print_record`: print the result of an evaluation; `keep_programs`: keep JAX's compiled programs on disk."""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from dgmzoo.data.cache import root


def print_record(record: dict[str, Any], run_dir: Path) -> None:
    """Print the result in one sentence, and the published figure beside it."""
    from dgmzoo.report.html import headline, published_line

    print(f"{record['experiment'] or run_dir}: {headline(record)}")
    if text := published_line(record):
        print(text)


def keep_programs() -> None:
    """Keep compiled programs between processes, by JAX version and kind of CPU, so that a second start is quicker."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    kind = hashlib.sha256((platform.machine() + flags).encode()).hexdigest()[:8]
    folder = root() / f"programs-{importlib.metadata.version('jax')}-{kind}"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
