"""A run that is killed at any moment, and goes on, is the run that was never killed."""

import asyncio
import gc
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dgmzoo
from dgmzoo import data
from dgmzoo.config import overrides
from dgmzoo.config.preflight import bind
from dgmzoo.training import checkpoint
from dgmzoo.training.batches import dispatch_size, dispatches
from dgmzoo.training.loop import Interrupted, fit
from dgmzoo.training.run_directory import RunDirectory
from tests.support.command import ROOT, SMALL, environment
from tests.support.command import dgmzoo as command
from tests.support.interruptions import rows_of, state_of

WORDS = ("train", "vae/digits", *SMALL, "--training.epochs", "12", "--training.validate-epochs", "3",
         "--training.steps-per-dispatch", "7", "--training.ema", ".9", "--training.checkpoint-seconds", "0")  # fmt: skip

# A child that kills itself: at the first progress past some step, or inside the n-th write of a checkpoint.
CHILD = """
import os, signal, sys
from dgmzoo import cli
from dgmzoo.training import checkpoint, watch
how, at = sys.argv[1], int(sys.argv[2])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
calls = 0
def count(*arguments):
    global calls
    calls += 1
    return real(*arguments) if calls < at else die()
if how == "step":
    real_progress = watch.Watch.progress
    watch.Watch.progress = lambda self, step, *rest: die() if step >= at else real_progress(self, step, *rest)
elif how == "manifest":
    real, checkpoint.write_text = checkpoint.write_text, count
elif how == "arrays":
    import orbax.checkpoint.checkpoint_manager as manager
    real = manager.CheckpointManager.save
    def save(self, *arguments, **named):
        global calls
        calls += 1
        if calls == at:
            import threading
            threading.Timer(.012, die).start()
        return real(self, *arguments, **named)
    manager.CheckpointManager.save = save
cli.main(sys.argv[3:])
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that was never killed."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    done = command(*WORDS, "--run-dir", str(run_dir), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return run_dir


def killed(how: str, at: int, run_dir: Path) -> None:
    line = [sys.executable, "-c", CHILD, how, str(at), *WORDS, "--run-dir", str(run_dir)]
    child = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert child.returncode == -signal.SIGKILL, child.stderr


def same(run_dir: Path, whole: Path) -> str:
    again = command(*WORDS, "--run-dir", str(run_dir), cwd=ROOT)
    assert again.returncode == 0, again.stderr
    ours, theirs = state_of(run_dir), state_of(whole)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert rows_of(run_dir) == rows_of(whole)
    result, expected = (json.loads((path / "result.json").read_text()) for path in (run_dir, whole))
    assert result["value"] == expected["value"] and result["steps"] == expected["steps"]
    return again.stderr


def test_killed_anywhere_it_goes_on_bit_for_bit(tmp_path, whole):
    run_dir = tmp_path / "run"
    early, late = random.uniform(0.05, 0.4), random.uniform(0.5, 0.9)
    print("killed at", early, late)
    killed("step", int(early * 12 * 19), run_dir)
    killed("arrays", random.randint(2, 9), run_dir)  # while Orbax writes
    killed("manifest", random.randint(2, 4), run_dir)  # between the arrays and their digests
    unfinished = [path for path in (run_dir / "checkpoints/latest").iterdir() if not (path / "manifest.json").exists()]
    assert unfinished
    killed("step", int(late * 12 * 19), run_dir)
    damage(run_dir / "checkpoints/latest", "altered")
    told = same(run_dir, whole)
    assert "is damaged" in told and "trying the one before" in told


def test_stopped_by_ctrl_c_says_how_to_go_on(tmp_path):
    run_dir = tmp_path / "run"
    line = [sys.executable, "-m", "dgmzoo", *WORDS, "--training.epochs", "9999", "--run-dir", str(run_dir)]
    child = subprocess.Popen(line, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)
    while not list(run_dir.glob("checkpoints/latest/*/manifest.json")):
        time.sleep(0.01)
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=120)
    assert child.returncode == 130 and "the same command goes on" in told and "Traceback" not in told
    newest = RunDirectory(run_dir).latest.steps()[-1]
    assert f"stopped at step {newest};" in told
    assert all(row["step"] <= newest for row in RunDirectory(run_dir).metrics())


@pytest.fixture
def small() -> dgmzoo.Experiment:
    changes = {"model.encoder.hidden": (4,), "model.decoder.hidden": (4,), "model.latent_dim": 2}
    changes |= {"training.epochs": 2, "training.checkpoint_seconds": 0.0, "evaluation.num_samples": 2}
    return dgmzoo.experiment("vae/digits", changes)


@pytest.fixture
def heeding_ctrl_c():
    """What is started in the background ignores Ctrl-C, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_while_measuring_leaves_a_run_that_goes_on(tmp_path):
    run_dir = tmp_path / "run"
    words = ("train", "vae/digits", *SMALL, "--training.epochs", "2", "--run-dir", str(run_dir))
    line = [sys.executable, "-m", "dgmzoo", *words, "--evaluation.num-samples", "300000"]  # some seconds a part
    optimized = environment(JAX_DISABLE_MOST_OPTIMIZATIONS="0")  # a part takes minutes otherwise
    with subprocess.Popen(line, cwd=ROOT, env=optimized, stderr=subprocess.PIPE, text=True) as child:
        try:
            while not (run_dir / "checkpoints/latest/38/manifest.json").exists():
                time.sleep(0.05)
                assert child.poll() is None
            time.sleep(4)  # into the evaluation
            child.send_signal(signal.SIGINT)
            _, told = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 130 and "the same command goes on" in told and "Traceback" not in told
    assert not (run_dir / "result.json").exists()


