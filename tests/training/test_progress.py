"""Metric writers, progress on the screen, and signals during a training."""

import csv
import importlib.util
import io
import os
import re
import signal
import threading

import pytest
from rich.console import Console

import dgmzoo
from dgmzoo.config.overrides import override
from dgmzoo.training import metric_writers
from dgmzoo.training.progress import ProgressCallback
from dgmzoo.training.run_directory import RunDirectory
from tests.support.interruptions import written_of


def make_row(step: int, split: str = "train", **more: float) -> dict:
    return {"step": step, "split": split, "loss": 10.0 / step, "elbo": -10.0 / step, **more, "seconds": step / 8}


ROWS = [
    make_row(1),
    make_row(2),
    make_row(2, "valid"),
    make_row(3, grad_norm=0.1),
    make_row(4, grad_norm=0.2),
    make_row(4, "valid", **{"kl/z": 3.0}),
]


def read_csv(directory) -> list[dict]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small() -> dgmzoo.Experiment:
    changes = {"model.encoder.hidden": (4,), "model.decoder.hidden": (4,), "model.latent_dim": 2}
    changes |= {"training.schedule": "constant", "training.final_learning_rate": 0.0}
    return dgmzoo.experiment("vae/digits", changes | {"training.epochs": 2, "evaluation.num_samples": 2})


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """A run, and the rows that a function received."""
    rows = []
    path = tmp_path_factory.mktemp("trained") / "run"
    return dgmzoo.train(small, path, progress=False, writers=[rows.append]), rows


def test_csv_has_every_row_once_and_a_column_per_metric(tmp_path):
    writer = metric_writers.Csv(tmp_path, [])
    for row in ROWS:
        writer(row)
    table, content = read_csv(tmp_path), (tmp_path / "metrics.csv").read_bytes()
    assert list(table[0]) == ["step", "split", "loss", "elbo", "seconds", "grad_norm", "kl/z"]
    cells = [{name: cell for name, cell in line.items() if cell} for line in table]
    assert cells == [{name: str(value) for name, value in row.items()} for row in ROWS]
    resumed = metric_writers.Csv(tmp_path, ROWS[:3])  # the other rows are past the checkpoint
    assert len(read_csv(tmp_path)) == 3
    for row in ROWS[3:]:
        resumed(row)
    assert (tmp_path / "metrics.csv").read_bytes() == content


def test_events_of_a_resumed_run_are_those_of_an_uninterrupted_run(tmp_path):
    killed = metric_writers.TensorBoard(tmp_path, [])
    for row in [*ROWS[:3], make_row(3, grad_norm=99.0), make_row(5)]:
        killed(row)
    resumed = metric_writers.TensorBoard(tmp_path, ROWS[:3])
    for row in ROWS[3:]:
        resumed(row)
    metric_writers.Csv(tmp_path, ROWS)
    _, scalars = written_of(tmp_path)
    names = {"loss", "elbo", "grad_norm", "kl/z"}
    expected = {(f"{name}/{row['split']}", row["step"], row[name]) for row in ROWS for name in names & set(row)}
    assert sorted(scalars) == [(tag, step, pytest.approx(value)) for tag, step, value in sorted(expected)]


def test_impossible_writers_are_refused_before_training(tmp_path, small, monkeypatch):
    with pytest.raises(ValueError, match=r"expected writers among csv, tensorboard, .* got 'wandb'"):
        dgmzoo.train(small, tmp_path / "run", writers=["wandb"])
    with pytest.raises(ValueError, match="expected a run_dir for the writer 'csv'"):
        dgmzoo.train(small, writers=["csv"])
    find_spec = importlib.util.find_spec  # an environment without tensorboard
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name))
    with pytest.raises(ValueError, match=r'pip install -e "\.\[tensorboard\]"'):
        dgmzoo.train(small, tmp_path / "run", writers=["tensorboard"])
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
def test_writers_may_be_added_on_resume(small, trained):
    run, rows = trained
    assert rows == run.metrics and len(rows) == 3
    dgmzoo.train(small, run.path, progress=False, writers=["csv", "tensorboard"])  # nothing is left to train
    assert [line["loss"] for line in read_csv(run.path)] == [str(row["loss"]) for row in rows]
    assert len(written_of(run.path)[1]) == sum(len(row) - 3 for row in rows)


