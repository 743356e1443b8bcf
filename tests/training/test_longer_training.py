"""A result is replaced by that of a longer training, or of the same training after its parameters were lost."""

import pytest

import dgmzoo
from dgmzoo.training import loop
from dgmzoo.training.run_directory import RunDirectory
from dgmzoo.training.seed_tracker import SeedTracker
from tests.support.tiny import TINY, damage, skip_reports

CONSTANT = TINY | {"training.schedule": "constant", "training.final_learning_rate": 0.0}
RESULTS = {"result.json", "report.html", "samples.png"}


def die(*_):
    raise SystemExit


def train(run_dir, changes, epochs):
    exp = dgmzoo.experiment("vae/digits", changes | {"training.epochs": epochs})
    return dgmzoo.train(exp, run_dir, progress=False)


@pytest.mark.thorough
def test_a_result_stays_until_a_longer_training_writes_something(tmp_path, monkeypatch):
    def train_and_die_in(method, at):
        original = getattr(SeedTracker, method)

        def die_late(self, step, *rest):
            return die() if step >= at else original(self, step, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(SeedTracker, method, die_late)
            with pytest.raises(SystemExit):
                train(tmp_path, CONSTANT, epochs=3)

    short = train(tmp_path, CONSTANT, epochs=1)
    names = {path.name for path in tmp_path.iterdir()}
    assert RESULTS <= names
    train_and_die_in("begin", 0)  # before anything is written: the shorter run is unchanged
    assert {path.name for path in tmp_path.iterdir()} == names
    again = train(tmp_path, CONSTANT, epochs=1)
    assert again.record == short.record == dgmzoo.load(tmp_path).record
    train_and_die_in("end_epoch", 57)  # after the row of an epoch: the directory belongs to the longer run
    assert not {path.name for path in tmp_path.iterdir()} & RESULTS
    with pytest.raises(ValueError, match=r"training\.epochs was 3, now 1"):
        train(tmp_path, CONSTANT, epochs=1)
    assert train(tmp_path, CONSTANT, epochs=3).record["steps"] > short.record["steps"]


@pytest.mark.thorough
def test_a_longer_training_with_nothing_left_to_do_is_measured_once(tmp_path, monkeypatch):
    skip_reports(monkeypatch)
    unmoved = CONSTANT | {"training.learning_rate": 1e-30, "training.optimizer": "sgd"}
    unmoved |= {"training.patience": 1, "training.validate_epochs": 1}
    runs = [train(tmp_path, unmoved, epochs) for epochs in (5, 6)]
    assert max(row["step"] for row in runs[0].metrics) == 38 and runs[0].record["value"] == runs[1].record["value"]
    assert dgmzoo.load(tmp_path, runs[1].experiment).record["overrides"]["training.epochs"] == 6
    monkeypatch.setattr("dgmzoo.api.measure", None)
    assert train(tmp_path, unmoved, epochs=6).record == runs[1].record


@pytest.mark.thorough
def test_lost_parameters_take_the_result_with_them(tmp_path, monkeypatch):
    """The newest checkpoint of a measured run is damaged, and the resumed run is killed before it writes a row."""
    skip_reports(monkeypatch)
    changes = TINY | {"execution.checkpoint_seconds": 0.0, "training.validate_epochs": 1}
    value = train(tmp_path, changes, epochs=2).record["value"]
    damage(tmp_path, 38)
    with pytest.warns(UserWarning, match="damaged"):
        assert dgmzoo.load(tmp_path).record is None, "its parameters are those of an earlier step"
    with monkeypatch.context() as patch, pytest.raises(SystemExit), pytest.warns(UserWarning, match="damaged"):
        patch.setattr(loop._Loop, "_train", die)
        train(tmp_path, changes, epochs=2)
    assert not (tmp_path / "result.json").exists()
    assert train(tmp_path, changes, epochs=2).record["value"] == value


@pytest.mark.thorough
def test_a_checkpoint_belongs_to_the_longer_training_before_any_row_does(tmp_path, monkeypatch):
    skip_reports(monkeypatch)
    changes = CONSTANT | {"execution.checkpoint_seconds": 0.0, "execution.dispatch": 10}
    train(tmp_path, changes, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(SeedTracker, "end_epoch", die)
        with pytest.raises(SystemExit):
            train(tmp_path, changes, epochs=2)
    assert 19 < RunDirectory(tmp_path).latest.steps()[-1] < 38 and not (tmp_path / "result.json").exists()
    assert RunDirectory(tmp_path).config()["resolved"]["training.epochs"] == 2
