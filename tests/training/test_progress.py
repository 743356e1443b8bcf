"""Who looks on while a run trains: copies of the metrics, progress on the screen, orders to stop."""

import csv
import errno
import importlib.util
import io
import os
import re
import signal
import threading

import pytest
from rich.console import Console

import dgmzoo
from dgmzoo import files
from dgmzoo.config.overrides import override
from dgmzoo.training import metric_writers, progress
from dgmzoo.training.run_directory import RunDirectory
from tests.support.interruptions import written_of


def row(step: int, split: str = "train", **more: float) -> dict:
    return {"step": step, "split": split, "loss": 10.0 / step, "elbo": -10.0 / step, **more, "seconds": step / 8}


ROWS = [row(1), row(2), row(2, "valid"), row(3, grad_norm=0.1), row(4, grad_norm=0.2), row(4, "valid", **{"kl/z": 3.0})]


def read(folder) -> list[dict]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small() -> dgmzoo.Experiment:
    changes = {"model.encoder.hidden": (4,), "model.decoder.hidden": (4,), "model.latent_dim": 2}
    changes |= {"training.schedule": "constant", "training.final_learning_rate": 0.0}
    return dgmzoo.experiment("vae/digits", changes | {"training.epochs": 2, "evaluation.num_samples": 2})


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """A run and the rows that a function heard."""
    heard = []
    path = tmp_path_factory.mktemp("trained") / "run"
    return dgmzoo.train(small, path, progress=False, writers=[heard.append]), heard


def test_csv_has_every_row_once_and_a_column_per_metric(tmp_path):
    whole = metric_writers.Csv(tmp_path, [])
    for each in ROWS:
        whole(each)
    table, content = read(tmp_path), (tmp_path / "metrics.csv").read_bytes()
    assert list(table[0]) == ["step", "split", "loss", "elbo", "seconds", "grad_norm", "kl/z"]
    assert [{name: cell for name, cell in line.items() if cell} for line in table] == [
        {name: str(value) for name, value in each.items()} for each in ROWS
    ]
    resumed = metric_writers.Csv(tmp_path, ROWS[:3])  # the rest came after the checkpoint
    assert len(read(tmp_path)) == 3
    for each in ROWS[3:]:
        resumed(each)
    assert (tmp_path / "metrics.csv").read_bytes() == content


def test_events_are_those_of_one_run_that_was_never_killed(tmp_path):
    killed, resumed = metric_writers.TensorBoard(tmp_path, []), None
    for each in [*ROWS[:3], row(3, grad_norm=99.0), row(5)]:
        killed(each)
    resumed = metric_writers.TensorBoard(tmp_path, ROWS[:3])
    for each in ROWS[3:]:
        resumed(each)
    metric_writers.Csv(tmp_path, ROWS)
    _, scalars = written_of(tmp_path)
    names = {"loss", "elbo", "grad_norm", "kl/z"}
    expected = {(f"{name}/{each['split']}", each["step"], each[name]) for each in ROWS for name in names & set(each)}
    assert sorted(scalars) == [(tag, step, pytest.approx(value)) for tag, step, value in sorted(expected)]


def test_writers_that_cannot_be_are_refused_before_training(tmp_path, small, monkeypatch):
    with pytest.raises(ValueError, match=r"expected writers among csv, tensorboard, .* got 'wandb'"):
        dgmzoo.train(small, tmp_path / "run", writers=["wandb"])
    with pytest.raises(ValueError, match="expected a run_dir for the writer 'csv'"):
        dgmzoo.train(small, writers=["csv"])
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else real(name))
    with pytest.raises(ValueError, match=r'pip install -e "\.\[tensorboard\]"'):
        dgmzoo.train(small, tmp_path / "run", writers=["tensorboard"])
    assert not (tmp_path / "run").exists()


def test_writers_may_change_between_two_starts(small, trained):
    run, heard = trained
    assert heard == run.metrics and len(heard) == 3
    dgmzoo.train(small, run.path, progress=False, writers=["csv", "tensorboard"])  # nothing is left to train
    assert [line["loss"] for line in read(run.path)] == [str(each["loss"]) for each in heard]
    assert len(written_of(run.path)[1]) == sum(len(each) - 3 for each in heard)


def test_a_function_hears_which_seed_a_row_is_of(small):
    heard = []
    runs = dgmzoo.train(small, seeds=(3, 5), progress=False, writers=[heard.append])
    for run in runs:
        own = [
            {name: value for name, value in each.items() if name != "seed"}
            for each in heard
            if each["seed"] == run.seed
        ]
        assert own == run.metrics and own


