"""Several processes train as one does, refuse together what they cannot do, and end when one of them is lost."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dgmzoo.training import multihost
from tests.support.command import ROOT, SMALL, environment
from tests.support.interruptions import rows_of, state_of

WORDS = ("train", "vae/digits", *SMALL, "--training.epochs", "2", "--training.batch-size", "64",
         "--training.steps-per-dispatch", "4", "--execution.checkpoint-seconds", "0")  # fmt: skip

# The command, in a process that kills itself at the first progress past a step.
KILLED = """
import os, signal, sys
from dgmzoo import cli
from dgmzoo.training import watch
real = watch.Watch.progress
def progress(self, step, *rest):
    if step >= 22:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, step, *rest)
watch.Watch.progress = progress
cli.main(sys.argv[1:])
"""


def port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def run(*lines: list[str], devices: int = 2) -> list[tuple[int, str, str]]:
    """Status, output and errors of processes that run at once; none is left behind."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    started = []
    try:
        for line in lines:
            started.append(
                subprocess.Popen(
                    [sys.executable, *line], cwd=ROOT, env=environment(XLA_FLAGS=flags, JAX_DISABLE_MOST_OPTIMIZATIONS="1"), text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )  # fmt: skip
        outputs = [child.communicate(timeout=300) for child in started]
        return [(child.returncode, *each) for child, each in zip(started, outputs, strict=True)]
    finally:
        for child in started:
            child.kill()
            child.communicate()


def pair(run_dir: Path, *killed: int) -> list[tuple[int, str, str]]:
    """The command in two processes, of which some kill themselves."""
    at = f"localhost:{port()}"
    lines = []
    for i in range(2):
        begin = ["-c", KILLED] if i in killed else ["-m", "dgmzoo"]
        peers = ["--coordinator", at, "--processes", "2", "--process", str(i)]
        lines.append([*begin, *WORDS, "--run-dir", str(run_dir), *peers])
    return run(*lines)


@pytest.fixture(scope="module")
def peers(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    """What one process with four devices found, and what two with two each did, with their refusals."""
    whole, halves = (tmp_path_factory.mktemp(name) for name in ("whole", "halves"))
    at = f"localhost:{port()}"
    done = run(["-m", "tests.support.peer", str(whole)], devices=4)
    done += run(*(["-m", "tests.support.peer", str(halves), at, "2", str(i)] for i in range(2)))
    for status, _, errors in done:
        assert status == 0, errors
    found = [dict(np.load(path)) for path in (whole / "0.npz", halves / "0.npz", halves / "1.npz")]
    return [*found, *(json.loads((halves / f"{i}.json").read_text()) for i in range(2))]


def test_two_processes_train_as_one(peers):
    whole, first, second, *_ = peers
    assert whole.keys() == first.keys() == second.keys()
    arrays = [sum(name.startswith(prefix) for name in whole) for prefix in ("adam", "chains")]
    assert arrays == [8, 14] and {"losses", "result", "stopped"} <= whole.keys()
    for name in whole:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        if name != "stopped":
            np.testing.assert_allclose(first[name], whole[name], rtol=1e-6, atol=1e-6, err_msg=name)
    assert 0 < whole["stopped"] == first["stopped"] - 1 < 11  # asked by one, heard by all a dispatch later
    assert first["chains.variables['local']['chains']"].shape[0] == 4
    assert len({chain.tobytes() for chain in first["chains.variables['local']['chains']"]}) == 4


def test_what_processes_refuse_together(peers):
    *_, first, second = peers
    assert first.keys() == second.keys() == {"batch", "seeds", "differ", "one", "nan", "file"}
    for told in (first, second):
        assert "training.batch_size to be a multiple of 4 devices" in told["batch"] and "got 18" in told["batch"]
        assert "expected one seed with several processes" in told["seeds"]
        assert "training.learning_rate" in told["differ"] and "0.1" in told["differ"] and "0.2" in told["differ"]
        assert "run_dir given" in told["one"]
        assert "got a file; choose another --run-dir" in told["file"]
    assert (
        first["nan"] == second["nan"]
        and "got NaN or infinity at step" in first["nan"]
        and "extra_loss/bad" in first["nan"]
    )
    assert second["file"].startswith("process 0: ")


def test_a_lost_process_ends_the_others_and_all_go_on_bit_for_bit(tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "run"
    for status, _, errors in pair(whole):
        assert status == 0, errors
    for lost in (1, 0):
        done = pair(resumed, lost)
        assert done[lost][0] == -signal.SIGKILL
        status, _, errors = done[1 - lost]
        # Of a lost process 0 the others hear from XLA too, which may be the quicker to end them.
        ended = "one was lost" in errors and "start all of them again" in errors
        assert (status == 2 and ended) or (lost == 0 and status == -signal.SIGABRT and "another task died" in errors)
    (status, output, errors), (quiet, silent, _) = pair(resumed)
    assert status == quiet == 0, errors
    assert "resuming from step" in errors and "report:" in output and "report:" not in silent
    ours, theirs = state_of(resumed), state_of(whole)
    assert ours == theirs and len(ours) > 20
    assert rows_of(resumed) == rows_of(whole)
    values = [json.loads((path / "result.json").read_text())["value"] for path in (resumed, whole)]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("localhost:1", 2, None), "expected --coordinator, --processes and --process together"),
        ((None, 2, 1), "expected --coordinator, --processes and --process together"),
        (("localhost:1", 2, 2), "expected --process from 0 to --processes - 1, got 2 of 2"),
        (("localhost:1", 2, -1), "expected --process from 0"),
        (("localhost:1", 0, 0), "expected --process from 0"),
        (("localhost", 2, 0), "expected --coordinator HOST:PORT"),
        (("localhost:99999", 2, 0), "expected --coordinator HOST:PORT"),
        (("auto", 2, 0), "expected --coordinator auto alone"),
    ],
)
def test_wrong_peers_are_refused(given, told):
    with pytest.raises(ValueError, match=re.escape(told)), multihost.joined(*given):
        pass


def test_a_taken_port_is_refused():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        at = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match="of the coordinator to be free"), multihost.joined(at, 2, 0):
            pass
