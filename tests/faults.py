"""What befalls a training: kills, full disks, closed folders, rivals, clocks that jump, orders to stop.

`python -m tests.faults [--kills 20] [--seed N]` lets all of it happen to trainings of a small net and tells what came of it
in a table; it exits with 1 if anything was lost. `test_faults.py` is a short form.
"""

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dgmzoo
from tests.command import ROOT, SMALL, environment


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
    step = max(int(path.name) for path in latest.iterdir())
    with ocp.CheckpointManager(latest.absolute()) as manager:
        args = ocp.args.Composite(tree=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore())
        found = manager.restore(step, args=args)
    progress = {name: repr(value) for name, value in found["progress"].items() if name != "seconds"}
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
        self.words = ("train", "vae/digits", *SMALL, "--training.epochs", str(20 + 12 * self.kills))
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


# Faults: each returns what happened


def killed(ground: Ground, run_dir: Path) -> str:
    """SIGKILL at random moments"""
    seen = dict.fromkeys(("starting", "training", "measuring", "half-written"), 0)
    for _ in range(ground.kills):
        before = max(checkpoints_of(run_dir)[0], default=0)
        with ground.started(run_dir) as child:
            if ground.chance.random() < 0.15:
                time.sleep(ground.chance.uniform(0.1, 3))
            else:
                ground.wait_for_step(child, run_dir, before)
                time.sleep(ground.chance.uniform(0, 1))
            expect(child.poll() is None, "the training ended before it was killed")
            child.send_signal(signal.SIGKILL)
            child.wait()
        steps, half = checkpoints_of(run_dir)
        now = max(steps, default=0)
        measuring = now == rows_of(ground.whole)[-1]["step"]
        seen["starting" if now == before else "measuring" if measuring else "training"] += 1
        seen["half-written"] += bool(half)
    ground.finish(run_dir)
    half = seen.pop("half-written")
    told = ", ".join(f"{count} while {what}" for what, count in seen.items() if count)
    return f"{told}; {half} left a half-written checkpoint; finished bit for bit"


LIMIT = """
import resource, signal
from dgmzoo.training import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does
real, calls = checkpoint.Checkpoints._write, 0
def write(self, *arguments):
    global calls
    calls += 1
    if calls == {at}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
    return real(self, *arguments)
checkpoint.Checkpoints._write = write
"""


def limited(ground: Ground, run_dir: Path) -> str:
    """a limit on file sizes while a checkpoint is written"""
    at, size = ground.chance.randint(5, 20), ground.chance.choice([0, 300, 2000, 10_000])
    done = ground.run(run_dir, child=LIMIT.format(at=at, size=size))
    steps = told_of_no_room(done, run_dir)
    ground.finish(run_dir)
    return f"{size} bytes from checkpoint {at} on: exit 1, path and way out named, {steps} kept, went on bit for bit"


def told_of_no_room(done: subprocess.CompletedProcess, run_dir: Path) -> list[int]:
    """Check the message and what is kept: its steps."""
    expect(done.returncode == 1, f"expected exit 1, got {done.returncode}: {done.stderr}")
    last = done.stderr.strip().splitlines()[-1]
    expect(last.startswith(f"error: could not write {run_dir}") and "make room" in last, f"unclear: {done.stderr}")
    expect("Traceback" not in done.stderr and len(done.stderr) < 2000, f"noise: {done.stderr}")
    steps, half = checkpoints_of(run_dir)
    expect(bool(steps) and not half, f"whole: {steps}, half-written: {half}")
    expect(dgmzoo.load(run_dir).step <= steps[-1], "what was kept is not what is loaded")
    return steps


