"""Checkpoints: damage is detected and earlier checkpoints are restored, partial writes are ignored, trees are compared."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from dgmzoo.training.checkpoint import Checkpoints
from tests.support.command import ROOT, environment

ZEROS = {"a": np.zeros(1000, np.float32)}


def filled(value: float) -> dict[str, np.ndarray]:
    return {"a": np.full(1000, value, np.float32)}


def damage(directory, how: str) -> None:
    """Truncate or alter the largest data file of the newest checkpoint."""
    step = max(int(path.name) for path in directory.iterdir())
    files = [path for path in (directory / str(step)).rglob("d/*") if path.is_file()]
    path = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "altered" else content[:-1])


@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_earlier_checkpoint_is_restored_until_all_are_damaged(tmp_path, how):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, filled(step), {})
    assert checkpoints.steps() == [2, 3]
    damage(tmp_path, how)
    with pytest.warns(UserWarning, match="damaged.*trying the one before"):
        restored = checkpoints.restore(ZEROS)
    assert restored.step == 2 and (restored.tree["a"] == 2).all()
    shutil.rmtree(tmp_path / "3")
    damage(tmp_path, how)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="expected an intact checkpoint"):
        checkpoints.restore(ZEROS)
    assert checkpoints.steps() == [2], "nothing is deleted"


def test_incomplete_first_checkpoint_counts_as_none(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, filled(1), {})
    (tmp_path / "1" / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="its writing was not completed"):
        assert checkpoints.restore(ZEROS) is None
    checkpoints.save(1, filled(1), {})
    assert checkpoints.restore(ZEROS).step == 1


def test_partial_write_of_a_killed_process_is_deleted_by_the_next_save(tmp_path):
    (tmp_path / "5.orbax-checkpoint-tmp" / "tree").mkdir(parents=True)
    Checkpoints(tmp_path, keep=2).save(7, filled(7), {})
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_incomplete_checkpoint_does_not_displace_a_complete_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save(step, filled(step), {})
    (tmp_path / "2" / "manifest.json").unlink()
    checkpoints.save(3, filled(3), {})
    assert checkpoints.steps() == [1, 3]


def test_checkpoint_of_another_tree_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(3, filled(1), {"n": 1})
    restored = checkpoints.restore(ZEROS)
    assert restored.step == 3 and restored.progress == {"n": 1} and (restored.tree["a"] == 1).all()
    for other in ({"a": np.zeros(4, np.float32)}, {"b": ZEROS["a"]}, {"a": np.zeros(1000, np.float16)}):
        with pytest.raises(ValueError, match="expected checkpoint"):
            checkpoints.restore(other)


# A process that saves two checkpoints; the second meets a limit on file sizes.
LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from dgmzoo.files import CannotWrite
from dgmzoo.training.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
tree = {"a": np.random.default_rng(0).normal(size=1000), "b": np.random.default_rng(1).normal(size=1000)}
checkpoints.save(1, tree, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    checkpoints.save(2, tree, {})
except CannotWrite as error:
    print(error.path, "|", error.reason)
print(sorted(path.name for path in Path(sys.argv[1]).iterdir()))
"""


@pytest.mark.parametrize("limit", [0, 2000])
def test_failed_write_keeps_the_earlier_checkpoint_and_nothing_of_its_own(tmp_path, limit):
    line = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)]
    completed = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines() == [f"{tmp_path / '2'} | File too large", "['1']"], completed.stderr


def test_saving_and_restoring_leave_the_hooks_of_python_and_the_levels_of_logging(tmp_path, capfd):
    import logging

    def settings():
        loggers = [logging.getLogger(name) for name in (None, "absl", "asyncio")]
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return sys.unraisablehook, sys.excepthook, handlers, [(log.level, list(log.filters)) for log in loggers]

    import orbax.checkpoint  # noqa: F401  its import may change settings of its own

    before = settings()
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, filled(1), {})
    checkpoints.restore(ZEROS)
    assert settings() == before
    assert capfd.readouterr() == ("", ""), "an ordinary save prints nothing"
    assert os.listdir(tmp_path) == ["1"]
