"""No stage is silent for long (F44)."""

import io
import time

import pytest
from rich.console import Console

from dgmzoo.training import heartbeat, progress


@pytest.fixture
def pipe(monkeypatch):
    """A console without a terminal, where a line is due every 50 ms."""
    monkeypatch.setattr(heartbeat, "SECONDS", 0.05)
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return console.file


def wait_for(file, text):
    deadline = time.monotonic() + 10
    while text not in file.getvalue():
        assert time.monotonic() < deadline, file.getvalue()
        time.sleep(0.01)


def test_f44_a_long_stage_prints_a_line_on_a_pipe(pipe):
    with progress.stage("writing the report", show=True):
        wait_for(pipe, "writing the report (0 s)\n")
    lines = pipe.getvalue()
    time.sleep(0.15)
    assert pipe.getvalue() == lines  # it has ended


def test_f44_a_short_stage_prints_nothing(pipe):
    with progress.stage("writing the report", show=True):
        pass
    with progress.stage("writing the report", show=False):
        time.sleep(0.15)
    assert pipe.getvalue() == ""


def test_f44_an_evaluation_on_a_pipe_says_how_far_it_is(pipe):
    with progress.evaluation_progress("measuring test", show=True) as report_progress:
        wait_for(pipe, "measuring test: compiling")
        report_progress(1250, 10_000)
        wait_for(pipe, "measuring test: 1,250 of 10,000 examples")


def test_f44_training_says_that_it_compiles_before_the_first_step(pipe):
    callback = progress.ProgressCallback(None, show=True, console=progress.Console())
    callback.begin(0, 100)
    with callback.active():
        wait_for(pipe, "compiling the training step (0 s)\n")
        callback.progress(3, 100, {"loss": 1.0})
        wait_for(pipe, "step 3/100")
