"""Trainings that are interrupted, and comparisons of their files with those of an uninterrupted training."""

import contextlib
import csv
import dataclasses
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.command import ROOT, SMALL, environment


class Failure(AssertionError):
    """A training did not survive a fault as it should."""


class NotPossible(Exception):
    """A fault that this machine cannot produce."""


def expect(condition: bool, message: str) -> None:
    """Raise `Failure` unless the condition holds."""
    if not condition:
        raise Failure(message)


# Files of a run


def checkpoint_of(run_dir: Path) -> tuple[int, dict[str, Any], Any]:
    """Step, bookkeeping and arrays of the newest checkpoint."""
    import orbax.checkpoint as ocp

    latest = run_dir / "checkpoints" / "latest"
    step = max(int(path.name) for path in latest.iterdir() if path.name.isdigit())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = ocp.args.Composite(tree=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore())
        checkpoint = checkpointer.restore((latest / str(step)).absolute(), args=items)
    return step, checkpoint["progress"], checkpoint["tree"]


def progress_of(run_dir: Path) -> dict[str, Any]:
    """The bookkeeping of the newest checkpoint."""
    return checkpoint_of(run_dir)[1]


def state_of(run_dir: Path) -> dict[str, Any]:
    """Step, bookkeeping, and the bytes of every array of the newest checkpoint."""
    import jax

    step, progress, tree = checkpoint_of(run_dir)
    depends_on_time = ("seconds", "first")
    values = {name: repr(value) for name, value in progress.items() if name not in depends_on_time}
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}
    return {"step": step, **values, **arrays}


def rows_of(run_dir: Path) -> list[dict]:
    """The rows of the metrics without their seconds."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def steps_of_rows(run_dir: Path) -> list[int]:
    """Steps of the complete rows of the metrics; the last row may be half-written."""
    path = run_dir / "metrics.jsonl"
    return [int(step) for step in re.findall(r'"step": (\d+),.*}\n', path.read_text())] if path.exists() else []


def written_of(run_dir: Path) -> tuple[list[dict], set[tuple]]:
    """Content of `metrics.csv` and of the event files, without seconds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (run_dir / "metrics.csv").open(newline="") as file:
        table = [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    tags = events.Tags()["scalars"]
    scalars = [(tag, scalar.step, scalar.value) for tag in tags for scalar in events.Scalars(tag)]
    expect(len(scalars) == len(set(scalars)), "scalars are doubled in the event file")
    return table, set(scalars)


def checkpoints_of(run_dir: Path) -> tuple[list[int], list[str]]:
    """Steps of the complete checkpoints, and the names of incomplete ones."""
    directories = [path for path in (run_dir / "checkpoints/latest").glob("*") if path.is_dir()]
    complete = [path.name for path in directories if (path / "manifest.json").exists()]
    return sorted(map(int, complete)), sorted({path.name for path in directories} - set(complete))


# Trainings

LONG = (
    "--training.epochs", "40", "--training.batch-size", "104", "--training.validate-epochs", "2",
    "--training.patience", "9999", "--training.ema", ".9", "--execution.dispatch", "4", "--writers", "csv", "tensorboard",
)  # fmt: skip


@dataclasses.dataclass
class Reference:
    """An uninterrupted training, and commands that run the same training in other directories.

    Attributes:
      root: directory for run directories.
      kills: number of kills in a fault that kills.
      chance: source of random moments.
      options: options of the command beside those of a small network.
    """

    root: Path
    kills: int = 1
    chance: random.Random = dataclasses.field(default_factory=random.Random)
    options: tuple[str, ...] = LONG

    def __post_init__(self):
        self.words = ("train", "vae/digits", *SMALL, *self.options)
        self.uninterrupted = self.root / "uninterrupted"
        completed = self.run(self.uninterrupted, frequent=False)
        expect(completed.returncode == 0, completed.stderr)

    @property
    def end(self) -> int:
        """The last step of the training."""
        return rows_of(self.uninterrupted)[-1]["step"]

    def line(self, run_dir: Path, *words: str, setup: str | None = None, frequent: bool = True) -> list[str]:
        """The command line.

        Args:
          setup: Python code that the process runs first.
          frequent: write a checkpoint after every dispatch.
        """
        code = f"{setup}\nfrom dgmzoo.command.main import main\nmain()"
        start = ["-m", "dgmzoo"] if setup is None else ["-c", code]
        interval = ("--execution.checkpoint-seconds", "0") if frequent else ()
        return [sys.executable, *start, *self.words, *interval, "--run-dir", str(run_dir), *words]

    def run(self, run_dir: Path, *words: str, **line_options) -> subprocess.CompletedProcess:
        """Run the command to its end."""
        line = self.line(run_dir, *words, **line_options)
        return subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)

    @contextlib.contextmanager
    def started(self, run_dir: Path, *words: str, **line_options) -> Iterator[subprocess.Popen]:
        """Run the command during the block, and kill it at the end."""
        line, pipe = self.line(run_dir, *words, **line_options), subprocess.PIPE
        child = subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=pipe, stderr=pipe, text=True)
        try:
            yield child
        finally:
            child.kill()
            child.communicate()

    def wait(self, child: subprocess.Popen, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, or the child has ended."""
        while child.poll() is None and not condition():
            time.sleep(0.01)

    def wait_for_checkpoint(self, child: subprocess.Popen, run_dir: Path, after: int = 0) -> None:
        """Wait for a complete checkpoint past a step, or the end of the child."""
        self.wait(child, lambda: max(checkpoints_of(run_dir)[0], default=0) > after)

    def finish(self, run_dir: Path) -> str:
        """Resume to the end, compare the files with those of the uninterrupted training; the standard error."""
        completed = self.run(run_dir, frequent=False)
        expect(completed.returncode == 0, completed.stderr)
        self.compare(run_dir)
        return completed.stderr

    def compare(self, run_dir: Path) -> None:
        """Expect the files of the uninterrupted training, bit for bit, apart from times."""
        state, expected = state_of(run_dir), state_of(self.uninterrupted)
        expect(len(expected) > 20 and state.keys() == expected.keys(), "the last checkpoint holds other arrays")
        expect(state == expected, f"other bits in {[name for name in state if state[name] != expected[name]]}")
        rows = rows_of(run_dir)
        expect(rows == rows_of(self.uninterrupted), "metrics.jsonl differs")
        if "--writers" in self.words:
            written = written_of(run_dir)
            expect(written == written_of(self.uninterrupted), "metrics.csv or the events differ")
            losses = [row["loss"] for row in written[0]]
            expect(losses == [str(row["loss"]) for row in rows], "metrics.csv differs from metrics.jsonl")
        result, reference = (json.loads((path / "result.json").read_text()) for path in (run_dir, self.uninterrupted))
        names = ("value", "steps", "train_value")
        expect(all(result[name] == reference[name] for name in names), "the result differs")