def damage(folder: Path, how: str) -> None:
    """Cut or change the largest file of the newest checkpoint."""
    step = max(int(path.name) for path in folder.iterdir())
    files = [path for path in (folder / str(step)).rglob("d/*") if path.is_file()]
    path = max(files, key=lambda each: each.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "altered" else content[:-1])


@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_damaged_checkpoint_falls_back_then_refuses(tmp_path, how):
    kept = checkpoint.Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        kept.save(step, {"a": np.full(1000, step, np.float32)}, {})
    assert kept.steps() == [2, 3]
    damage(tmp_path, how)
    with pytest.warns(UserWarning, match="damaged.*trying the one before"):
        found = kept.restore({"a": np.zeros(1000, np.float32)})
    assert found.step == 2 and (found.tree["a"] == 2).all()
    shutil.rmtree(tmp_path / "3")
    damage(tmp_path, how)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected an intact checkpoint"):
        kept.restore({"a": np.zeros(1000, np.float32)})
    assert kept.steps() == [2]  # nothing was deleted


def test_killed_in_its_first_checkpoint_a_run_begins_anew(tmp_path):
    kept = checkpoint.Checkpoints(tmp_path, keep=2)
    kept.save(1, {"a": np.ones(3, np.float32)}, {})
    (tmp_path / "1" / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="its writing did not end"):
        assert kept.restore({"a": np.zeros(3, np.float32)}) is None
    kept.save(1, {"a": np.ones(3, np.float32)}, {})
    assert kept.restore({"a": np.zeros(3, np.float32)}).step == 1


