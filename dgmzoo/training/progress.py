"""Looking on while a run trains: rows kept and written, progress shown, stop signals heard."""

import collections
import contextlib
import datetime
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dgmzoo.training.metric_writers import WRITERS, Row, Writer
from dgmzoo.training.run_directory import RunDirectory
from dgmzoo.training.stopwatch import Stopwatch

_SPAN = 30.0  # seconds over which speed is measured, and between two lines where there is no terminal


class ProgressCallback:
    """The loop's watcher: keeps the rows, hands them on, and shows how far training is."""

    def __init__(self, folder: RunDirectory | None, show: bool, writers: Sequence[str | Writer] = ()):
        self.rows: list[Row] = []
        self.folder = folder
        self.signal: int | None = None  # that asked to stop
        self._writers, self._open = writers, []
        self._console = Console(stderr=True) if show else None
        self._bar: Progress | None = None
        self._clock = Stopwatch()
        self._told = self._clock()
        self._pace: collections.deque[tuple[float, int]] = collections.deque()  # (seconds, step)
        self._valid = ""

    def begin(self, step: int, total: int) -> None:
        if self.folder:  # rows past the checkpoint will be written again
            self.rows = self.folder.forget_after(step)
            if step and self._console:
                what = "going on from" if step < total else "nothing left to train after"
                self._console.print(f"{what} step {step} of {self.folder.path}", highlight=False)
        self._open = [each if callable(each) else WRITERS[each](self.folder.path, self.rows) for each in self._writers]

    def write(self, row: Row) -> None:
        self.rows.append(row)
        if self.folder:
            self.folder.append(row)
        for writer in self._open:
            writer(row)
        if row["split"] == "valid":
            self._valid = f"valid {row['loss']:.2f}"

    def progress(self, step: int, total: int, latest: Mapping[str, float]) -> None:
        self._pace.append((self._clock(), step))
        while len(self._pace) > 2 and self._pace[-1][0] - self._pace[0][0] > _SPAN:
            self._pace.popleft()
        if self._bar:
            self._bar.update(self._task, completed=step, total=total, told=self._tell(step, total, latest))
        elif self._console and (self._clock() - self._told > _SPAN or step == total):
            self._told = self._clock()
            line = f"step {step}/{total}  {self._tell(step, total, latest)}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _tell(self, step: int, total: int, latest: Mapping[str, float]) -> str:
        """Loss, bound, the last reading, speed and the time left."""
        parts = [f"loss {latest['loss']:.2f}"]
        parts += [f"bound {latest['elbo']:.2f}"] if "elbo" in latest else []
        parts += [self._valid] if self._valid else []
        (then, before), (now, _) = self._pace[0], self._pace[-1]
        if now > then and step > before:
            speed = (step - before) / (now - then)
            left = datetime.timedelta(seconds=round((total - step) / speed))
            parts += [f"{speed:,.{0 if speed >= 10 else 2}f} steps/s", f"{left} left"]
        return "  ".join(parts)

    def should_stop(self) -> bool:
        return self.signal is not None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Show progress and turn the first Ctrl-C or SIGTERM into a clean stop; a second Ctrl-C stops at once."""
        with contextlib.ExitStack() as stack:
            if self._console and (self._console.is_terminal or self._console.is_jupyter):
                columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
                bar = Progress(*columns, console=self._console, transient=True, get_time=self._clock)
                self._bar = stack.enter_context(bar)
                self._task = self._bar.add_task("train", total=None, told="")
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGINT, signal.SIGTERM):
                    before = signal.signal(number, self._stop)
                    stack.callback(signal.signal, number, signal.SIG_DFL if before is None else before)
            yield
        if self.signal is not None:  # too late for the loop
            signal.raise_signal(self.signal)

    def _stop(self, number: int, frame) -> None:
        if self.should_stop() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(RuntimeError, OSError):  # it fell into another write, or nobody reads any more
            print("\nstopping after this dispatch", file=sys.stderr)


@contextlib.contextmanager
def evaluation_progress(what: str, show: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar for an evaluation, where standard error is a terminal; the function it yields is told how far it is."""
    console = Console(stderr=True)
    if not show or not (console.is_terminal or console.is_jupyter):
        yield None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
