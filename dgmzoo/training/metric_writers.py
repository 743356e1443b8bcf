"""`Csv`: write the training metrics to a CSV file; `TensorBoard`: write them for TensorBoard.

`metrics.jsonl` is the original. When a run is resumed, the copies are written anew from its rows, so that no row is lost
or doubled, and a writer that is added later also gets the rows from before.
"""

import csv
import importlib.util
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dgmzoo.files import append_text, write_text, writing

Row = dict[str, Any]  # step, split, loss, elbo, kl/<layer>, grad_norm, seconds
Writer = Callable[[Row], None]


class Csv:
    """Writer of `metrics.csv`: a column per metric, in order of first appearance; other cells stay empty.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     writer = Csv(Path(directory), rows=[{"step": 1, "loss": 9.0}])
    ...     writer({"step": 2, "loss": 8.0})
    ...     (Path(directory) / "metrics.csv").read_text().split()
    ['step,loss', '1,9.0', '2,8.0']
    """

    def __init__(self, directory: Path, rows: Sequence[Row]):
        self.path, self.rows = directory / "metrics.csv", list(rows)
        self._write_all()

    def __call__(self, row: Row) -> None:
        self.rows.append(row)
        if set(row) <= set(self.columns):
            append_text(self.path, self._format([row]))
        else:
            self._write_all()

    def _write_all(self) -> None:
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        header = dict(zip(self.columns, self.columns, strict=True))
        write_text(self.path, self._format([header, *self.rows] if self.rows else []))

    def _format(self, rows: Sequence[Row]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue()


class TensorBoard:
    """Writer of one event file in `tensorboard/`: a scalar per metric and split.

    Its wall time leaves out the pauses of a run that was stopped and resumed.
    """

    def __init__(self, directory: Path, rows: Sequence[Row]):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event_class, self._record_writer, events = Event, RecordWriter, directory / "tensorboard"
        self._start = time.time() - (rows[-1]["seconds"] if rows else 0.0)
        self.path = events / f"events.out.tfevents.{time.time():.0f}.dgmzoo"
        with writing(self.path):
            events.mkdir(exist_ok=True)
            for former in events.glob("events.out.tfevents.*.dgmzoo"):
                former.unlink()
        self._add(file_version="brain.Event:2")
        self._add(step=0, session_log=SessionLog(status=SessionLog.START))  # an open TensorBoard discards former events
        for row in rows:
            self(row)

    def __call__(self, row: Row) -> None:
        values = [
            {"tag": f"{name}/{row['split']}", "simple_value": value}
            for name, value in row.items()
            if name not in ("step", "split", "seconds")
        ]
        self._add(step=row["step"], wall_time=self._start + row["seconds"], summary={"value": values})

    def _add(self, wall_time: float | None = None, **fields: Any) -> None:
        event = self._event_class(wall_time=self._start if wall_time is None else wall_time, **fields)
        with writing(self.path), self.path.open("ab") as file:
            self._record_writer(file).write(event.SerializeToString())


WRITERS: dict[str, Callable[[Path, Sequence[Row]], Writer]] = {"csv": Csv, "tensorboard": TensorBoard}


def check(writers: Sequence[str | Writer], in_memory: bool) -> None:
    """Check the writers that were requested.

    Raises:
      ValueError: a name is unknown, its package is not installed, or a run in memory has no directory for its file.

    >>> check(["csv", print], in_memory=False)
    >>> check(["csv"], in_memory=True)
    Traceback (most recent call last):
    ValueError: expected a run_dir for the writer 'csv', got a run in memory; name one
    """
    for writer in writers:
        if callable(writer):
            continue
        if writer not in WRITERS:
            raise ValueError(f"expected writers among {', '.join(WRITERS)}, or functions of a row, got {writer!r}")
        if in_memory:
            raise ValueError(f"expected a run_dir for the writer {writer!r}, got a run in memory; name one")
        if writer == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "expected the package tensorboard for the writer 'tensorboard', got an environment without it; "
                'install it: pip install -e ".[tensorboard]"'
            )
