"""Several seeds train in one program, resume at a step that all of them have, and leave measured seeds untouched."""

import shutil

import chex
import pytest

import dgmzoo
from dgmzoo.training import loop, pace
from dgmzoo.training.loop import NonFinite, fit
from dgmzoo.training.seed_tracker import SeedTracker
from tests.support.interruptions import progress_of
from tests.support.tiny import TINY, Quiet, damage, prepared, skip_reports

CHANGES = TINY | {"training.epochs": 2, "training.validate_epochs": 1, "execution.checkpoint_seconds": 0.0}
END = 38  # steps; an epoch has 19


@pytest.fixture(scope="module", autouse=True)
def full_dispatches():
    """Dispatches that end with epochs alone, however slow the machine is: each writes a checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "_SECONDS", 1e9)
        yield


@pytest.fixture(autouse=True)
def without_reports(monkeypatch):
    skip_reports(monkeypatch)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Directory and runs of seeds 0 and 1, which have trained together."""
    directory = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as patch:
        skip_reports(patch)
        return directory, train(directory)


@pytest.fixture
def copied(pair, tmp_path):
    """A copy of the directory of the pair, and the values of its seeds."""
    directory, runs = pair
    shutil.copytree(directory, tmp_path / "runs")
    return tmp_path / "runs", [run.record["value"] for run in runs]


@pytest.fixture
def first_steps(monkeypatch):
    """Steps at which seeds begin or resume."""
    steps, begin = [], SeedTracker.begin

    def recorded(self, step, *rest):
        steps.append(step)
        begin(self, step, *rest)

    monkeypatch.setattr(SeedTracker, "begin", recorded)
    return steps


def train(directory, seeds=(0, 1), epochs=2):
    exp = dgmzoo.experiment("vae/digits", CHANGES | {"training.epochs": epochs})
    return dgmzoo.train(exp, directory, seeds=seeds, progress=False)


def values(runs):
    return [run.record["value"] for run in runs]


def lose(directory, *steps):
    """Delete a result and the checkpoints of some steps."""
    (directory / "result.json").unlink()
    for step in steps:
        shutil.rmtree(directory / "checkpoints" / "latest" / str(step))


def test_seeds_train_together_as_alone():
    exp, model, dataset = prepared(TINY | {"training.epochs": 2, "training.validate_epochs": 1, "training.ema": 0.9})
    callbacks = {seed: Quiet() for seed in (4, 0, 7)}
    trackers = [SeedTracker("", seed, callback, None) for seed, callback in callbacks.items()]
    together = dict(zip(callbacks, loop.fit_seeds(exp, model, dataset, trackers), strict=True))
    for seed in (4, 7):
        alone = Quiet()
        fitted = fit(exp, model, dataset, seed, alone)
        assert together[seed].step == fitted.step
        chex.assert_trees_all_close(together[seed].variables, fitted.variables, atol=1e-5, rtol=1e-4)
        for split in ("train", "valid"):
            assert callbacks[seed].losses(split) == pytest.approx(alone.losses(split), rel=1e-5)


def test_several_seeds_refuse_early_stopping():
    exp, model, dataset = prepared(TINY | {"training.patience": 2})
    with pytest.raises(ValueError, match="patience"):
        loop.fit_seeds(exp, model, dataset, [SeedTracker("", seed, Quiet(), None) for seed in range(2)])


def test_every_seed_has_a_run_directory(pair):
    directory, runs = pair
    assert [run.path.name for run in runs] == ["seed-0", "seed-1"]
    assert [run.record["seed"] for run in runs] == [0, 1] and runs[0].record["value"] != runs[1].record["value"]
    assert [progress_of(run.path)["together"] for run in runs] == [[0, 1], [0, 1]]
    loaded = dgmzoo.load(directory / "seed-1")
    assert loaded.seed == 1 and loaded.evaluate()["value"] == runs[1].record["value"]


def test_bad_seeds_are_refused_before_any_directory_is_written(copied):
    directory, _ = copied
    with pytest.raises(ValueError, match="different seeds"):
        train(None, (1, 1))
    with pytest.raises(ValueError, match="was 2, now 3"):
        train(directory, (2, 1), epochs=3)
    assert not (directory / "seed-2").exists()


@pytest.mark.thorough
def test_measured_seeds_are_returned_as_they_are(copied, first_steps):
    """Beside one that is new. One that lost its last checkpoint does not begin anew with it."""
    directory, before = copied
    names = ("result.json", "report.html", "manifest.json")
    files = [path for path in (directory / "seed-1").rglob("*") if path.name in names]
    times = [path.stat().st_mtime_ns for path in files]
    runs = train(directory, (1, 3))
    assert [run.seed for run in runs] == [1, 3] and values(runs)[0] == before[1]
    assert len(files) >= 4 and [path.stat().st_mtime_ns for path in files] == times
    assert sorted(first_steps) == [0, END]
    lose(directory / "seed-0", END)
    with pytest.raises(ValueError, match=r"got one of \[0\] alone; train them in turn: seeds \[0\], then seeds \[4\]"):
        train(directory, (0, 1, 4))
    assert train(directory, (0,))[0].record["value"] == pytest.approx(before[0], abs=1e-4)  # in a program of its own


