"""`Checkpoints`: save numbered checkpoints with digests, and restore the newest one that is intact.

Orbax writes and restores the arrays, but does not notice a flipped byte. Each checkpoint therefore carries a manifest, which
is written last and holds the size and sha256 of every file. A checkpoint without a manifest, or with files that do not match
it, is skipped, and the one before it is restored.
"""

import hashlib
import json
import os
import re
import shutil
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
    """The content of an intact checkpoint."""

    step: int
    tree: Any  # structure of the template, arrays on the host
    progress: dict[str, Any]


class Checkpoints:
    """Checkpoints of one kind of tree, numbered by their steps, in a directory.

    Args:
      keep: number of checkpoints that are kept; older ones are deleted.
      before_change: called before any checkpoint is written or deleted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     checkpoints = Checkpoints(Path(directory), keep=2)
    ...     checkpoints.save(100, {"w": np.ones(3, np.float32)}, {"best_step": 50})
    ...     checkpoints.restore({"w": np.zeros(3, np.float32)}).progress
    {'best_step': 50}
    """

    def __init__(self, directory: Path, keep: int, before_change: Callable[[], None] = lambda: None):
        self.directory, self.keep, self._before_change = Path(directory), keep, before_change

    def steps(self) -> list[int]:
        """Steps of all checkpoints in order, damaged ones included."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def complete_steps(self) -> list[int]:
        """Steps of the checkpoints whose writing was completed, including those damaged since."""
        return [step for step in self.steps() if (self._path(step) / _MANIFEST).is_file()]

    def save(self, step: int, tree: Any, progress: dict[str, Any]) -> None:
        """Write a checkpoint; on return all of it is on disk.

        Args:
          tree: arrays.
          progress: values that JSON can hold.

        Raises:
          CannotWrite: the other checkpoints are kept, and nothing of this one.
        """
        self._before_change()
        try:
            self._write(step, tree, progress)
        except Exception as error:
            if (reason := _write_failure(error)) is None:
                raise
            time.sleep(1)  # Orbax's other tasks still write, and would create files anew that are deleted below
            for remainder in (
                self._path(step),
                *self.directory.glob(f"{step}.*"),
            ):  # Orbax renames a temporary directory
                shutil.rmtree(remainder, ignore_errors=True)
            raise CannotWrite(self._path(step), reason) from error
        newest = [earlier for earlier in self.complete_steps() if earlier <= step][-self.keep :]
        for other in self.steps():  # a later step was damaged, and skipped when the run was resumed
            if other not in newest:
                self._delete(other)

    def forget_after(self, step: int) -> None:
        """Delete later checkpoints, which a run resumed from `step` writes again; they would displace earlier ones."""
        later = [other for other in self.steps() if other > step]
        if later:
            self._before_change()
        for other in later:
            self._delete(other)

    def restore(self, template: Any, upto: int | None = None) -> Restored | None:
        """The newest intact checkpoint; None if the writing of none was completed. Warns about damaged ones.

        Args:
          template: tree of arrays or `ShapeDtypeStruct` with the expected structure, shapes and dtypes.
          upto: last step that is considered.

        Raises:
          ValueError: all complete checkpoints are damaged, or an intact one holds another tree.
        """
        steps = [step for step in reversed(self.steps()) if upto is None or step <= upto]
        for step in steps:
            if damage := _damage(self._path(step)):
                warnings.warn(
                    f"checkpoint {self._path(step)} is damaged ({damage}); trying the one before", stacklevel=2
                )
                continue
            return self._read(step, template)
        if damaged := set(steps) & set(self.complete_steps()):
            raise ValueError(
                f"expected an intact checkpoint in {self.directory}, got {len(damaged)} damaged; "
                "restore the directory from a copy, or delete it to train anew"
            )
        return None

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _delete(self, step: int) -> None:
        """Delete the manifest first: if the deletion is interrupted, the checkpoint counts as incomplete."""
        (self._path(step) / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._path(step))

    def _write(self, step: int, tree: Any, progress: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        path = self._path(step)
        if path.exists():  # damaged, or written by a run that was killed and resumed from an earlier step
            self._delete(step)
        for remainder in self.directory.glob("*.orbax-checkpoint-tmp*"):  # of a process that was killed during a write
            shutil.rmtree(remainder, ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        arrays = jax.device_get(_keys_as_data(tree))
        items = ocp.args.Composite(tree=ocp.args.StandardSave(arrays), progress=ocp.args.JsonSave(progress))
        with _checkpointer() as checkpointer:
            checkpointer.save(path.absolute(), args=items)
        write_text(path / _MANIFEST, json.dumps({"tree": _signature(tree), "files": _digests(path)}))

    def _read(self, step: int, template: Any) -> Restored:
        import orbax.checkpoint as ocp

        path = self._path(step)
        stored, expected = json.loads((path / _MANIFEST).read_text())["tree"], _signature(template)
        if stored != expected:  # Orbax would truncate, pad or cast the arrays
            names = sorted(name for name in {*stored, *expected} if stored.get(name) != expected.get(name))
            differences = "; ".join(f"{name}: {expected.get(name)}, got {stored.get(name)}" for name in names[:3])
            raise ValueError(f"expected checkpoint {path} to hold this experiment's arrays ({differences})")
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), _key_shapes_as_data(template))
        items = ocp.args.Composite(tree=ocp.args.StandardRestore(shapes), progress=ocp.args.JsonRestore())
        with _checkpointer() as checkpointer:
            restored = checkpointer.restore(path.absolute(), args=items)
        return Restored(step, _data_as_keys(restored["tree"], template), dict(restored["progress"]))


def _checkpointer():
    """Orbax's synchronous checkpointer of named items, which does not wait for other processes of the run."""
    import orbax.checkpoint as ocp  # its import takes 1.5 s

    process = jax.process_index()
    options = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        options = ocp.options.MultiprocessingOptions(
            primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process-{process}"
        )
    handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(multiprocessing_options=options))
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _write_failure(error: BaseException) -> str | None:
    """The reason for which a checkpoint could not be written; None for an error of another kind."""
    if isinstance(error, CannotWrite):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = re.search(r"os_error_code='(\d+)'", str(error))  # in a ValueError of Tensorstore
    return os.strerror(int(code[1])) if code else None


