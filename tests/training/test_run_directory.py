"""States of a run directory: what each of them keeps, and what a process that was killed between two writes leaves."""

import json

import pytest

import dgmzoo
from dgmzoo.training.run_directory import CONFIG, REPORT, RESULT, STATE, RunDirectory, RunState
from tests.support.tiny import TINY

SHORT = {**TINY, "training.epochs": 1, "training.schedule": "constant", "training.final_learning_rate": 0.0}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("states") / "run"
    return dgmzoo.train(dgmzoo.experiment("vae/digits", SHORT), path, progress=False)


@pytest.fixture
def copied(measured, tmp_path):
    """A copy of the measured run, as a directory and as a function that gives the command once more."""
    import shutil

    shutil.copytree(measured.path, tmp_path / "run")

    def again(**more):
        return dgmzoo.train(dgmzoo.experiment("vae/digits", SHORT | more), tmp_path / "run", progress=False)

    return tmp_path / "run", again


def state(path) -> str:
    return json.loads((path / STATE).read_text())["state"]


def test_a_run_goes_through_its_states(tmp_path, measured):
    config = json.loads((measured.path / CONFIG).read_text())
    directory = RunDirectory(tmp_path / "run")
    assert directory.state == RunState.EMPTY
    with directory.lock():
        directory.open(config, {}, {})
        assert state(directory.path) == "created"
        directory.append({"step": 1, "split": "train"})
        assert state(directory.path) == "training" == RunDirectory(directory.path).state
        directory.advance(RunState.TRAINED)
        assert directory.result() is None
    assert state(measured.path) == "measured"


@pytest.mark.parametrize("later", [RunState.TRAINING, RunState.TRAINED])
def test_a_measured_run_that_changes_loses_its_result(later, copied):
    path, _ = copied
    directory = RunDirectory(path)
    assert directory.result()["value"] > 0
    directory.advance(later)
    assert directory.result() is None and state(path) == later
    assert not (path / RESULT).exists() and not (path / REPORT).exists()


def test_a_longer_training_changes_nothing_until_it_trains(copied):
    path, _ = copied
    config = json.loads((path / CONFIG).read_text())
    config["resolved"]["training.epochs"] = 2
    directory = RunDirectory(path)
    directory.open(config, {}, {})
    assert directory.result() is None, "it belongs to the shorter training"
    assert RunDirectory(path).result()["value"] > 0 and state(path) == "measured"
    directory.advance(RunState.TRAINING)
    assert json.loads((path / CONFIG).read_text())["resolved"]["training.epochs"] == 2


@pytest.mark.parametrize(
    "killed",
    [
        lambda path: (path / STATE).write_text('{"state": "training"}'),  # before the result was deleted
        lambda path: (path / STATE).write_text('{"state": "trained"}'),  # before or while the report was written
        lambda path: (path / RESULT).unlink(),
        lambda path: (path / REPORT).unlink(),
        lambda path: (path / STATE).unlink(),
        lambda path: (path / STATE).write_text("{"),
    ],
    ids=["result left", "report being written", "no result", "no report", "no state", "broken state"],
)
def test_the_same_command_measures_a_run_that_was_killed_between_two_writes(killed, copied, measured):
    path, again = copied
    killed(path)
    assert again().record["value"] == measured.record["value"]
    assert state(path) == "measured" and (path / REPORT).is_file()
    assert json.loads((path / RESULT).read_text())["value"] == measured.record["value"]


def test_execution_settings_may_change_on_load(copied):
    path, _ = copied
    other = dgmzoo.experiment("vae/digits", {**SHORT, "execution.checkpoint_seconds": 5.0})
    assert dgmzoo.load(path, other).record["value"] > 0


@pytest.mark.thorough
def test_an_extra_loss_that_cannot_be_recognised_is_a_warning_at_the_start(tmp_path):
    import jax

    loss = jax.jit(lambda evidence, batch: evidence.log_likelihood.mean(0))
    exp = dgmzoo.experiment("vae/digits", {**SHORT, "extra_losses": {"odd": loss}})
    with pytest.warns(UserWarning, match="cannot be resumed with its extra loss 'odd'"):
        dgmzoo.train(exp, tmp_path / "run", progress=False)
