"""Prints the results of one evaluation or of several seeds; `console`: where tables are printed; `keep_programs`."""

import hashlib
import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgmzoo.data.cache import root

_WIDE = 10_000  # columns, so that an entry is one line


def print_record(record: dict[str, Any], run_dir: Path) -> None:
    """Print the result in one sentence, and the published figure beside it."""
    from dgmzoo.report.html import headline, published_line, subject

    parts = (record[name] for name in ("model", "dataset", "objective", "objective_samples"))
    print(f"{run_dir}: {subject(*parts)}: {headline(record)}")
    if text := published_line(record):
        print(text)


def print_seeds(records: Sequence[Mapping[str, Any]]) -> None:
    """Print mean and standard deviation of the values of several seeds.

    >>> print_seeds([{"value": 1.0, "seed": 0}, {"value": 2.0, "seed": 1}])
    2 seeds: mean 1.500, standard deviation 0.707 nats (seeds 0, 1)
    """
    values = [record["value"] for record in records]
    if len(values) < 2 or None in values:
        return
    seeds = ", ".join(str(record["seed"]) for record in records)
    print(
        f"{len(values)} seeds: mean {statistics.mean(values):.3f}, standard deviation {statistics.stdev(values):.3f} nats "
        f"(seeds {seeds})"
    )


def console() -> Any:
    """The console of tables on standard output: as wide as the terminal, and unlimited where it is a pipe or a file."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=_WIDE)


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
