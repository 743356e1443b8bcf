"""Copies of the metrics for other programs. `metrics.jsonl` is what counts: where a run goes on, they are made anew from it.

So no row is lost or doubled, and a copy that is asked for later has the rows before it too.
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
    """`metrics.csv`: a column per metric, in the order in which they came up; cells that do not apply are empty."""

    def __init__(self, folder: Path, rows: Sequence[Row]):
        self.path, self.rows = folder / "metrics.csv", list(rows)
        self._write_whole()

    def __call__(self, row: Row) -> None:
        self.rows.append(row)
        if set(row) <= set(self.columns):
            append_text(self.path, self._text([row]))
        else:
            self._write_whole()

    def _write_whole(self) -> None:
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        header = dict(zip(self.columns, self.columns, strict=True))
        write_text(self.path, self._text([header, *self.rows] if self.rows else []))

    def _text(self, rows: Sequence[Row]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue()


class TensorBoard:
    """`tensorboard/`: one event file, a scalar per metric and split. Its wall time leaves out the pauses of a run."""

    def __init__(self, folder: Path, rows: Sequence[Row]):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.Event, self.Record, place = Event, RecordWriter, folder / "tensorboard"
        self.began = time.time() - (rows[-1]["seconds"] if rows else 0.0)
        self.path = place / f"events.out.tfevents.{time.time():.0f}.dgmzoo"
        with writing(self.path):
            place.mkdir(exist_ok=True)
            for old in place.glob("events.out.tfevents.*.dgmzoo"):
                old.unlink()
        self._add(file_version="brain.Event:2")
        self._add(step=0, session_log=SessionLog(status=SessionLog.START))  # who looks on forgets what it had read
        for row in rows:
            self(row)

    def __call__(self, row: Row) -> None:
        values = [
            {"tag": f"{name}/{row['split']}", "simple_value": value}
            for name, value in row.items()
            if name not in ("step", "split", "seconds")
        ]
        self._add(step=row["step"], wall_time=self.began + row["seconds"], summary={"value": values})

    def _add(self, wall_time: float | None = None, **fields: Any) -> None:
        event = self.Event(wall_time=self.began if wall_time is None else wall_time, **fields)
        with writing(self.path), self.path.open("ab") as file:
            self.Record(file).write(event.SerializeToString())


WRITERS: dict[str, Callable[[Path, Sequence[Row]], Writer]] = {"csv": Csv, "tensorboard": TensorBoard}


def check(writers: Sequence[str | Writer], in_memory: bool) -> None:
    """Refuse writers that are not known, not installed, or have no place to write to.

    Raises:
      ValueError: as said.
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
