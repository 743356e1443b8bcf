"""Looking on while a run trains: rows kept and written, progress shown, stop signals heard."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dgmzoo.training.folder import Folder


class Watch:
    """The loop's watcher: keeps the rows, hands them on, and shows how far training is."""

    def __init__(self, folder: Folder | None, show: bool):
        self.rows: list[dict[str, Any]] = []
        self.folder = folder
        self.stopped = False
        self._console = Console(stderr=True) if show else None
        self._bar: Progress | None = None
        self._told = time.monotonic()

    def begin(self, step: int) -> None:
        if self.folder:  # rows past the checkpoint will be written again
            self.rows = self.folder.forget_after(step)
            if step and self._console:
                self._console.print(f"going on from step {step} of {self.folder.path}", highlight=False)

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.folder:
            self.folder.append(row)
        if row["split"] == "valid" and self._bar:
            self._bar.update(self._task, valid=f"valid {row['loss']:.2f}")

    def progress(self, step: int, total: int, latest: Mapping[str, float]) -> None:
        if self._bar:
            self._bar.update(self._task, completed=step, total=total, loss=f"loss {latest['loss']:.2f}")
        elif self._console and (time.monotonic() - self._told > 30 or step == total):
            self._told = time.monotonic()
            self._console.print(f"step {step}/{total} loss {latest['loss']:.2f}", highlight=False)

    def should_stop(self) -> bool:
        return self.stopped

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Show progress and turn the first Ctrl-C or SIGTERM into a clean stop; a second Ctrl-C stops at once."""
        with contextlib.ExitStack() as stack:
            if self._console and (self._console.is_terminal or self._console.is_jupyter):
                columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
                columns += (TextColumn("{task.fields[valid]}"), TimeElapsedColumn(), TimeRemainingColumn())
                self._bar = stack.enter_context(Progress(*columns, console=self._console, transient=True))
                self._task = self._bar.add_task("train", total=None, loss="", valid="")
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGINT, signal.SIGTERM):
                    stack.callback(signal.signal, number, signal.signal(number, self._stop))
            yield

    def _stop(self, number: int, frame) -> None:
        if self.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped = True
        print("\nstopping after this dispatch", file=sys.stderr)


@contextlib.contextmanager
def measuring(what: str, show: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar for an evaluation, where standard error is a terminal; the function it yields is told how far it is."""
    console = Console(stderr=True)
    if not show or not (console.is_terminal or console.is_jupyter):
        yield None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
