"""Several seeds: together in one program, in turn where they stand apart, and nothing of one given up for another."""

import shutil

import chex
import pytest

import dgmzoo
from dgmzoo.training import loop
from dgmzoo.training.loop import NonFinite, fit
from dgmzoo.training.seed_tracker import SeedTracker
from tests.support.interruptions import progress_of
from tests.support.tiny import TINY, Quiet, damage, prepared


def test_seeds_that_train_together_train_as_alone():
    exp, model, dataset = prepared(TINY | {"training.epochs": 3, "training.validate_epochs": 1, "training.ema": 0.9})
    watches = [Quiet() for _ in range(3)]
    tracks = [SeedTracker("", seed, watch, None) for seed, watch in zip((4, 0, 7), watches, strict=True)]
    together = loop.fit_seeds(exp, model, dataset, tracks)
    for seed, one, watch in zip((4, 0, 7), together, watches, strict=True):
        alone = Quiet()
        fitted = fit(exp, model, dataset, seed, alone)
        assert one.step == fitted.step
        chex.assert_trees_all_close(one.variables, fitted.variables, atol=1e-5, rtol=1e-4)
        assert [row["loss"] for row in watch.rows] == pytest.approx([row["loss"] for row in alone.rows], rel=1e-5)


def test_seeds_that_train_together_refuse_early_stopping():
    exp, model, dataset = prepared(TINY | {"training.patience": 2})
    with pytest.raises(ValueError, match="patience"):
        loop.fit_seeds(exp, model, dataset, [SeedTracker("", seed, Quiet(), None) for seed in range(2)])


def test_several_seeds_leave_a_run_directory_each_and_go_on(tmp_path):
    exp = dgmzoo.experiment("vae/digits", TINY | {"training.epochs": 2, "training.validate_epochs": 1})
    runs = dgmzoo.train(exp, tmp_path, seeds=(3, 1), progress=False)
    assert [run.path.name for run in runs] == ["seed-3", "seed-1"]
    assert runs[0].record["seed"] == 3 and runs[0].record["value"] != runs[1].record["value"]
    shutil.rmtree(tmp_path / "seed-1" / "checkpoints" / "latest" / "38")  # one seed lost its last checkpoint
    shutil.rmtree(tmp_path / "seed-1" / "checkpoints" / "best")
    again = dgmzoo.train(exp, tmp_path, seeds=(3, 1), progress=False)
    assert [run.record["value"] for run in again] == [run.record["value"] for run in runs]
    assert [row["step"] for row in again[0].metrics] == [row["step"] for row in runs[0].metrics]
    alone = dgmzoo.load(tmp_path / "seed-1")
    assert alone.seed == 1 and alone.evaluate()["value"] == runs[1].record["value"]
    with pytest.raises(ValueError, match="different seeds"):
        dgmzoo.train(exp, seeds=(1, 1))
    other = dgmzoo.experiment("vae/digits", TINY | {"training.epochs": 3})
    with pytest.raises(ValueError, match="was 2, now 3"):
        dgmzoo.train(other, tmp_path, seeds=(2, 1), progress=False)
    assert not (tmp_path / "seed-2").exists(), "all or none"


def company(run_dir):
    """Seeds of the program that wrote the newest checkpoint."""
    return progress_of(run_dir)["together"]


@pytest.fixture
def begun(monkeypatch):
    """Steps at which seeds begin, or go on."""
    steps, real = [], SeedTracker.begin
    monkeypatch.setattr(SeedTracker, "begin", lambda self, step, *rest: (steps.append(step), real(self, step, *rest)))
    return steps


def test_seeds_killed_between_their_checkpoints_keep_a_step_in_common(tmp_path, monkeypatch, begun):
    more = {"training.epochs": 6, "training.validate_epochs": 1, "execution.checkpoint_seconds": 0.0}
    exp = dgmzoo.experiment("vae/digits", TINY | more)
    whole = dgmzoo.train(exp, tmp_path / "whole", seeds=(0, 1), progress=False)
    real, real_save, run_dir = SeedTracker.save, loop._Loop._save, tmp_path / "killed"

    def killed_before(seed, at):
        def save(self, step, host):
            if (self.seed, step) == (seed, at):
                raise SystemExit
            return real(self, step, host)

        monkeypatch.setattr(SeedTracker, "save", save)
        with pytest.raises(SystemExit):
            dgmzoo.train(exp, run_dir, seeds=(0, 1), progress=False)
        assert [dgmzoo.load(run_dir / f"seed-{seed}").seed for seed in (0, 1)] == [0, 1]

    killed_before(1, 57)
    # The checkpoint of 57, which seed 0 has from before, is not written again.
    monkeypatch.setattr(loop._Loop, "_save", lambda self, state, step: step == 57 or real_save(self, state, step))
    killed_before(1, 76)
    killed_before(0, 76)
    monkeypatch.setattr(SeedTracker, "save", real)
    again = dgmzoo.train(exp, run_dir, seeds=(0, 1), progress=False)
    assert begun[2:] == [0, 0, 38, 38, 38, 38, 38, 38]
    assert [run.record["value"] for run in again] == [run.record["value"] for run in whole]