def test_what_a_kill_left_half_written_goes_with_the_next_checkpoint(tmp_path):
    (tmp_path / "5.orbax-checkpoint-tmp" / "tree").mkdir(parents=True)
    checkpoint.Checkpoints(tmp_path, keep=2).save(7, {"a": np.zeros(2)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_saving_over_a_damaged_checkpoint_keeps_intact_ones(tmp_path):
    kept = checkpoint.Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        kept.save(step, {"a": np.full(1000, step, np.float32)}, {})
    (tmp_path / "2" / "manifest.json").unlink()
    kept.save(3, {"a": np.full(1000, 3, np.float32)}, {})
    assert kept.steps() == [1, 3]


def test_the_failed_tasks_of_orbax_alone_are_not_told(tmp_path, caplog):
    checkpoint.Checkpoints(tmp_path, keep=1).save(1, {"a": np.zeros(2)}, {})
    for place in ("/lib/orbax/checkpoint/handler.py", "/home/orbax-checkpoint/mine.py"):
        space = {}
        exec(
            compile("async def write(): raise OSError(27, 'File too large: /run/5.orbax/checkpoint/')", place, "exec"),
            space,
        )

        async def lost(write=space["write"]):
            asyncio.create_task(write())  # noqa: RUF006  no one waits for it
            await asyncio.sleep(0.01)

        asyncio.run(lost())
        gc.collect()
    told = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert len(told) == 1 and "never retrieved" in told[0] and "mine.py" in told[0]


def test_checkpoint_of_another_tree_is_refused(tmp_path):
    kept = checkpoint.Checkpoints(tmp_path, keep=2)
    kept.save(3, {"a": np.ones(3, np.float32)}, {"n": 1})
    found = kept.restore({"a": np.zeros(3, np.float32)})
    assert found.step == 3 and found.progress == {"n": 1} and (found.tree["a"] == 1).all()
    for other in ({"a": np.zeros(4, np.float32)}, {"b": np.zeros(3, np.float32)}, {"a": np.zeros(3, np.float16)}):
        with pytest.raises(ValueError, match="expected checkpoint"):
            kept.restore(other)


def test_two_processes_in_one_run_directory(tmp_path, small):
    with RunDirectory(tmp_path / "run").held(), pytest.raises(ValueError, match="another process trains into it"):
        dgmzoo.train(small, run_dir=tmp_path / "run", progress=False)


def test_length_may_grow_and_nothing_else_may_change(tmp_path, small):
    constant = overrides.override(small, {"training.schedule": "constant", "training.final_learning_rate": 0.0})
    dgmzoo.train(constant, run_dir=tmp_path / "run", progress=False)
    longer = overrides.override(constant, {"training.epochs": 3})
    grown = dgmzoo.train(longer, run_dir=tmp_path / "run", progress=False)
    at_once = dgmzoo.train(longer, progress=False)
    losses = [[row["loss"] for row in run.metrics if row["split"] == "train"] for run in (grown, at_once)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    before = (tmp_path / "run/config.json").read_bytes()
    for change in ({"training.epochs": 1}, {"training.learning_rate": 1.0}, {"model.latent_dim": 3}, {"data.seed": 1}):
        with pytest.raises(ValueError, match=next(iter(change)).replace(".", r"\.")):
            dgmzoo.train(overrides.override(longer, change), run_dir=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        dgmzoo.train(longer, run_dir=tmp_path / "run", seed=1, progress=False)
    assert (tmp_path / "run/config.json").read_bytes() == before


def test_dispatch_grid_depends_on_the_position_alone():
    for per_epoch, total, n in ((19, 57, 7), (600, 1300, 50), (648, 648, 54), (3, 7, 3)):
        sizes = list(dispatches(0, total, per_epoch, n))
        assert sum(sizes) == total and set(sizes) <= {n, 1}  # at most two programs
        positions = np.cumsum([0, *sizes])
        for at in positions[:-1]:
            assert list(np.cumsum([at, *dispatches(int(at), total, per_epoch, n)])) == list(positions[positions >= at])
    assert dispatch_size(False, 600) in range(32, 65) and 600 % dispatch_size(False, 600) == 0
    assert dispatch_size(True, 600) == 1 and dispatch_size(False, 19) == 19


def test_interrupted_in_memory_raises(small):
    class Stop:
        def begin(self, step, total): ...
        def write(self, row): ...
        def progress(self, step, total, latest): ...
        def should_stop(self):
            return True

    dataset = data.load(small.data)
    model = dgmzoo.functional(bind(small.model, dataset))
    with pytest.raises(Interrupted, match="stopped at step 19"):
        fit(small, model, dataset, 0, Stop())
