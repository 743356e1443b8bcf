"""A result, and what takes its place: a longer training, or the same one after its parameters were lost."""

import pytest

import dgmzoo
from dgmzoo.training import loop
from dgmzoo.training.run_directory import RunDirectory
from dgmzoo.training.seed_tracker import SeedTracker
from tests.support.tiny import TINY, damage


def test_a_result_stays_until_a_longer_training_writes_something(tmp_path, monkeypatch):
    same = TINY | {"training.schedule": "constant", "training.final_learning_rate": 0.0, "training.epochs": 1}
    exps = [dgmzoo.experiment("vae/digits", same | {"training.epochs": num}) for num in (1, 3)]
    short = dgmzoo.train(exps[0], tmp_path, progress=False)
    there = {path.name for path in tmp_path.iterdir()}
    assert {"result.json", "report.html", "samples.png"} <= there

    def dies(name, at):
        real = getattr(SeedTracker, name)

        def die(self, step, *rest):
            if step >= at:
                raise SystemExit
            return real(self, step, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(SeedTracker, name, die)
            with pytest.raises(SystemExit):
                dgmzoo.train(exps[1], tmp_path, progress=False)

    dies("begin", 0)  # killed while it compiles: the shorter one is as it was
    assert {path.name for path in tmp_path.iterdir()} == there
    again = dgmzoo.train(exps[0], tmp_path, progress=False)
    assert again.record == short.record == dgmzoo.load(tmp_path).record
    dies("end_epoch", 57)  # after the first epoch's row: it is the longer one's folder
    assert not {path.name for path in tmp_path.iterdir()} & {"result.json", "report.html", "samples.png"}
    with pytest.raises(ValueError, match=r"training\.epochs was 3, now 1"):
        dgmzoo.train(exps[0], tmp_path, progress=False)
    assert dgmzoo.train(exps[1], tmp_path, progress=False).record["steps"] > short.record["steps"]


def test_a_longer_training_with_nothing_left_to_do_is_measured_once(tmp_path, monkeypatch):
    same = TINY | {
        "training.schedule": "constant",
        "training.final_learning_rate": 0.0,
        "training.learning_rate": 1e-30,
    }
    same |= {"training.patience": 1, "training.validate_epochs": 1, "training.optimizer": "sgd"}  # nothing moves
    exps = [dgmzoo.experiment("vae/digits", same | {"training.epochs": num}) for num in (5, 6)]
    runs = [dgmzoo.train(exp, tmp_path, progress=False) for exp in exps]
    assert max(row["step"] for row in runs[0].metrics) == 38 and runs[0].record["value"] == runs[1].record["value"]
    assert dgmzoo.load(tmp_path, exps[1]).record["overrides"]["training.epochs"] == 6
    monkeypatch.setattr(dgmzoo.Run, "measure", None)
    assert dgmzoo.train(exps[1], tmp_path, progress=False).record == runs[1].record


def test_what_is_dropped_takes_the_result_with_it(tmp_path, monkeypatch):
    """The newest checkpoint of a measured run is damaged; the run goes back, and is killed before it writes a row."""
    more = {"training.epochs": 2, "execution.checkpoint_seconds": 0.0, "training.validate_epochs": 1}
    exp = dgmzoo.experiment("vae/digits", TINY | more)
    whole = dgmzoo.train(exp, tmp_path, progress=False)
    damage(tmp_path, 38)
    with pytest.warns(UserWarning, match="damaged"):
        assert dgmzoo.load(tmp_path).record is None, "its parameters are those of the step before"
    with monkeypatch.context() as patch, pytest.raises(SystemExit), pytest.warns(UserWarning, match="damaged"):
        patch.setattr(loop._Loop, "_train", lambda *_: exec("raise SystemExit"))
        dgmzoo.train(exp, tmp_path, progress=False)
    assert not (tmp_path / "result.json").exists()
    assert dgmzoo.train(exp, tmp_path, progress=False).record["value"] == whole.record["value"]


def test_a_checkpoint_is_of_the_longer_training_before_any_row_is(tmp_path, monkeypatch):
    same = TINY | {"training.schedule": "constant", "training.final_learning_rate": 0.0}
    same |= {"execution.checkpoint_seconds": 0.0, "execution.dispatch": 10}
    exps = [dgmzoo.experiment("vae/digits", same | {"training.epochs": num}) for num in (1, 2)]
    dgmzoo.train(exps[0], tmp_path, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(SeedTracker, "end_epoch", lambda *_: exec("raise SystemExit"))
        with pytest.raises(SystemExit):
            dgmzoo.train(exps[1], tmp_path, progress=False)
    assert 19 < RunDirectory(tmp_path).latest.steps()[-1] < 38 and not (tmp_path / "result.json").exists()
    assert RunDirectory(tmp_path).config()["resolved"]["training.epochs"] == 2
