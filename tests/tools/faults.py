"""Faults during training: kills, full disks, directories without permission, rival processes, clock changes, signals.

`python -m tests.tools.faults [--kills 20] [--seed N]` subjects trainings of a small network to all of them, and prints the
outcomes in a table. Its exit status is 1 if anything was lost. `test_faults.py` runs the same with fewer kills.
"""

import argparse
import contextlib
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dgmzoo
from tests.support.command import ROOT, environment
from tests.support.interruptions import (
    Failure,
    NotPossible,
    Reference,
    checkpoints_of,
    expect,
    state_of,
    steps_of_rows,
)

# Faults. Each returns a description of what happened.


def kill(reference: Reference, run_dir: Path) -> str:
    """SIGKILL at random moments"""
    counts = dict.fromkeys(("starting", "training", "measuring", "half-written", "too late"), 0)
    steps_of_kills = sorted(reference.chance.randrange(reference.end) for _ in range(reference.kills))
    for i, step in enumerate(steps_of_kills):
        before = max(checkpoints_of(run_dir)[0], default=0)
        with reference.started(run_dir) as child:
            if i == 0:  # during its first checkpoint
                reference.wait(child, lambda: bool(checkpoints_of(run_dir)[1]))
                time.sleep(reference.chance.uniform(0, 0.03))
            elif reference.chance.random() < 0.15:
                time.sleep(reference.chance.uniform(0.1, 3))
            else:
                reference.wait_for_checkpoint(child, run_dir, min(max(before, step), reference.end - 1))
                time.sleep(reference.chance.uniform(0, 0.1))
            if child.poll() is not None:  # this process was too slow
                expect(child.returncode == 0, f"exit {child.returncode}: {child.stderr.read()}")
                counts["too late"] += 1
                continue
            child.kill()
            child.wait()
        steps, incomplete = checkpoints_of(run_dir)
        now = max(steps, default=0)
        counts["starting" if now == before else "measuring" if now == reference.end else "training"] += 1
        counts["half-written"] += bool(incomplete)
    reference.finish(run_dir)
    incomplete, late = counts.pop("half-written"), counts.pop("too late")
    expect(late <= reference.kills / 4, f"{late} of {reference.kills} kills came after the end of training; try again")
    phases = ", ".join(f"{count} while {phase}" for phase, count in counts.items() if count)
    return f"{phases}; {incomplete} left a half-written checkpoint; finished bit for bit"


def limit_file_size(reference: Reference, run_dir: Path) -> str:
    """a limit on file sizes during training"""
    size = reference.chance.choice([0, 300, 2000, 10_000])
    with reference.started(run_dir) as child:
        reference.wait_for_checkpoint(child, run_dir, after=12 * reference.chance.randint(1, 5))
        expect(child.poll() is None, "the training ended before the limit was set")
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        output, errors = child.communicate(timeout=120)
    steps = check_no_room(subprocess.CompletedProcess([], child.returncode, output, errors), run_dir)
    reference.finish(run_dir)
    return f"{size} bytes: exit 1, path and remedy named, {steps} kept, resumed bit for bit"


def check_no_room(completed: subprocess.CompletedProcess, run_dir: Path) -> list[int]:
    """Check the message and the checkpoints of a training that could not write; the steps of the checkpoints."""
    errors = completed.stderr
    expect(completed.returncode == 1, f"expected exit 1, got {completed.returncode}: {errors}")
    messages = [line for line in errors.splitlines() if line.startswith("error: ")]
    expect(
        len(messages) == 1
        and messages[0].startswith(f"error: could not write {run_dir}")
        and "make room" in messages[0],
        f"unclear: {errors}",
    )
    steps, incomplete = checkpoints_of(run_dir)
    expect(bool(steps) and not incomplete, f"complete: {steps}, incomplete: {incomplete}")
    expect(dgmzoo.load(run_dir).step <= steps[-1], "the loaded step has no checkpoint")
    return steps


