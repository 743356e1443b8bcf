"""`joined`: connect the processes of a run; check that settings agree; share errors, texts and checkpoints.

All processes run the same program, each on its share of every batch; process 0 alone writes files. The functions of this
module must be called by all processes. With a single process they return at once.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dgmzoo.files import CannotWrite
from dgmzoo.training import devices
from dgmzoo.training.checkpoint import Checkpoints, Restored

_SHUTDOWN_SECONDS = 5  # time that a process with an error waits for the others to shut down


def is_first() -> bool:
    """True if this process writes the files.

    >>> is_first()
    True
    """
    return jax.process_index() == 0


@contextlib.contextmanager
def joined(coordinator: str | None, processes: int | None, process: int | None) -> Iterator[None]:
    """Connect to the other processes, before anything uses a device; end the process if one of them is lost.

    Args:
      coordinator: HOST:PORT at which process 0 waits for the others; "auto": the cluster provides all three arguments;
        None: a single process.
      processes: number of processes.
      process: number of this process, from 0.

    Raises:
      ValueError: the three do not fit together, or the port is taken.

    >>> with joined(None, None, None):
    ...     jax.process_count()
    1
    """
    if coordinator is None and processes is None and process is None:
        yield
        return
    _connect(coordinator, processes, process)
    try:
        yield
    except (Exception, SystemExit) as error:
        lost = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error)
        if not lost and _others_shut_down():  # all processes have the error, and each reports it
            raise
        if os.environ.get("DGMZOO_TRACEBACK"):
            traceback.print_exc()
        message = str(error)
        if lost:
            message = (
                f"expected all {jax.process_count()} processes to stay, but one was lost or its device failed "
                f"({message[:200]}); start all of "
                "them again with the same commands, and the run resumes from its last checkpoint"
            )
        if not isinstance(error, SystemExit):
            print(f"error: {message}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1 if isinstance(error, CannotWrite) else 2)  # a normal exit would wait for the others


def _connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    jax.config.update("jax_enable_preemption_service", False)  # it would replace our handler of SIGTERM
    if coordinator == "auto":
        if (processes, process) != (None, None):
            raise ValueError("expected --coordinator auto alone, got --processes or --process with it; leave them out")
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"expected a cluster that JAX can detect, got none ({error}); "
                "give --coordinator HOST:PORT --processes N --process I"
            ) from None
        return
    if coordinator is None or processes is None or process is None:
        raise ValueError(
            f"expected --coordinator, --processes and --process together, got {coordinator}, {processes}, {process}; "
            "give all three, or --coordinator auto on a cluster"
        )
    if processes < 1 or not 0 <= process < processes:
        raise ValueError(f"expected --process from 0 to --processes - 1, got {process} of {processes}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"expected --coordinator HOST:PORT, the address of process 0, got {coordinator!r}")
    if process == 0:
        _check_free(int(port))
    print(f"process {process} of {processes} connects to the others at {coordinator}", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except RuntimeError as error:
        raise ValueError(f"expected process {process} to connect before it uses a device, got: {error}") from None


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ValueError(f"expected port {port} of the coordinator to be free, got {error.strerror}") from None


def _others_shut_down() -> bool:
    """True if all processes shut down together; False if the others still run, so that this one must not wait."""
    shutdown = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    shutdown.start()
    shutdown.join(_SHUTDOWN_SECONDS)
    return not shutdown.is_alive()


def connect_devices() -> None:
    """Run a first collective on all devices, while the processes are at the same point.

    gloo waits half a minute for the first collective of a process, and without limit for later ones.
    """
    if jax.process_count() > 1:
        all_gather_text("")
        devices.FlagReduction(jax.local_devices())(False)


def all_gather_text(text: str) -> list[str]:
    """The texts of all processes, in order.

    >>> all_gather_text("ready")
    ['ready']
    """
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([own.size], np.int32))[:, 0]
    padded = np.zeros(-(-int(sizes.max() + 1) // 1024) * 1024, np.uint8)  # few sizes, so few compiled programs
    padded[: own.size] = own
    gathered = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(gathered, sizes, strict=True)]


def broadcast_flag(flag: bool) -> bool:
    """The flag of process 0.

    >>> broadcast_flag(True)
    True
    """
    return all_gather_text("yes" if flag else "")[0] == "yes"


@contextlib.contextmanager
def shared_errors() -> Iterator[None]:
    """Raise an error of one process in all of them, so that none waits for a process that has ended.

    Raises:
      ValueError: another process raised a ValueError or OSError in the block; with its message.

    >>> with shared_errors():
    ...     pass
    """
    try:
        yield
    except (ValueError, OSError) as error:
        all_gather_text(str(error) or type(error).__name__)
        raise
    for i, message in enumerate(all_gather_text("")):
        if message:
            raise ValueError(f"process {i}: {message}")


def check_agreement(settings: dict[str, Any]) -> None:
    """Check that all processes have the same settings.

    Raises:
      ValueError: with the first field that differs.

    >>> check_agreement({"seed": 0})
    """
    for i, text in enumerate(all_gather_text(json.dumps(settings, sort_keys=True))):
        other = json.loads(text)
        own = json.loads(json.dumps(settings))
        if fields := [name for name in sorted({*own, *other}) if own.get(name) != other.get(name)]:
            field = fields[0]
            raise ValueError(
                f"expected the same of all processes, got {field} {own.get(field)!r} in process "
                f"{jax.process_index()} and {other.get(field)!r} in process {i}; give all the same command"
            )


class SharedCheckpoints:
    """`Checkpoints` on a file system that all processes share: process 0 writes them, all processes read them.

    >>> SharedCheckpoints(Checkpoints("run/checkpoints/latest", keep=2)).steps()
    []
    """

    def __init__(self, checkpoints: Checkpoints):
        self._checkpoints, self.directory = checkpoints, checkpoints.directory

    def steps(self) -> list[int]:
        """`Checkpoints.steps` of process 0."""
        return json.loads(all_gather_text(json.dumps(self._checkpoints.steps()))[0])

    def save(self, step: int, tree: Any, progress: dict[str, Any]) -> None:
        """`Checkpoints.save` in process 0."""
        with shared_errors():
            if is_first():
                self._checkpoints.save(step, tree, progress)

    def forget_after(self, step: int) -> None:
        """`Checkpoints.forget_after` in process 0."""
        with shared_errors():
            if is_first():
                self._checkpoints.forget_after(step)

    def restore(self, template: Any, upto: int | None = None) -> Restored | None:
        """`Checkpoints.restore` in every process.

        Raises:
          ValueError: as `Checkpoints.restore`, or the processes do not see the same files.
        """
        with shared_errors():
            restored = self._checkpoints.restore(template, upto)
        steps = all_gather_text(str(restored and restored.step))
        if len(set(steps)) > 1:
            raise ValueError(
                f"expected all processes to see the same checkpoints in {self.directory}, got steps {', '.join(steps)}; "
                "give a --run-dir on a file system that they share"
            )
        return restored
