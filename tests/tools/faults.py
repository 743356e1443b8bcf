"""What befalls a training: kills, full disks, closed folders, rivals, clocks that jump, orders to stop.

`python -m tests.tools.faults [--kills 20] [--seed N]` lets all of it happen to trainings of a small net and tells what came of it
in a table; it exits with 1 if anything was lost. `test_faults.py` is a short form.
"""

import argparse
import contextlib
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
from pathlib import Path

import dgmzoo
from tests.support.command import ROOT, environment
from tests.support.interruptions import Ground, Lost, Skipped, checkpoints_of, expect, rows_of, state_of, steps_of_rows

# Faults: each returns what happened


def killed(ground: Ground, run_dir: Path) -> str:
    """SIGKILL at random moments"""
    seen = dict.fromkeys(("starting", "training", "measuring", "half-written", "too late"), 0)
    end = rows_of(ground.whole)[-1]["step"]
    for i, step in enumerate(sorted(ground.chance.randrange(end) for _ in range(ground.kills))):
        before = max(checkpoints_of(run_dir)[0], default=0)
        with ground.started(run_dir) as child:
            if i == 0:  # in its first checkpoint
                ground.wait(child, lambda: bool(checkpoints_of(run_dir)[1]))
                time.sleep(ground.chance.uniform(0, 0.03))
            elif ground.chance.random() < 0.15:
                time.sleep(ground.chance.uniform(0.1, 3))
            else:
                ground.wait_for_step(child, run_dir, min(max(before, step), end - 1))
                time.sleep(ground.chance.uniform(0, 0.1))
            if child.poll() is not None:  # this machine was busy elsewhere
                expect(child.returncode == 0, f"exit {child.returncode}: {child.stderr.read()}")
                seen["too late"] += 1
                continue
            child.kill()
            child.wait()
        steps, half = checkpoints_of(run_dir)
        now = max(steps, default=0)
        seen["starting" if now == before else "measuring" if now == end else "training"] += 1
        seen["half-written"] += bool(half)
    ground.finish(run_dir)
    half, late = seen.pop("half-written"), seen.pop("too late")
    expect(late <= ground.kills / 4, f"{late} of {ground.kills} kills came after the training had ended; try again")
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
    sealed.mkdir()
    (sealed / ".lock").touch()  # held already, and no more than that
    sealed.chmod(0o555)
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

    options = argparse.ArgumentParser(prog="python -m tests.tools.faults", description=__doc__)
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