@pytest.mark.thorough
def test_seeds_resume_together_at_the_last_common_step(copied, first_steps):
    directory, before = copied
    lose(directory / "seed-0")
    lose(directory / "seed-1")
    damage(directory / "seed-1", END)
    with pytest.warns(UserWarning, match="damaged"):
        assert values(train(directory)) == before
    assert first_steps == [19, 19]


@pytest.mark.thorough
def test_no_seed_loses_more_than_its_own_files(copied, first_steps):
    directory, before = copied
    first, second = directory / "seed-0", directory / "seed-1"
    lose(second)
    damage(second, END)
    with pytest.warns(UserWarning, match="damaged"):  # the first is measured, and stays as it is
        assert values(train(directory)) == pytest.approx(before, abs=1e-4)
    assert sorted(first_steps) == [19, END]
    first_steps.clear()
    lose(first)
    shutil.rmtree(second)
    with pytest.raises(ValueError, match=r"got one of \[0\] alone; train them in turn: seeds \[0\], then seeds \[1\]"):
        train(directory)
    assert values(train(directory, (0,)) + train(directory, (1,))) == pytest.approx(before, abs=1e-4)
    assert first_steps == [END, 0]


@pytest.mark.thorough
def test_seeds_that_are_killed_in_their_first_checkpoint_start_anew(tmp_path, monkeypatch, first_steps):
    save = SeedTracker.save

    def save_or_die(self, step, host):
        if self.seed == 1:
            raise SystemExit
        return save(self, step, host)

    monkeypatch.setattr(SeedTracker, "save", save_or_die)
    with pytest.raises(SystemExit):
        train(tmp_path)
    assert list((tmp_path / "seed-0/checkpoints/latest").iterdir())
    monkeypatch.setattr(SeedTracker, "save", save)
    train(tmp_path)
    assert first_steps == [0, 0, 0, 0]


@pytest.mark.thorough
def test_seeds_that_are_killed_between_their_checkpoints_have_a_step_in_common(tmp_path, monkeypatch, first_steps):
    uninterrupted = train(tmp_path / "uninterrupted", epochs=6)
    save, save_all, run_dir = SeedTracker.save, loop._Loop._save, tmp_path / "killed"

    def kill_before_saving(seed, at):
        def save_or_die(self, step, host):
            if (self.seed, step) == (seed, at):
                raise SystemExit
            return save(self, step, host)

        monkeypatch.setattr(SeedTracker, "save", save_or_die)
        with pytest.raises(SystemExit):
            train(run_dir, epochs=6)
        assert [dgmzoo.load(run_dir / f"seed-{seed}").seed for seed in (0, 1)] == [0, 1]

    kill_before_saving(1, 57)
    # Seed 0 has a checkpoint of step 57 from before; it is not written again.
    monkeypatch.setattr(loop._Loop, "_save", lambda self, state, step: step == 57 or save_all(self, state, step))
    kill_before_saving(1, 76)
    kill_before_saving(0, 76)
    monkeypatch.setattr(SeedTracker, "save", save)
    resumed = train(run_dir, epochs=6)
    first, *others = zip(first_steps[2::2], first_steps[3::2], strict=True)
    assert first == (0, 0) and all(one == two and 38 <= one < 57 for one, two in others), first_steps
    assert values(resumed) == values(uninterrupted)


@pytest.mark.thorough
def test_the_other_seeds_resume_without_one_that_diverged(tmp_path, monkeypatch):
    add_metrics = SeedTracker.add_metrics

    def diverge(self, start, *rest):
        if self.seed == 1 and start >= 38:
            raise self.non_finite(start, ["loss"])
        add_metrics(self, start, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SeedTracker, "add_metrics", diverge)
        with pytest.raises(NonFinite, match=r"seed 1, in loss.*38 is kept.*seeds=\[0, 2\]\) resumes without it"):
            train(tmp_path, (0, 1, 2), epochs=4)
    for run in train(tmp_path, (0, 2), epochs=4):
        assert [row["step"] for row in run.metrics if row["split"] == "train"] == [19, 38, 57, 76]
        assert progress_of(run.path)["together"] == [0, 2] and run.record["value"] > 0


def test_a_seed_without_an_intact_checkpoint_is_refused_before_others_train(copied, first_steps):
    directory, _ = copied
    shutil.rmtree(directory / "seed-0")
    for step in (19, END):
        damage(directory / "seed-1", step)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected an intact checkpoint"):
        train(directory)
    assert not first_steps
