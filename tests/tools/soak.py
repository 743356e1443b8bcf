"""A long training: whether its memory grows, and whether it slows.

    python -m tests.tools.soak RUN_DIR NAME [OPTIONS]      as `dgmzoo train NAME OPTIONS`, watched

Prints, for each tenth of the training, the memory of the process and the steps per second; all readings go to
`RUN_DIR/soak.csv`.
"""

import csv
import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dgmzoo.training.run_directory import RunDirectory

EVERY = 20.0  # seconds


def memory(process: int) -> int | None:
    """Bytes that a process holds; None where it has just ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    held = next((line for line in lines if line.startswith("VmRSS")), None)
    return held and int(held.split()[1]) * 1024


def watch(run_dir: Path, words: list[str]) -> list[tuple[float, int, int]]:
    """Train, and read (seconds, step, bytes) until the training ends."""
    start, readings = time.monotonic(), []
    command = [sys.executable, "-m", "dgmzoo", "train", *words, "--run-dir", str(run_dir)]
    with subprocess.Popen(command) as child:
        while child.poll() is None:
            time.sleep(EVERY)
            rows = [row for row in RunDirectory(run_dir).metrics() if row["split"] == "train"]
            new = rows and child.poll() is None and not (readings and rows[-1]["step"] == readings[-1][1])
            if new and (held := memory(child.pid)):
                readings.append((time.monotonic() - start, rows[-1]["step"], held))
    if child.returncode:
        raise SystemExit(child.returncode)
    return readings


def main() -> None:
    """Watch and print."""
    run_dir, words = Path(sys.argv[1]), sys.argv[2:]
    readings = watch(run_dir, words)
    with (run_dir / "soak.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("seconds", "step", "bytes"), *readings])
    rows = [row for row in RunDirectory(run_dir).metrics() if row["split"] == "train"]
    table = Table("part", "minutes", "memory [MB]", "steps per second", box=None, pad_edge=False)
    for tenth in range(10):
        held = readings[len(readings) * tenth // 10 : len(readings) * (tenth + 1) // 10]
        part = rows[len(rows) * tenth // 10 : len(rows) * (tenth + 1) // 10]
        pairs = itertools.pairwise(part)
        pace = [(b["step"] - a["step"]) / (b["seconds"] - a["seconds"]) for a, b in pairs]
        if held and pace:
            spread = f"{min(each[2] for each in held) / 1e6:.0f} to {max(each[2] for each in held) / 1e6:.0f}"
            table.add_row(f"{tenth + 1}", f"{held[-1][0] / 60:.1f}", spread, f"{statistics.median(pace):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
