"""Checkpoints that are checked before they are believed.

Orbax writes and restores the arrays; it does not notice a flipped byte, so each checkpoint carries the size and sha256 of
its files, written last. One without a manifest, or that does not match it, is passed over for the one before.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dgmzoo.files import CannotWrite, write_text

_MANIFEST = "manifest.json"


class Restored(NamedTuple):
    """An intact checkpoint."""

    step: int
    tree: Any  # as the template, on the host
    progress: dict[str, Any]


class Checkpoints:
    """Numbered checkpoints of one kind of tree in a folder, the newest `keep` of them. `before_change` is
    called before any is written or deleted."""

    def __init__(self, folder: Path, keep: int, before_change: Callable[[], None] = lambda: None):
        self.folder, self.keep, self._before_change = Path(folder), keep, before_change

    def steps(self) -> list[int]:
        """All that are there, intact or not, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def save(self, step: int, tree: Any, progress: dict[str, Any]) -> None:
        """Write `tree` (arrays) and `progress` (JSON). On return all of it is on disk.

        Raises:
          CannotWrite: what was there before is still there, and nothing of this step.
        """
        target = self.folder / str(step)
        self._before_change()
        with _orbax() as ocp:
            try:
                self._write(ocp, target, step, tree, progress)
            except Exception as error:
                if (reason := _reason(error)) is None:
                    raise
                time.sleep(1)  # writes of other arrays go on behind its back, complain, and fill what is to be deleted
                for left in (target, *self.folder.glob(f"{step}.*")):  # Orbax writes under another name first
                    shutil.rmtree(left, ignore_errors=True)
                raise CannotWrite(target, reason) from error
        kept = [old for old in self.written() if old <= step][-self.keep :]
        for old in self.steps():  # a later one is of a run that died there, and was passed over when this one went on
            if old not in kept:
                self._delete(old)

    def forget_after(self, step: int) -> None:
        """Delete later ones, which a run that goes on from `step` will write again; they must not count as kept."""
        later = [each for each in self.steps() if each > step]
        if later:
            self._before_change()
        for each in later:
            self._delete(each)

    def _delete(self, step: int) -> None:
        """Without its manifest a checkpoint is one that was never written whole, however much of it is left."""
        (self.folder / str(step) / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self.folder / str(step))

    def written(self) -> list[int]:
        """Those that were written whole, whatever became of them since."""
        return [step for step in self.steps() if (self.folder / str(step) / _MANIFEST).is_file()]

    def intact(self) -> dict[int, dict[str, Any]]:
        """Step -> what was saved beside the arrays, of the intact checkpoints in order."""
        found = [step for step in self.steps() if not _damage(self.folder / str(step))]
        with _orbax() as ocp:
            return {step: dict(self._load(ocp, step, progress=ocp.args.JsonRestore())["progress"]) for step in found}

    def _write(self, ocp, target: Path, step: int, tree: Any, progress: dict[str, Any]) -> None:
        if target.exists():  # left by a run that died after this step, or damaged
            self._delete(step)
        for left in self.folder.glob("*.orbax-checkpoint-tmp*"):  # of a process that was killed as it wrote
            shutil.rmtree(left, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **_alone(ocp))
        with contextlib.closing(ocp.CheckpointManager(self.folder.absolute(), options=options)) as manager:
            args = ocp.args.Composite(
                tree=ocp.args.StandardSave(jax.device_get(_storable(tree))), progress=ocp.args.JsonSave(progress)
            )
            manager.save(step, args=args, force=True)
        write_text(target / _MANIFEST, json.dumps({"tree": _signature(tree), "files": _digests(target)}))

    def restore(self, template: Any, upto: int | None = None) -> Restored | None:
        """The newest intact checkpoint, or None where none was ever written whole. Damaged ones are warned of.

        Args:
          template: a tree of arrays or `ShapeDtypeStruct` that says what is expected.
          upto: pass over later steps.

        Raises:
          ValueError: all that were written whole are damaged since, or an intact one holds another tree.
        """
        found = [step for step in reversed(self.steps()) if upto is None or step <= upto]
        for step in found:
            target = self.folder / str(step)
            if damage := _damage(target):
                warnings.warn(f"checkpoint {target} is damaged ({damage}); trying the one before", stacklevel=2)
                continue
            return self._read(step, template)
        if once := set(found) & set(self.written()):
            raise ValueError(
                f"expected an intact checkpoint in {self.folder}, got {len(once)} damaged; "
                "restore the folder from a copy, or delete it to start anew"
            )
        return None

    def _read(self, step: int, template: Any) -> Restored:
        target = self.folder / str(step)
        stored, expected = json.loads((target / _MANIFEST).read_text())["tree"], _signature(template)
        if stored != expected:  # Orbax itself would cut, pad or cast
            odd = sorted(name for name in {*stored, *expected} if stored.get(name) != expected.get(name))
            what = "; ".join(f"{name}: {expected.get(name)}, got {stored.get(name)}" for name in odd[:3])
            raise ValueError(f"expected checkpoint {target} to hold this experiment's arrays ({what})")
        plain = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), _abstract(template))
        with _orbax() as ocp:
            read = self._load(ocp, step, tree=ocp.args.StandardRestore(plain), progress=ocp.args.JsonRestore())
        return Restored(step, _typed(read["tree"], template), dict(read["progress"]))

    def _load(self, ocp, step: int, **what) -> Any:
        options = ocp.CheckpointManagerOptions(read_only=True, **_alone(ocp))
        with contextlib.closing(ocp.CheckpointManager(self.folder.absolute(), options=options)) as manager:
            return manager.restore(step, args=ocp.args.Composite(**what))


