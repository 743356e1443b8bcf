"""`ProgressCallback`: log the metrics, show the progress of training, and stop on a signal."""

import collections
import contextlib
import datetime
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from dgmzoo.evaluation.training_value import is_bound
from dgmzoo.training.heartbeat import heartbeat
from dgmzoo.training.metric_writers import WRITERS, Row, Writer
from dgmzoo.training.run_directory import RunDirectory
from dgmzoo.training.stopwatch import Stopwatch

_WINDOW = 30.0  # seconds over which speed is averaged
_LINE_SECONDS = 25.0  # between two lines where there is no terminal, before the `heartbeat` prints one of its own


class ProgressCallback:
    """Callback of the training loop that logs the metrics, shows the progress, and requests a stop on a signal.

    Args:
      directory: run directory that receives the rows; None: a run in memory.
      show: show the progress on standard error: a bar on a terminal, otherwise a line every half minute.
      writers: further receivers of the rows.
      console: receiver of the progress instead of standard error.
      clock: seconds since an arbitrary start, for speed and time left.
      training_value: see `dgmzoo.evaluation.training_value`; what is no bound is neither shown nor written as one.
      log_det: nats to subtract from bounds, so that they are those of the data's own units.

    >>> callback = ProgressCallback(None, show=False)
    >>> callback.begin(step=0, total=100)
    >>> callback.write({"step": 10, "split": "train", "loss": 5.0})
    >>> callback.rows[0]["loss"], callback.should_stop()
    (5.0, False)
    """

    def __init__(
        self,
        directory: RunDirectory | None,
        show: bool,
        writers: Sequence[str | Writer] = (),
        console: Console | None = None,
        clock: Callable[[], float] | None = None,
        training_value: str = "exact",
        log_det: float = 0.0,
    ):
        self.rows: list[Row] = []
        self.directory = directory
        self.signal: int | None = None  # the signal that requested a stop
        self._requested_writers, self._writers = writers, []
        self._console = (console or Console(stderr=True)) if show else None
        self._bar: Progress | None = None
        self._clock = clock or Stopwatch()
        self._last_line = self._clock()
        self._recent: collections.deque[tuple[float, int]] = collections.deque()  # (seconds, step) within the window
        self._validation = ""
        self._state, self._printed = "compiling the training step", lambda: None
        self._is_bound, self._log_det = is_bound(training_value), log_det

    def begin(self, step: int, total: int) -> None:
        if self.directory:  # rows past the checkpoint are written again
            self.rows = self.directory.forget_after(step)
            if step and self._console:
                message = "resuming from" if step < total else "nothing left to train after"
                self._console.print(f"{message} step {step} of {self.directory.path}", highlight=False, markup=False)
        self._writers = [
            writer if callable(writer) else WRITERS[writer](self.directory.path, self.rows)
            for writer in self._requested_writers
        ]

    def write(self, row: Row) -> None:
        if row["split"] == "train" and not self._is_bound:
            row = {name: value for name, value in row.items() if name not in ("elbo", "bound")}
        row = self._in_own_units(row)
        self.rows.append(row)
        if self.directory:
            self.directory.append(row)
        for writer in self._writers:
            writer(row)
        if row["split"] == "valid":
            self._validation = f"valid {row['loss']:.2f}"

    def progress(self, step: int, total: int, latest: Mapping[str, float]) -> None:
        self._state = f"step {step}/{total}"
        self._recent.append((self._clock(), step))
        while len(self._recent) > 2 and self._recent[-1][0] - self._recent[0][0] > _WINDOW:
            self._recent.popleft()
        if self._bar:
            self._bar.update(self._task, completed=step, total=total, summary=self._summary(step, total, latest))
        elif self._console and (self._clock() - self._last_line > _LINE_SECONDS or step == total):
            self._last_line = self._clock()
            self._printed()
            line = f"step {step}/{total}  {self._summary(step, total, latest)}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _summary(self, step: int, total: int, latest: Mapping[str, float]) -> str:
        """Loss, bound, last validation result, speed and time left."""
        parts = [f"loss {latest['loss']:.2f}"]
        latest = self._in_own_units(latest)
        bound = latest.get("bound", latest.get("elbo"))
        parts += [f"bound {bound:.2f}"] if bound is not None and self._is_bound else []
        parts += [self._validation] if self._validation else []
        (start, first_step), (now, _) = self._recent[0], self._recent[-1]
        if now > start and step > first_step:
            speed = (step - first_step) / (now - start)
            time_left = datetime.timedelta(seconds=round((total - step) / speed))
            parts += [f"{speed:,.{0 if speed >= 10 else 2}f} steps/s", f"{time_left} left"]
        return "  ".join(parts)

    def _in_own_units(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Bounds on the density in the units of a table that was standardised for the model; a loss stays as it is."""
        bounds = {name: values[name] - self._log_det for name in ("elbo", "bound") if name in values}
        return {**values, **bounds} if self._log_det else values

    def should_stop(self) -> bool:
        return self.signal is not None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Show the progress, and turn the first Ctrl-C or SIGTERM into a clean stop; a second Ctrl-C stops at once.

        Former handlers of the signals are restored at the end. They receive a signal that came too late for the loop.
        """
        with contextlib.ExitStack() as stack:
            if self._console and (self._console.is_terminal or self._console.is_jupyter):
                columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[summary]}"), TimeElapsedColumn())
                bar = Progress(*columns, console=self._console, transient=True, get_time=self._clock)
                self._bar = stack.enter_context(bar)
                self._task = self._bar.add_task("train", total=None, summary="compiling")
            elif self._console:
                self._printed = stack.enter_context(heartbeat(lambda: self._state, self._console))
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGINT, signal.SIGTERM):
                    former = signal.signal(number, self._request_stop)
                    stack.callback(signal.signal, number, signal.SIG_DFL if former is None else former)
            yield
        if self.signal is not None:
            signal.raise_signal(self.signal)

    def _request_stop(self, number: int, frame) -> None:
        if self.should_stop() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        with contextlib.suppress(RuntimeError, OSError):  # a write was interrupted by the signal, or the pipe is closed
            print("\nstopping after this dispatch", file=sys.stderr)


@contextlib.contextmanager
def evaluation_progress(description: str, show: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show the progress of an evaluation on standard error: a bar on a terminal, otherwise a line every half minute.

    Yields a function of the numbers of examples done and in total, or None if nothing is shown.

    >>> with evaluation_progress("measuring test", show=False) as report_progress:
    ...     report_progress is None
    True
    """
    if not show:
        yield None
        return
    console, latest = Console(stderr=True), ""
    if not (console.is_terminal or console.is_jupyter):

        def note(done: int, total: int) -> None:
            nonlocal latest
            latest = f": {done:,} of {total:,} examples"

        with heartbeat(lambda: description + (latest or ": compiling"), console):
            yield note
        return
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def stage(text: str, show: bool) -> contextlib.AbstractContextManager:
    """Show a stage of the work that has no count, such as the writing of the report, if it lasts.

    >>> with stage("writing the report", show=False):
    ...     pass
    """
    return heartbeat(text, Console(stderr=True) if show else None)