def fill_disk(reference: Reference, run_dir: Path) -> str:
    """a file system without room"""
    run_dir.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", run_dir]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        raise NotPossible(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        inner, ballast = run_dir / "run", run_dir / "ballast"
        with reference.started(inner) as child:
            reference.wait_for_checkpoint(child, inner, after=12 * reference.chance.randint(1, 5))
            expect(child.poll() is None, "the training ended before its disk was full")
            room = reference.chance.choice([0, 4096, 20_000])
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            os.truncate(ballast, ballast.stat().st_size - room)
            output, errors = child.communicate(timeout=120)
        steps = check_no_room(subprocess.CompletedProcess([], child.returncode, output, errors), inner)
        ballast.unlink()
        reference.finish(inner)
    finally:
        subprocess.run(["umount", run_dir], check=True)
    file = re.search(r"could not write \S*?/run/(\S+)", errors)[1]
    return f"{room} bytes left: stopped at {file}, exit 1, {steps} kept, resumed bit for bit"


def forbid_writing(reference: Reference, run_dir: Path) -> str:
    """a run directory that cannot be written"""
    run_dir.mkdir()
    (run_dir / "file").write_text("")
    sealed = run_dir / "sealed"
    sealed.mkdir()
    (sealed / ".lock").touch()  # the lock can be opened, and nothing else can be written
    sealed.chmod(0o555)
    places = {"below a file": run_dir / "file" / "run", "in /proc": Path("/proc/run")}
    chattr = shutil.which("chattr")
    is_immutable = chattr and subprocess.run([chattr, "+i", sealed], capture_output=True).returncode == 0
    if is_immutable or os.geteuid():
        places["immutable" if is_immutable else "read-only"] = sealed
    try:
        completed = reference.run(places["below a file"])
        errors = completed.stderr
        expect(completed.returncode == 2 and "Traceback" not in errors, f"exit {completed.returncode}: {errors}")
        expect("error: expected a run directory that can be written" in errors, f"unclear: {errors}")
        for description, place in places.items():
            rows = []
            try:
                dgmzoo.train("vae/digits", place, progress=False, writers=[rows.append])
            except ValueError as error:
                message = str(error)
                is_clear = "that can be written" in message and str(place) in message
                expect(is_clear, f"{description}: unclear: {error}")
            else:
                raise Failure(f"{description}: it trained")
            expect(not rows, f"{description}: it trained before it checked the directory")
    finally:
        if is_immutable:
            subprocess.run([chattr, "-i", sealed], check=True)
    return f"{', '.join(places)}: exit 2 before training"


def start_rival(reference: Reference, run_dir: Path) -> str:
    """a second process in the same run directory"""
    with reference.started(run_dir, frequent=False) as first:
        reference.wait(first, lambda: len(steps_of_rows(run_dir)) > 2)
        expect(first.poll() is None, "the first process ended before the second began")
        first.send_signal(signal.SIGSTOP)
        second = reference.run(run_dir, frequent=False)
        first.send_signal(signal.SIGCONT)
        is_refused = second.returncode == 2 and "another process trains into it" in second.stderr
        expect(is_refused, second.stderr)
        _, errors = first.communicate(timeout=600)
        expect(first.returncode == 0, errors)
    reference.compare(run_dir)
    return "refused with exit 2; the first process finished bit for bit"


# Both modules read the time by the module `time`, which no argument of the command replaces.
JUMPING_CLOCK = """
import random, time, types
from dgmzoo.training import metric_writers, stopwatch
chance, offset = random.Random({seed}), 0.0
def jumping(now):
    def read():
        global offset
        if chance.random() < .1:
            offset += chance.choice([-1, 1]) * chance.uniform(0, 9e4)
        return now() + offset
    return read
clock = types.SimpleNamespace(monotonic=jumping(time.monotonic), time=jumping(time.time))
metric_writers.time = stopwatch.time = clock
"""