@contextlib.contextmanager
def _orbax():
    """Orbax, which costs 1.5 s to import; its accounts of every save, and of every thread of one that failed, are not shown."""
    import orbax.checkpoint

    logging.getLogger("asyncio").addFilter(_not_of_orbax)  # for good: a failed task is told of when it is collected
    log, hook = logging.getLogger("absl"), sys.unraisablehook
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda unraisable: None
    try:
        yield orbax.checkpoint
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Where several of its tasks fail, Orbax looks after the first; asyncio tells of the others and where they are from."""
    return not re.search(r"(defined|running) at [^>\n]*[/\\]orbax[/\\]checkpoint[/\\]", str(record.msg))


def _reason(error: BaseException) -> str | None:
    """Why a checkpoint could not be written; None where that is not it. Tensorstore tells the code in a ValueError."""
    if isinstance(error, CannotWrite):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(code[1])) if code else None


def _alone(ocp) -> dict[str, Any]:
    """Options without which Orbax would wait for the other processes of the run."""
    if jax.process_count() == 1:
        return {}
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process-{own}"
    )
    return {"multiprocessing_options": alone, "create": False}


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(tree: Any) -> Any:
    """Typed keys as their data."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _abstract(template: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf, template)


def _typed(tree: Any, template: Any) -> Any:
    return jax.tree.map(
        lambda kind, leaf: jax.random.wrap_key_data(np.asarray(leaf)) if _is_key(kind) else np.asarray(leaf),
        template,
        tree,
    )


def _signature(tree: Any) -> dict[str, str]:
    """Path -> dtype and shape of every array."""
    leaves = jax.tree.leaves_with_path(_abstract(tree))
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _digests(target: Path) -> dict[str, list]:
    files = sorted(path for path in target.rglob("*") if path.is_file() and path.name != _MANIFEST)
    return {str(path.relative_to(target)): [path.stat().st_size, _sha256(path)] for path in files}


def _damage(target: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        expected = json.loads((target / _MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return "its writing did not end"
    except (ValueError, KeyError, TypeError, OSError):
        return "its manifest cannot be read"
    present = {str(path.relative_to(target)): path for path in target.rglob("*") if path.is_file()}
    present.pop(_MANIFEST)
    if not isinstance(expected, dict) or set(expected) != set(present):
        return "files are missing or were added"
    for name, entry in expected.items():
        if present[name].stat().st_size != entry[0]:
            return f"{name} has another size"
    for name, entry in expected.items():
        if _sha256(present[name]) != entry[1]:
            return f"{name} has other content"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
