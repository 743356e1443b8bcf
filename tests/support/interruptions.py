"""Trainings to which something happens, and how to tell whether they came out of it unharmed."""

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


class Lost(AssertionError):
    """A fault was not survived as it should be."""


class Skipped(Exception):
    """A fault that this machine cannot have."""


def expect(holds: bool, otherwise: str) -> None:
    """Raise Lost."""
    if not holds:
        raise Lost(otherwise)


# What a run leaves


def state_of(run_dir: Path) -> dict[str, Any]:
    """Every array of the newest checkpoint, bit for bit, and the bookkeeping beside it."""
    import jax
    import orbax.checkpoint as ocp

    latest = run_dir / "checkpoints" / "latest"
    step = max(int(path.name) for path in latest.iterdir() if path.name.isdigit())
    with ocp.CheckpointManager(latest.absolute()) as manager:
        args = ocp.args.Composite(tree=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore())
        found = manager.restore(step, args=args)
    when = ("seconds", "first")  # these tell when it was saved
    progress = {name: repr(value) for name, value in found["progress"].items() if name not in when}
    leaves = jax.tree_util.tree_leaves_with_path(found["tree"])
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}
    return {"step": step, **progress, **arrays}


def rows_of(run_dir: Path) -> list[dict]:
    """The metrics without their seconds."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def steps_of_rows(run_dir: Path) -> list[int]:
    """Steps of the metrics so far; the last row may be half-written."""
    path = run_dir / "metrics.jsonl"
    return [int(step) for step in re.findall(r'"step": (\d+),.*}\n', path.read_text())] if path.exists() else []


def written_of(run_dir: Path) -> tuple[list[dict], set[tuple]]:
    """What `metrics.csv` and the event files hold, without seconds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (run_dir / "metrics.csv").open(newline="") as file:
        table = [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    scalars = [(tag, each.step, each.value) for tag in events.Tags()["scalars"] for each in events.Scalars(tag)]
    expect(len(scalars) == len(set(scalars)), "scalars are doubled in the event file")
    return table, set(scalars)


def checkpoints_of(run_dir: Path) -> tuple[list[int], list[str]]:
    """Steps of the checkpoints that are whole, and the names of what is half-written."""
    found = [path for path in (run_dir / "checkpoints/latest").glob("*") if path.is_dir()]
    whole = [path for path in found if (path / "manifest.json").exists()]
    return sorted(int(path.name) for path in whole), sorted({path.name for path in found} - {p.name for p in whole})


# The ground on which it happens


@dataclasses.dataclass
class Ground:
    """A training that nothing befell, and how to start others like it."""

    root: Path
    kills: int
    chance: random.Random

    def __post_init__(self):
        self.words = ("train", "vae/digits", *SMALL, "--training.epochs", "40")
        self.words += ("--training.batch-size", "104", "--training.steps-per-dispatch", "4", "--training.ema", ".9")
        self.words += (
            "--training.validate-epochs",
            "2",
            "--training.patience",
            "9999",
            "--writers",
            "csv",
            "tensorboard",
        )
        self.whole = self.root / "whole"
        done = self.run(self.whole, frequent=False)
        expect(done.returncode == 0, done.stderr)

    def line(self, run_dir: Path, *words: str, child: str | None = None, frequent: bool = True) -> list[str]:
        """The command line, or one that first runs the Python of `child`."""
        start = ["-m", "dgmzoo"] if child is None else ["-c", f"{child}\nfrom dgmzoo import cli\ncli.main()"]
        every = ("--training.checkpoint-seconds", "0") if frequent else ()
        return [sys.executable, *start, *self.words, *every, "--run-dir", str(run_dir), *words]

    def run(self, run_dir: Path, *words: str, **how) -> subprocess.CompletedProcess:
        """To its end."""
        line = self.line(run_dir, *words, **how)
        return subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)

    @contextlib.contextmanager
    def started(self, run_dir: Path, *words: str, **how) -> Iterator[subprocess.Popen]:
        """Running, until the block ends."""
        line, pipe = self.line(run_dir, *words, **how), subprocess.PIPE
        child = subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=pipe, stderr=pipe, text=True)
        try:
            yield child
        finally:
            child.kill()
            child.communicate()

    def wait(self, child: subprocess.Popen, holds: Callable[[], bool]) -> None:
        """Until something holds, or the child has ended."""
        while child.poll() is None and not holds():
            time.sleep(0.01)

    def wait_for_step(self, child: subprocess.Popen, run_dir: Path, after: int = 0) -> None:
        """Until there is a whole checkpoint past a step."""
        self.wait(child, lambda: max(checkpoints_of(run_dir)[0], default=0) > after)

    def finish(self, run_dir: Path) -> None:
        """The same command goes on to the end, and what it leaves is what the whole run left."""
        done = self.run(run_dir, frequent=False)
        expect(done.returncode == 0, done.stderr)
        self.compare(run_dir)

    def compare(self, run_dir: Path) -> None:
        """Everything but the seconds is that of the whole run, bit for bit."""
        ours, theirs = state_of(run_dir), state_of(self.whole)
        expect(len(theirs) > 20 and ours.keys() == theirs.keys(), "the last checkpoint holds other arrays")
        expect(ours == theirs, f"other bits in {[name for name in ours if ours[name] != theirs[name]]}")
        expect(rows_of(run_dir) == rows_of(self.whole), "metrics.jsonl differs")
        expect(written_of(run_dir) == written_of(self.whole), "metrics.csv or the events differ")
        table, rows = written_of(run_dir)[0], rows_of(run_dir)
        expect([row["loss"] for row in table] == [str(row["loss"]) for row in rows], "metrics.csv is not metrics.jsonl")
        found, expected = (json.loads((path / "result.json").read_text()) for path in (run_dir, self.whole))
        expect(all(found[name] == expected[name] for name in ("value", "steps", "train_value")), "another result")