@pytest.mark.thorough
def test_rows_of_several_seeds_name_their_seed(small):
    rows = []
    runs = dgmzoo.train(small, seeds=(3, 5), progress=False, writers=[rows.append])
    for run in runs:
        own = [
            {name: value for name, value in row.items() if name != "seed"} for row in rows if row["seed"] == run.seed
        ]
        assert own == run.metrics and own


@pytest.mark.thorough
def test_result_is_deleted_when_a_longer_training_begins(small, trained):
    path = trained[0].path
    assert (path / "result.json").exists()

    def fail(row):
        raise KeyError(row["step"])

    with pytest.raises(KeyError, match="57"):
        dgmzoo.train(override(small, {"training.epochs": 3}), path, progress=False, writers=[fail])
    assert not (path / "result.json").exists() and dgmzoo.load(path).record is None


# Progress


def progress_output(terminal: bool, seconds_per_dispatch: float = 2.0, show: bool = True) -> str:
    """The output of a training of 100 steps in dispatches of 10."""
    now, output = 0.0, io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=150, no_color=True, legacy_windows=False)
    callback = ProgressCallback(None, show, console=console, clock=lambda: now)
    with callback.active():
        callback.begin(0, total=100)
        for step in range(10, 101, 10):
            now += seconds_per_dispatch
            callback.progress(step, 100, {"loss": 23.456, "elbo": -22.222})
            if step == 50:
                callback.write(make_row(50, "valid"))
    return output.getvalue()


def test_terminal_shows_loss_bound_speed_and_time_left():
    output = progress_output(terminal=True)
    assert "loss 23.46  bound -22.22  valid 0.20  5.00 steps/s  0:00:00 left" in output
    assert "100/100" in output and "\x1b[" in output


def test_without_a_terminal_a_line_is_printed_every_half_minute():
    output = progress_output(terminal=False)
    assert output == "step 100/100  loss 23.46  bound -22.22  valid 0.20  5.00 steps/s  0:00:00 left\n"
    output = progress_output(terminal=False, seconds_per_dispatch=20.0)
    lines = output.splitlines()
    assert [line.split()[1] for line in lines] == ["20/100", "40/100", "60/100", "80/100", "100/100"]
    assert lines[0].endswith("0.50 steps/s  0:02:40 left") and "\x1b" not in output
    assert progress_output(terminal=False, show=False) == ""


def test_speed_is_left_out_while_no_time_has_passed():
    output = progress_output(terminal=False, seconds_per_dispatch=0.0)
    assert re.fullmatch(r"step 100/100  loss 23.46  bound -22.22  valid 0.20\n", output)


# Signals


def test_signals_are_handled_during_the_call_only(small):
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = []

    def note(row):
        handlers.append([signal.getsignal(number) for number in numbers])

    before = [signal.getsignal(number) for number in numbers]
    dgmzoo.train(small, progress=False, writers=[note])
    assert [signal.getsignal(number) for number in numbers] == before
    assert all(handler not in before for handler in handlers[0])
    handlers.clear()
    thread = threading.Thread(target=lambda: dgmzoo.train(small, progress=False, writers=[note]))
    thread.start()
    thread.join()
    assert len(handlers) == 3 and handlers[0] == before, "only the main thread can set handlers"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_a_run_with_a_checkpoint(tmp_path, small, number):
    def stop(row):
        os.kill(os.getpid(), number)

    with pytest.raises(dgmzoo.Interrupted, match="stopped at step 19") as stopped:
        dgmzoo.train(small, tmp_path / "run", progress=False, writers=[stop])
    assert stopped.value.signal == number and RunDirectory(tmp_path / "run").latest.steps() == [19]


def test_signal_after_the_loop_reaches_the_former_handler():
    callback, received = ProgressCallback(None, show=False), []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with callback.active():
            os.kill(os.getpid(), signal.SIGTERM)
            assert callback.should_stop() and not received
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_second_ctrl_c_stops_at_once():
    with pytest.raises(KeyboardInterrupt), ProgressCallback(None, show=False).active():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
