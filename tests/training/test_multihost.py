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
from tests.support import peer
from tests.support.command import ROOT, SMALL, environment
from tests.support.interruptions import rows_of, state_of

WORDS = ("train", "vae/digits", *SMALL, "--training.epochs", "2", "--training.batch-size", "64",
         "--execution.dispatch", "4", "--execution.checkpoint-seconds", "0")  # fmt: skip

# The command in a process that kills itself at the first progress past step 22.
KILLED = """
import os, signal, sys
from dgmzoo.command import main
from dgmzoo.training.progress import ProgressCallback
progress = ProgressCallback.progress
def kill_or_progress(self, step, *rest):
    if step >= 22:
        os.kill(os.getpid(), signal.SIGKILL)
    progress(self, step, *rest)
ProgressCallback.progress = kill_or_progress
main.main(sys.argv[1:])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def run(*lines: list[str]) -> list[tuple[int, str, str]]:
    """Status, output and errors of processes with two devices each that run at once; none is left behind."""
    settings = environment(XLA_FLAGS="--xla_force_host_platform_device_count=2", JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    children, pipe = [], subprocess.PIPE
    try:
        for line in lines:
            command = [sys.executable, *line]
            children.append(subprocess.Popen(command, cwd=ROOT, env=settings, text=True, stdout=pipe, stderr=pipe))
        outputs = [child.communicate(timeout=300) for child in children]
        return [(child.returncode, *texts) for child, texts in zip(children, outputs, strict=True)]
    finally:
        for child in children:
            child.kill()
            child.communicate()


def run_peers(directory: Path, *tasks: str) -> list[dict[str, np.ndarray]]:
    """Arrays of both of two processes after the tasks."""
    at = f"localhost:{free_port()}"
    for status, _, errors in run(
        *(["-m", "tests.support.peer", str(directory), at, "2", str(i), *tasks] for i in (0, 1))
    ):
        assert status == 0, errors
    return [dict(np.load(directory / f"{i}.npz")) for i in (0, 1)]


def run_commands(run_dir: Path, *killed: int) -> list[tuple[int, str, str]]:
    """The command in two processes, of which some kill themselves."""
    at = f"localhost:{free_port()}"
    lines = []
    for i in (0, 1):
        start = ["-c", KILLED] if i in killed else ["-m", "dgmzoo"]
        peers = ["--coordinator", at, "--processes", "2", "--process", str(i)]
        lines.append([*start, *WORDS, "--run-dir", str(run_dir), *peers])
    return run(*lines)


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def peers(directory) -> list[dict[str, np.ndarray]]:
    """Two processes that train with Adam, and refuse what they cannot do."""
    return run_peers(directory, "run_with_adam", "refusals")


def compare(one, peers):
    """Both processes have the same arrays to the bit, and those of one process to rounding."""
    first, second = peers
    assert one.keys() == first.keys() == second.keys()
    for name in one:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        if name != "stopped":
            np.testing.assert_allclose(first[name], one[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.thorough
def test_two_processes_train_as_one(peers, monkeypatch, tmp_path):
    monkeypatch.setenv("DGMZOO_DEVICES", "4")
    one = peer.run_with_adam(tmp_path)
    compare(one, peers)
    assert sum(name.startswith("adam") for name in one) == 8 and {"losses", "result"} <= one.keys()


@pytest.mark.thorough
def test_processes_refuse_together(peers, directory):
    first, second = (json.loads((directory / f"{i}.json").read_text()) for i in (0, 1))
    assert first.keys() == second.keys() == {"batch", "seeds", "differ", "one", "nan", "file"}
    for messages in (first, second):
        assert "training.batch_size to be a multiple of 4 devices" in messages["batch"]
        assert "got 18" in messages["batch"]
        assert "expected one seed with several processes" in messages["seeds"]
        assert all(word in messages["differ"] for word in ("training.learning_rate", "0.1", "0.2"))
        assert "run_dir given" in messages["one"]
        assert "got a file; choose another --run-dir" in messages["file"]
        assert "got NaN or infinity at step" in messages["nan"] and "extra_loss/bad" in messages["nan"]
    assert first["nan"] == second["nan"]
    assert second["file"].startswith("process 0: ")


@pytest.mark.thorough
def test_two_processes_stop_and_resume_as_one(monkeypatch, tmp_path):
    """A state with chains of its own on each device, from the checkpoint on disk."""
    monkeypatch.setenv("DGMZOO_DEVICES", "4")
    (tmp_path / "two").mkdir()
    one = peer.stopped_chains_with_sgd(tmp_path / "one")
    first, second = run_peers(tmp_path / "two", "stopped_chains_with_sgd")
    compare(one, [first, second])
    assert sum(name.startswith("chains") for name in one) == 14
    assert 0 < one["stopped"] == first["stopped"] - 1 < 11  # requested by one process, known to all a dispatch later
    (name,) = (name for name in first if name.endswith("['chains']"))
    assert first[name].shape[0] == 4 and len({chains.tobytes() for chains in first[name]}) == 4


@pytest.mark.thorough
def test_a_lost_process_ends_the_others_and_resumed_processes_equal_uninterrupted_ones(tmp_path):
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    for status, _, errors in run_commands(uninterrupted):
        assert status == 0, errors
    for lost in (1, 0):
        ended = run_commands(resumed, lost)
        assert ended[lost][0] == -signal.SIGKILL
        status, _, errors = ended[1 - lost]
        # XLA too notices the loss of process 0, and may end the others before dgmzoo does.
        by_dgmzoo = status == 2 and "one was lost" in errors and "start all of them again" in errors
        assert by_dgmzoo or (lost == 0 and status == -signal.SIGABRT and "another task died" in errors)
    (status, output, errors), (other_status, other_output, _) = run_commands(resumed)
    assert status == other_status == 0, errors
    assert "resuming from step" in errors and "report:" in output and "report:" not in other_output
    state, expected = state_of(resumed), state_of(uninterrupted)
    assert state == expected and len(state) > 20
    assert rows_of(resumed) == rows_of(uninterrupted)
    values = [json.loads((path / "result.json").read_text())["value"] for path in (resumed, uninterrupted)]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)), multihost.joined(*arguments):
        pass


def test_a_taken_port_is_refused():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        at = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match="of the coordinator to be free"), multihost.joined(at, 2, 0):
            pass