def change_clock(reference: Reference, run_dir: Path) -> str:
    """a clock that jumps by hours, back and forth"""
    screen, terminal = pty.openpty()  # the progress bar needs a terminal
    child = subprocess.Popen(
        reference.line(run_dir, setup=JUMPING_CLOCK.format(seed=reference.chance.random()), frequent=False),
        cwd=ROOT,
        env=environment(TERM="xterm"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # raised by Linux when the child closes its side
        while part := os.read(screen, 1 << 16):
            output += part
    os.close(screen)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode(errors="replace"))
    expect(child.wait(timeout=600) == 0 and "Traceback" not in text, text[-2000:])
    reference.compare(run_dir)
    seconds = [json.loads(line)["seconds"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    expect(seconds == sorted(seconds) and seconds[0] >= 0, f"the seconds decrease: {seconds}")
    speeds = re.findall(r"(-?[\d,.]+) steps/s +(-?)[\d:days, ]+ left", text)
    are_positive = not any(speed.startswith("-") or minus for speed, minus in speeds)
    expect(bool(speeds) and are_positive, f"wrong speeds: {speeds}")
    return f"{seconds[-1] / 3600:.0f} hours passed, speed and time left stayed positive, finished bit for bit"


def terminate(reference: Reference, run_dir: Path) -> str:
    """SIGTERM, while training and while measuring"""
    with reference.started(run_dir, frequent=False) as child:  # only the signal causes a checkpoint
        reference.wait(child, lambda: len(steps_of_rows(run_dir)) > 2)
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=120)
    steps, incomplete = checkpoints_of(run_dir)
    expect(child.returncode == 143 and "Traceback" not in errors, f"exit {child.returncode}: {errors}")
    expect(len(steps) == 1 and not incomplete, f"expected one checkpoint, got {steps} and {incomplete}")
    expect(f"stopped at step {steps[0]}; the same command resumes from there" in errors, f"unclear: {errors}")
    expect(max(steps_of_rows(run_dir)) <= steps[0], "rows past the checkpoint")
    reference.finish(run_dir)
    slow = ("--evaluation.num-samples", "100000")
    measured = run_dir.with_name("measured")
    with reference.started(measured, *slow, frequent=False) as child:
        reference.wait_for_checkpoint(child, measured, reference.end - 1)
        time.sleep(1)
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=120)
    is_clear = child.returncode == 143 and "the same command resumes" in errors
    expect(is_clear, f"exit {child.returncode}: {errors}")
    is_trained = state_of(measured) == state_of(reference.uninterrupted)
    expect(not (measured / "result.json").exists() and is_trained, "the training is lost")
    return f"exit 143 and a checkpoint at that very step, {steps[0]}; finished bit for bit"


FAULTS = (kill, limit_file_size, fill_disk, forbid_writing, start_rival, change_clock, terminate)


def main() -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m tests.tools.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="number of kills of one training")
    seed = random.SystemRandom().randrange(10**6)
    parser.add_argument("--seed", type=int, default=seed, help="seed of the moments of the faults")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    table = Table(title=f"faults, seed {options.seed}")
    for column in ("fault", "", "outcome", "seconds"):
        table.add_column(column)
    num_lost = 0
    with tempfile.TemporaryDirectory(prefix="dgmzoo-faults-") as root:
        reference = Reference(Path(root), options.kills, random.Random(options.seed))
        for fault in FAULTS:
            start, name = time.monotonic(), f"{options.kills} x {fault.__doc__}" if fault is kill else fault.__doc__
            try:
                mark, outcome = "[green]kept", fault(reference, Path(root) / fault.__name__)
            except NotPossible as error:
                mark, outcome = "[yellow]skipped", str(error)
            except (Failure, OSError, subprocess.SubprocessError) as error:
                mark, outcome = "[red]LOST", str(error)[:2000]
                num_lost += 1
            table.add_row(name, mark, escape(outcome), f"{time.monotonic() - start:.0f}")
    Console(width=160).print(table)
    sys.exit(1 if num_lost else 0)


if __name__ == "__main__":
    main()
