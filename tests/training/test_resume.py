"""A run that is killed or stopped at any moment and resumed equals an uninterrupted run, bit for bit."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import dgmzoo
from dgmzoo import data
from dgmzoo.config import overrides
from dgmzoo.config.preflight import bind
from dgmzoo.training.batches import default_dispatch_size, dispatch_sizes
from dgmzoo.training.loop import Interrupted, fit
from dgmzoo.training.run_directory import RunDirectory
from tests.support.command import ROOT, SMALL, environment
from tests.support.interruptions import Reference, checkpoints_of, progress_of
from tests.support.tiny import Quiet, damage

SHORT = (
    "--training.epochs",
    "12",
    "--training.validate-epochs",
    "3",
    "--training.ema",
    ".9",
    "--execution.dispatch",
    "7",
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Reference:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    return Reference(tmp_path_factory.mktemp("resume"), chance=random.Random(seed), options=SHORT)


def kill_after(reference: Reference, run_dir, step: int) -> None:
    """Start or resume the run, and kill it after its first checkpoint past a step."""
    with reference.started(run_dir) as child:
        reference.wait_for_checkpoint(child, run_dir, after=step)
        assert child.poll() is None, child.stderr.read()


@pytest.mark.thorough
def test_killed_run_equals_uninterrupted_run(reference, tmp_path):
    kill_after(reference, tmp_path / "run", reference.chance.randrange(150))
    assert 0 < progress_of(tmp_path / "run")["seconds"]
    errors = reference.finish(tmp_path / "run")
    assert "resuming from step" in errors


@pytest.mark.thorough
def test_run_killed_in_each_phase_of_a_checkpoint_equals_uninterrupted_run(reference, tmp_path):
    run_dir = tmp_path / "run"
    with reference.started(run_dir) as child:  # while the arrays of the first checkpoint are written
        reference.wait(child, lambda: bool(checkpoints_of(run_dir)[1]))
    kill_after(reference, run_dir, 60)
    *_, newest = checkpoints_of(run_dir)[0]
    (
        run_dir / f"checkpoints/latest/{newest}/manifest.json"
    ).unlink()  # as if killed between the arrays and the manifest
    kill_after(reference, run_dir, 120)
    damage(run_dir, checkpoints_of(run_dir)[0][-1])
    errors = reference.finish(run_dir)
    assert "is damaged" in errors and "trying the one before" in errors


@pytest.fixture
def receptive_to_ctrl_c():
    """Children of a process that runs in the background would ignore Ctrl-C."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("receptive_to_ctrl_c")
def test_ctrl_c_writes_a_checkpoint_and_names_the_remedy(reference, tmp_path):
    run_dir = tmp_path / "run"
    with reference.started(run_dir, "--training.epochs", "9999") as child:
        reference.wait_for_checkpoint(child, run_dir)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=120)
    assert child.returncode == 130 and "the same command resumes" in errors and "Traceback" not in errors
    newest = RunDirectory(run_dir).latest.steps()[-1]
    assert f"stopped at step {newest};" in errors
    assert all(row["step"] <= newest for row in RunDirectory(run_dir).metrics())


@pytest.mark.thorough
@pytest.mark.usefixtures("receptive_to_ctrl_c")
def test_ctrl_c_during_the_evaluation_leaves_a_run_that_resumes(tmp_path):
    run_dir = tmp_path / "run"
    words = ("train", "vae/digits", *SMALL, "--training.epochs", "2", "--run-dir", str(run_dir))
    line = [sys.executable, "-m", "dgmzoo", *words, "--evaluation.num-samples", "300000"]  # seconds for each batch
    optimized = environment(JAX_DISABLE_MOST_OPTIMIZATIONS="0")  # otherwise minutes for each batch
    with subprocess.Popen(line, cwd=ROOT, env=optimized, stderr=subprocess.PIPE, text=True) as child:
        try:
            while not (run_dir / "checkpoints/latest/38/manifest.json").exists():
                time.sleep(0.05)
                assert child.poll() is None
            time.sleep(4)  # until the evaluation has begun
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 130 and "the same command resumes" in errors and "Traceback" not in errors
    assert not (run_dir / "result.json").exists()


@pytest.fixture
def small() -> dgmzoo.Experiment:
    changes = {"model.encoder.hidden": (4,), "model.decoder.hidden": (4,), "model.latent_dim": 2}
    changes |= {"training.epochs": 2, "execution.checkpoint_seconds": 0.0, "evaluation.num_samples": 2}
    return dgmzoo.experiment("vae/digits", changes)


def test_second_process_in_a_run_directory_is_refused(tmp_path, small):
    with RunDirectory(tmp_path / "run").lock(), pytest.raises(ValueError, match="another process trains into it"):
        dgmzoo.train(small, run_dir=tmp_path / "run", progress=False)


@pytest.mark.thorough
def test_length_may_grow_on_resume_and_nothing_else_may_change(tmp_path, small):
    constant = overrides.override(small, {"training.schedule": "constant", "training.final_learning_rate": 0.0})
    dgmzoo.train(constant, run_dir=tmp_path / "run", progress=False)
    longer = overrides.override(constant, {"training.epochs": 3})
    extended = dgmzoo.train(longer, run_dir=tmp_path / "run", progress=False)
    uninterrupted = dgmzoo.train(longer, progress=False)
    losses = [[row["loss"] for row in run.metrics if row["split"] == "train"] for run in (extended, uninterrupted)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    before = (tmp_path / "run/config.json").read_bytes()
    for change in ({"training.epochs": 1}, {"training.learning_rate": 1.0}, {"model.latent_dim": 3}, {"data.seed": 1}):
        with pytest.raises(ValueError, match=next(iter(change)).replace(".", r"\.")):
            dgmzoo.train(overrides.override(longer, change), run_dir=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        dgmzoo.train(longer, run_dir=tmp_path / "run", seed=1, progress=False)
    assert (tmp_path / "run/config.json").read_bytes() == before


def test_dispatches_cover_every_step_and_end_with_epochs():
    for steps_per_epoch, total, n in ((19, 57, 7), (600, 1300, 50), (648, 648, 54), (3, 7, 3)):
        steps, sizes = zip(*dispatch_sizes(0, total, [steps_per_epoch], lambda n=n: n), strict=True)
        assert sum(sizes) == total and max(sizes) <= n and list(steps) == list(np.cumsum([0, *sizes[:-1]]))
        ends = set(np.cumsum(sizes).tolist())
        assert set(range(steps_per_epoch, total, steps_per_epoch)) <= ends


def test_default_dispatch_size_divides_the_epoch():
    assert default_dispatch_size(False, 600) in range(32, 65) and 600 % default_dispatch_size(False, 600) == 0
    assert default_dispatch_size(True, 600) == 1 and default_dispatch_size(False, 19) == 19


class Stopping(Quiet):
    def should_stop(self):
        return True


def test_stopped_run_in_memory_raises(small):
    dataset = data.load_dataset(small.data)
    model = dgmzoo.functional(bind(small.model, dataset))
    with pytest.raises(Interrupted, match="stopped at step 1"):  # after the first dispatch
        fit(small, model, dataset, 0, Stopping())
