"""Several processes of one run: how they meet, agree on what they do, and hear of each other's errors.

All run the same program, each with its share of every batch; process 0 alone writes. What is called here, all call.
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

_PATIENCE = 5  # seconds that a process which met an error waits for the others to end as well


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


@contextlib.contextmanager
def joined(coordinator: str | None, processes: int | None, process: int | None) -> Iterator[None]:
    """Meet the other processes before anything touches a device; end with a message where one of them is lost.

    Args:
      coordinator: HOST:PORT, at which process 0 waits for the others; "auto" where the cluster tells all three; None for
        a process that is on its own.

    Raises:
      ValueError: the three do not fit together, or the port is taken.
    """
    if coordinator is None and processes is None and process is None:
        yield
        return
    _join(coordinator, processes, process)
    try:
        yield
    except (Exception, SystemExit) as error:
        lost = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error)
        if not lost and _left():  # all met it, and each says so itself
            raise
        if os.environ.get("DGMZOO_TRACEBACK"):
            traceback.print_exc()
        message = str(error)
        if lost:
            message = (
                f"expected all {jax.process_count()} processes to stay, but one was lost or its device failed "
                f"({message[:200]}); start all of "
                "them again with the same commands, and the run goes on from its last checkpoint"
            )
        if not isinstance(error, SystemExit):
            print(f"error: {message}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1 if isinstance(error, CannotWrite) else 2)  # an ordinary exit would wait for the others


def _join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM, with which ours stops cleanly
    if coordinator == "auto":
        if (processes, process) != (None, None):
            raise ValueError("expected --coordinator auto alone, got --processes or --process with it; leave them out")
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"expected a cluster that tells processes of each other, got none ({error}); "
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
    print(f"process {process} of {processes} meets the others at {coordinator}", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except RuntimeError as error:
        raise ValueError(f"expected process {process} to join the others before it touches a device: {error}") from None


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ValueError(f"expected port {port} of the coordinator to be free, got {error.strerror}") from None


def _left() -> bool:
    """Whether the others end as well; a process that goes alone must not wait for them."""
    leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    leaving.start()
    leaving.join(_PATIENCE)
    return not leaving.is_alive()


def meet() -> None:
    """Connect all devices while no process is late: gloo waits half a minute for a first collective, then as long as needed."""
    if jax.process_count() > 1:
        everyone("")
        devices.FlagReduction(jax.local_devices())(False)


def everyone(text: str) -> list[str]:
    """What each process says, in their order."""
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([own.size], np.int32))[:, 0]
    padded = np.zeros(-(-int(sizes.max() + 1) // 1024) * 1024, np.uint8)  # few sizes, few programs
    padded[: own.size] = own
    found = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(found, sizes, strict=True)]


def first_says(whether: bool) -> bool:
    """What process 0 says."""
    return everyone("yes" if whether else "")[0] == "yes"


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Raise in every process what one of them meets here, so that none waits for one that has ended.

    Raises:
      ValueError: another process met an error; its message.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        everyone(str(error) or type(error).__name__)
        raise
    for i, told in enumerate(everyone("")):
        if told:
            raise ValueError(f"process {i}: {told}")


def agree(wanted: dict[str, Any]) -> None:
    """Refuse processes that were told different things.

    Raises:
      ValueError: with the fields that differ.
    """
    for i, told in enumerate(everyone(json.dumps(wanted, sort_keys=True))):
        theirs = json.loads(told)
        ours = json.loads(json.dumps(wanted))
        if odd := [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]:
            raise ValueError(
                f"expected the same of all processes, got {odd[0]} {ours.get(odd[0])!r} in process "
                f"{jax.process_index()} and {theirs.get(odd[0])!r} in process {i}; give all the same command"
            )


class SharedCheckpoints:
    """Checkpoints on a file system that all processes see: process 0 writes them, all read them."""

    def __init__(self, own: Checkpoints):
        self.own, self.folder = own, own.folder

    def steps(self) -> list[int]:
        """As process 0 sees them."""
        return json.loads(everyone(json.dumps(self.own.steps()))[0])

    def save(self, step: int, tree: Any, progress: dict[str, Any]) -> None:
        """As `Checkpoints.save`."""
        with together():
            if is_first():
                self.own.save(step, tree, progress)

    def forget_after(self, step: int) -> None:
        """As `Checkpoints.forget_after`."""
        with together():
            if is_first():
                self.own.forget_after(step)

    def restore(self, template: Any, upto: int | None = None) -> Restored | None:
        """As `Checkpoints.restore`.

        Raises:
          ValueError: as there, or the processes do not see the same files.
        """
        with together():
            found = self.own.restore(template, upto)
        steps = everyone(str(found and found.step))
        if len(set(steps)) > 1:
            raise ValueError(
                f"expected all processes to see the same checkpoints in {self.folder}, got steps {', '.join(steps)}; "
                "give a --run-dir on a file system that they share"
            )
        return found
