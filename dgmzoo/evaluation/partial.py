"""`PartialSums`: the finished batches of an evaluation on disk, so that an evaluation that was stopped is resumed."""

import contextlib
import hashlib
import io
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dgmzoo.files import write_bytes

_SECONDS = 10.0  # between two writes


class PartialSums:
    """The sums of the batches that an evaluation has finished.

    Args:
      path: file of the sums; it is deleted by `finish`.
      identity: what the sums depend on; those of another identity are not used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sums = PartialSums(Path(folder) / "partial.npz", "step 100")
    ...     sums.add({"log_sum": np.ones(2)}, at_once=True)
    ...     shapes = {"log_sum": jax.ShapeDtypeStruct((2,), float)}
    ...     resumed = PartialSums(Path(folder) / "partial.npz", "step 100").rounds(shapes)
    >>> [each["log_sum"].tolist() for each in resumed]
    [[1.0, 1.0]]
    """

    def __init__(self, path: Path, identity: Any):
        self.path = path
        self.identity = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        self._rounds: list[Any] = []
        self._written = time.monotonic()

    def rounds(self, shapes: Any) -> list[Any]:
        """The sums of the rounds that are on disk, in order; none where the file is missing, damaged or of another evaluation."""
        leaves, structure = jax.tree.flatten(shapes)
        with contextlib.suppress(Exception):  # a damaged file costs its rounds alone
            with np.load(io.BytesIO(self.path.read_bytes()), allow_pickle=False) as stored:
                if str(stored["identity"]) == self.identity:
                    arrays = [stored[f"leaf_{i}"] for i in range(len(leaves))]
                    if all(array.shape[1:] == leaf.shape for array, leaf in zip(arrays, leaves, strict=True)):
                        self._rounds = [jax.tree.unflatten(structure, each) for each in zip(*arrays, strict=True)]
        return list(self._rounds)

    def add(self, sums: Any, at_once: bool = False) -> None:
        """Add the sums of a round; they are written now, or if some seconds have passed since the last write."""
        self._rounds.append(jax.device_get(sums))
        if at_once or time.monotonic() - self._written > _SECONDS:
            self.write()

    def write(self) -> None:
        """Write the sums of all rounds."""
        if not self._rounds:
            return
        leaves = [jax.tree.leaves(each) for each in self._rounds]
        arrays = {f"leaf_{i}": np.stack(parts) for i, parts in enumerate(zip(*leaves, strict=True))}
        np.savez(buffer := io.BytesIO(), identity=np.asarray(self.identity), **arrays)
        with contextlib.suppress(OSError):  # without room the evaluation goes on, and would start anew
            write_bytes(self.path, buffer.getvalue())
        self._written = time.monotonic()

    def finish(self) -> None:
        """Delete the file: the evaluation is complete."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def digest_of_variables(variables: Any) -> str:
    """The sha256 of the values of all variables.

    >>> digest_of_variables({"params": np.zeros(2)}) == digest_of_variables({"params": np.ones(2)})
    False
    """
    sha256 = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(jax.device_get(variables)):
        sha256.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        sha256.update(np.ascontiguousarray(leaf).tobytes())
    return sha256.hexdigest()