def test_a_result_is_over_once_training_goes_on(small, trained):
    path = trained[0].path
    assert (path / "result.json").exists()

    def fail(row):
        raise KeyError(row["step"])

    with pytest.raises(KeyError, match="57"):
        dgmzoo.train(override(small, {"training.epochs": 3}), path, progress=False, writers=[fail])
    assert not (path / "result.json").exists() and dgmzoo.load(path).record is None


# Progress


class Steps:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def screen(monkeypatch):
    """What `Watch` shows, on a terminal or not."""

    def make(terminal: bool) -> io.StringIO:
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=terminal, width=150, no_color=True, legacy_windows=False)
        monkeypatch.setattr(progress, "Console", lambda stderr: console)
        return shown

    return make


def go(looking: progress.ProgressCallback, clock: Steps, seconds: float = 2.0) -> None:
    looking._clock = clock
    with looking.watching():
        looking.begin(0, total=100)
        for step in range(10, 101, 10):
            clock.now += seconds
            looking.progress(step, 100, {"loss": 23.456, "elbo": -22.222})
            if step == 50:
                looking.write(row(50, "valid"))


def test_a_terminal_shows_loss_bound_speed_and_time_left(screen):
    shown = screen(terminal=True)
    go(progress.ProgressCallback(None, show=True), Steps())
    told = shown.getvalue()
    assert "loss 23.46  bound -22.22  valid 0.20  5.00 steps/s  0:00:00 left" in told
    assert "100/100" in told and "\x1b[" in told


def test_elsewhere_it_is_a_plain_line_now_and_then(screen):
    shown = screen(terminal=False)
    go(progress.ProgressCallback(None, show=True), Steps())
    assert shown.getvalue() == "step 100/100  loss 23.46  bound -22.22  valid 0.20  5.00 steps/s  0:00:00 left\n"
    shown = screen(terminal=False)
    go(progress.ProgressCallback(None, show=True), Steps(), seconds=20.0)
    lines = shown.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["20/100", "40/100", "60/100", "80/100", "100/100"]
    assert lines[0].endswith("0.50 steps/s  0:02:40 left") and "\x1b" not in shown.getvalue()
    shown = screen(terminal=False)
    go(progress.ProgressCallback(None, show=False), Steps())
    assert shown.getvalue() == ""


def test_time_that_stands_still_has_no_speed(screen):
    shown = screen(terminal=False)
    go(progress.ProgressCallback(None, show=True), Steps(), seconds=0.0)
    assert re.fullmatch(r"step 100/100  loss 23.46  bound -22.22  valid 0.20\n", shown.getvalue())


# Orders to stop


def test_signals_are_handled_for_the_length_of_the_call_only(small):
    numbers = (signal.SIGINT, signal.SIGTERM)
    before, within = [signal.getsignal(number) for number in numbers], []
    dgmzoo.train(small, progress=False, writers=[lambda _: within.append([signal.getsignal(n) for n in numbers])])
    assert [signal.getsignal(number) for number in numbers] == before
    assert all(handler not in before for handler in within[0])
    heard = []
    thread = threading.Thread(
        target=lambda: dgmzoo.train(
            small, progress=False, writers=[lambda _: heard.append([signal.getsignal(n) for n in numbers])]
        )
    )
    thread.start()
    thread.join()
    assert len(heard) == 3 and heard[0] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_where_a_checkpoint_is(tmp_path, small, number):
    def stop(row):
        os.kill(os.getpid(), number)

    with pytest.raises(dgmzoo.Interrupted, match="stopped at step 19") as stopped:
        dgmzoo.train(small, tmp_path / "run", progress=False, writers=[stop])
    assert stopped.value.signal == number and RunDirectory(tmp_path / "run").latest.steps() == [19]


def test_a_signal_that_comes_too_late_for_the_loop_is_given_on():
    looking, heard = progress.ProgressCallback(None, show=False), []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("given on"))
    try:
        with looking.watching():
            os.kill(os.getpid(), signal.SIGTERM)
            assert looking.should_stop() and not heard
        assert heard == ["given on"]
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(KeyboardInterrupt), progress.ProgressCallback(None, show=False).watching():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # at once


# Files


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    files.write_json(path, {"a": 1})

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (files.write_text, files.append_text):
        with pytest.raises(
            files.CannotWrite, match=r"could not write .*result.json \(No space left on device\); .*make room"
        ):
            write(path, "new")
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"] and path.read_text().startswith(
        '{\n "a": 1\n}'
    )