def test_seeds_that_stand_apart_go_on_in_turn(tmp_path):
    """One that has ended, two that stand together, and a new one; nothing of the first is touched."""
    more = {"training.epochs": 2, "training.validate_epochs": 1, "execution.checkpoint_seconds": 0.0}
    exp = dgmzoo.experiment("vae/digits", TINY | more)
    alone = dgmzoo.train(exp, tmp_path / "seed-2", seed=2, progress=False)
    dgmzoo.train(exp, tmp_path, seeds=(0, 1), progress=False)
    for seed in (0, 1):
        shutil.rmtree(tmp_path / f"seed-{seed}" / "checkpoints" / "latest" / "38")
    kept = [
        path for name in ("result.json", "report.html", "manifest.json") for path in tmp_path.glob(f"seed-2/**/{name}")
    ]
    before = [path.stat().st_mtime_ns for path in kept]
    runs = dgmzoo.train(exp, tmp_path, seeds=(0, 2, 1, 3), progress=False)
    assert [run.seed for run in runs] == [0, 2, 1, 3] and all(run.record["steps"] for run in runs)
    assert runs[1].record == alone.record
    assert len(before) >= 4 and [path.stat().st_mtime_ns for path in kept] == before
    assert [company(tmp_path / f"seed-{seed}") for seed in range(4)] == [[0, 1], [0, 1], [2], [3]]


def test_nothing_is_given_up_for_another_seed(tmp_path, begun):
    """One that ended, beside one whose folder is gone; one whose last checkpoint is damaged; one killed before its first."""
    more = {"training.epochs": 2, "training.validate_epochs": 1, "execution.checkpoint_seconds": 0.0}
    exp, (first, second) = dgmzoo.experiment("vae/digits", TINY | more), (tmp_path / "seed-0", tmp_path / "seed-1")

    def again():
        begun.clear()
        return dgmzoo.train(exp, tmp_path, seeds=(0, 1), progress=False)

    values = [run.record["value"] for run in again()]
    damage(second, 38)
    (second / "result.json").unlink()
    with pytest.warns(UserWarning, match="damaged"):  # beside one that was measured, which stays as it is
        assert [run.record["value"] for run in again()] == pytest.approx(values, abs=1e-4)
    assert sorted(begun) == [19, 38]
    shutil.rmtree(tmp_path)
    assert [run.record["value"] for run in again()] == values
    damage(second, 38)
    for folder in (first, second):  # a power failure before they were measured: both go back, bit for bit
        (folder / "result.json").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert [run.record["value"] for run in again()] == values
    assert begun == [19, 19]
    shutil.rmtree(second)
    (first / "result.json").unlink()
    assert [run.record["value"] for run in again()] == pytest.approx(values, abs=1e-4)
    assert sorted(begun) == [0, 38]
    for folder, lost in ((first, ("38",)), (second, ("19", "38"))):
        (folder / "result.json").unlink()
        for step in lost:
            shutil.rmtree(folder / "checkpoints/latest" / step)
    again()  # killed as seed 1 wrote its first
    assert begun == [0, 0]


def test_the_others_go_on_without_a_seed_that_diverged(tmp_path, monkeypatch):
    more = {"training.epochs": 4, "training.validate_epochs": 1, "execution.checkpoint_seconds": 0.0}
    exp, real = dgmzoo.experiment("vae/digits", TINY | more), SeedTracker.add_metrics

    def add_metrics(self, start, *rest):
        if self.seed == 1 and start >= 38:
            raise self.non_finite(start, ["loss"])
        real(self, start, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SeedTracker, "add_metrics", add_metrics)
        with pytest.raises(NonFinite, match=r"seed 1, in loss.*38 is kept.*seeds=\[0, 2\]\) resumes without it"):
            dgmzoo.train(exp, tmp_path, seeds=(0, 1, 2), progress=False)
    runs = dgmzoo.train(exp, tmp_path, seeds=(0, 2), progress=False)
    for run in runs:
        assert [row["step"] for row in run.metrics if row["split"] == "train"] == [19, 38, 57, 76]
        assert company(run.path) == [0, 2] and run.record["value"] > 0


def test_a_seed_of_which_nothing_is_intact_is_refused_before_others_train(tmp_path, begun):
    exp = dgmzoo.experiment("vae/digits", TINY | {"training.epochs": 1, "training.validate_epochs": 1})
    dgmzoo.train(exp, tmp_path / "seed-1", seed=1, progress=False)
    damage(tmp_path / "seed-1", 19)
    begun.clear()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected an intact checkpoint"):
        dgmzoo.train(exp, tmp_path, seeds=(0, 1), progress=False)
    assert not begun