# Typed keys, which Orbax does not store


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _keys_as_data(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree)


def _key_shapes_as_data(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf, tree)


def _data_as_keys(tree: Any, template: Any) -> Any:
    def convert(expected, leaf):
        return jax.random.wrap_key_data(np.asarray(leaf)) if _is_key(expected) else np.asarray(leaf)

    return jax.tree.map(convert, template, tree)


# Manifests


def _signature(tree: Any) -> dict[str, str]:
    """Path -> dtype and shape of every array."""
    leaves = jax.tree.leaves_with_path(_key_shapes_as_data(tree))
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _digests(checkpoint: Path) -> dict[str, list]:
    """Relative path -> size in bytes and sha256 of every file but the manifest."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != _MANIFEST)
    return {str(path.relative_to(checkpoint)): [path.stat().st_size, _sha256(path)] for path in files}


def _damage(checkpoint: Path) -> str | None:
    """A description of the damage to a checkpoint, or None."""
    try:
        expected = json.loads((checkpoint / _MANIFEST).read_text())["files"]
    except FileNotFoundError:
        return "its writing was not completed"
    except (ValueError, KeyError, TypeError, OSError):
        return "its manifest cannot be read"
    files = {str(path.relative_to(checkpoint)): path for path in checkpoint.rglob("*") if path.is_file()}
    if not isinstance(expected, dict) or not set(expected) <= set(files):  # a file manager may have added others
        return "files are missing"
    for name, (size, _) in expected.items():
        if files[name].stat().st_size != size:
            return f"{name} has another size"
    for name, (_, digest) in expected.items():
        if _sha256(files[name]) != digest:
            return f"{name} has other content"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