def filled(ground: Ground, run_dir: Path) -> str:
    """a file system without room"""
    run_dir.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", run_dir], capture_output=True, text=True
    )
    if mounted.returncode:
        raise Skipped(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        inner, ballast = run_dir / "run", run_dir / "ballast"
        with ground.started(inner) as child:
            ground.wait_for_step(child, inner, after=12 * ground.chance.randint(1, 5))
            expect(child.poll() is None, "the training ended before its disk was full")
            room = ground.chance.choice([0, 4096, 20_000])
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            os.truncate(ballast, ballast.stat().st_size - room)
            out, err = child.communicate(timeout=120)
        done = subprocess.CompletedProcess([], child.returncode, out, err)
        steps = told_of_no_room(done, inner)
        ballast.unlink()
        ground.finish(inner)
    finally:
        subprocess.run(["umount", run_dir], check=True)
    what = re.search(r"could not write \S*?/run/(\S+)", done.stderr)[1]
    return f"{room} bytes left: stopped at {what}, exit 1, {steps} kept, went on bit for bit"


def closed(ground: Ground, run_dir: Path) -> str:
    """a run directory that cannot be written"""
    run_dir.mkdir()
    (run_dir / "file").write_text("")
    sealed = run_dir / "sealed"
    sealed.mkdir(mode=0o555)
    places = {"below a file": run_dir / "file" / "run", "in /proc": Path("/proc/run")}
    chattr = shutil.which("chattr")
    immutable = chattr and subprocess.run([chattr, "+i", sealed], capture_output=True).returncode == 0
    if immutable or os.geteuid():
        places["immutable" if immutable else "read-only"] = sealed
    try:
        done = ground.run(places["below a file"])
        expect(done.returncode == 2 and "Traceback" not in done.stderr, f"exit {done.returncode}: {done.stderr}")
        expect("error: expected a run directory that can be written" in done.stderr, f"unclear: {done.stderr}")
        for what, place in places.items():
            heard = []
            try:
                dgmzoo.train("vae/digits", place, progress=False, writers=[heard.append])
            except ValueError as error:
                expect("that can be written" in str(error) and str(place) in str(error), f"{what}: unclear: {error}")
            else:
                raise Lost(f"{what}: it trained")
            expect(not heard, f"{what}: it trained before it looked")
    finally:
        if immutable:
            subprocess.run([chattr, "-i", sealed], check=True)
    return f"{', '.join(places)}: exit 2 before training"


def rivals(ground: Ground, run_dir: Path) -> str:
    """a second process in the same run directory"""
    with ground.started(run_dir, frequent=False) as first:
        ground.wait(first, lambda: len(steps_of_rows(run_dir)) > 2)
        expect(first.poll() is None, "the first ended before the second began")
        first.send_signal(signal.SIGSTOP)  # it has time
        second = ground.run(run_dir, frequent=False)
        first.send_signal(signal.SIGCONT)
        expect(second.returncode == 2 and "another process trains into it" in second.stderr, second.stderr)
        _, err = first.communicate(timeout=600)
        expect(first.returncode == 0, err)
    ground.compare(run_dir)
    return "refused with exit 2; the first finished bit for bit"


JUMPS = """
import random, time, types
from dgmzoo.training import clock, writers
chance, offset = random.Random({seed}), 0.0
def jumping(now):
    def read():
        global offset
        if chance.random() < .1:
            offset += chance.choice([-1, 1]) * chance.uniform(0, 9e4)
        return now() + offset
    return read
clock.time = writers.time = types.SimpleNamespace(monotonic=jumping(time.monotonic), time=jumping(time.time))
"""


def jumped(ground: Ground, run_dir: Path) -> str:
    """a clock that jumps by hours, back and forth"""
    screen, terminal = pty.openpty()  # so that the progress bar is there
    child = subprocess.Popen(
        ground.line(run_dir, child=JUMPS.format(seed=ground.chance.random()), frequent=False),
        cwd=ROOT, env=environment(TERM="xterm"), stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while part := os.read(screen, 1 << 16):
            shown += part
    os.close(screen)
    told = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode(errors="replace"))
    expect(child.wait(timeout=600) == 0 and "Traceback" not in told, told[-2000:])
    ground.compare(run_dir)
    seconds = [json.loads(line)["seconds"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    expect(seconds == sorted(seconds) and seconds[0] >= 0, f"time ran backwards: {seconds}")
    speeds = re.findall(r"(-?[\d,.]+) steps/s +(-?)[\d:days, ]+ left", told)
    expect(bool(speeds) and not any(speed.startswith("-") or minus for speed, minus in speeds), f"odd speeds: {speeds}")
    return f"{seconds[-1] / 3600:.0f} hours passed, speed and time left stayed sane, finished bit for bit"


def stopped(ground: Ground, run_dir: Path) -> str:
    """SIGTERM, while training and while measuring"""
    with ground.started(run_dir, frequent=False) as child:  # so that only the signal writes a checkpoint
        ground.wait(child, lambda: len(steps_of_rows(run_dir)) > 2)
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=120)
    steps, half = checkpoints_of(run_dir)
    expect(child.returncode == 143 and "Traceback" not in err, f"exit {child.returncode}: {err}")
    expect(len(steps) == 1 and not half, f"expected one checkpoint, got {steps} and {half}")
    expect(f"stopped at step {steps[0]}; the same command goes on from there" in err, f"unclear: {err}")
    expect(max(steps_of_rows(run_dir)) <= steps[0], "rows past the checkpoint")
    ground.finish(run_dir)
    slow = ("--evaluation.num-samples", "100000")
    again = run_dir.with_name("measured")
    with ground.started(again, *slow, frequent=False) as child:
        end = rows_of(ground.whole)[-1]["step"]
        ground.wait_for_step(child, again, end - 1)
        time.sleep(1)
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=120)
    expect(child.returncode == 143 and "the same command goes on" in err, f"exit {child.returncode}: {err}")
    expect(not (again / "result.json").exists() and state_of(again) == state_of(ground.whole), "the training is lost")
    return f"exit 143 and a checkpoint at that very step, {steps[0]}; finished bit for bit"


FAULTS = (killed, limited, filled, closed, rivals, jumped, stopped)


def main() -> None:
    """Let everything happen, tell what came of it, exit with 1 if anything was lost."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    options = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    options.add_argument("--kills", type=int, default=20, help="SIGKILLs of one training")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the moments")
    chosen = options.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    table = Table(title=f"faults, seed {chosen.seed}")
    for column in ("fault", "", "what happened", "seconds"):
        table.add_column(column)
    lost = 0
    with tempfile.TemporaryDirectory(prefix="dgmzoo-faults-") as root:
        ground = Ground(Path(root), chosen.kills, random.Random(chosen.seed))
        for fault in FAULTS:
            began, name = time.monotonic(), f"{chosen.kills} x {fault.__doc__}" if fault is killed else fault.__doc__
            try:
                mark, told = "[green]kept", fault(ground, Path(root) / fault.__name__)
            except Skipped as skipped:
                mark, told = "[yellow]skipped", str(skipped)
            except (Lost, OSError, subprocess.SubprocessError) as error:
                mark, told, lost = "[red]LOST", str(error)[:2000], lost + 1
            table.add_row(name, mark, escape(told), f"{time.monotonic() - began:.0f}")
    Console(width=160).print(table)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
