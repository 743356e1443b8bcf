"""A long training whose memory and speed are recorded, to see that neither changes.

    python -m tests.tools.soak RUN_DIR NAME [OPTIONS]      as `dgmzoo train NAME OPTIONS`

Prints, for each tenth of the training, the memory of the process and the steps per second; all readings go to
`RUN_DIR/soak.csv`.
"""

import argparse
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

INTERVAL = 20.0  # seconds between readings


def resident_memory(process: int) -> int | None:
    """Bytes of resident memory of a process; None if it has just ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    line = next((line for line in lines if line.startswith("VmRSS")), None)
    return line and int(line.split()[1]) * 1024


def train_and_record(run_dir: Path, words: list[str], interval: float) -> list[tuple[float, int, int]]:
    """Train, and return readings of (seconds, step, bytes)."""
    start, readings = time.monotonic(), []
    command = [sys.executable, "-m", "dgmzoo", "train", *words, "--run-dir", str(run_dir)]
    with subprocess.Popen(command) as child:
        while child.poll() is None:
            time.sleep(interval)
            rows = [row for row in RunDirectory(run_dir).metrics() if row["split"] == "train"]
            has_new_row = rows and not (readings and rows[-1]["step"] == readings[-1][1])
            if has_new_row and child.poll() is None and (size := resident_memory(child.pid)):
                readings.append((time.monotonic() - start, rows[-1]["step"], size))
    if child.returncode:
        raise SystemExit(child.returncode)
    return readings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run directory")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between readings (before RUN_DIR)")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="NAME [OPTIONS]", help="words of `dgmzoo train`")
    options = parser.parse_args()
    readings = train_and_record(options.run_dir, options.words, options.interval)
    with (options.run_dir / "soak.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("seconds", "step", "bytes"), *readings])
    rows = [row for row in RunDirectory(options.run_dir).metrics() if row["split"] == "train"]
    table = Table("part", "minutes", "memory [MB]", "steps per second", box=None, pad_edge=False)
    for i in range(10):
        tenth = readings[len(readings) * i // 10 : len(readings) * (i + 1) // 10]
        pairs = itertools.pairwise(rows[len(rows) * i // 10 : len(rows) * (i + 1) // 10])
        speeds = [(b["step"] - a["step"]) / (b["seconds"] - a["seconds"]) for a, b in pairs]
        if tenth and speeds:
            sizes = [size / 1e6 for _, _, size in tenth]
            memory = f"{min(sizes):.0f} to {max(sizes):.0f}"
            table.add_row(f"{i + 1}", f"{tenth[-1][0] / 60:.1f}", memory, f"{statistics.median(speeds):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
