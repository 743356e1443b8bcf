"""`RunDirectory`: the files of one run, locked for one writer; `RunState`: the stages of a run."""

import contextlib
import enum
import fcntl
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dgmzoo.config.experiment import Experiment
from dgmzoo.evaluation import record
from dgmzoo.files import CannotWrite, append_text, read_json, write_bytes, write_json, write_text, writing
from dgmzoo.training.checkpoint import Checkpoints
from dgmzoo.training.run_code import SOURCE, load_experiment_of
from dgmzoo.training.run_config import check_config, lengths, refuse_differences

CONFIG, STATE, METRICS, DATA = "config.json", "state.json", "metrics.jsonl", "data.json"
RESULT, REPORT, SAMPLES, RECONSTRUCTIONS = "result.json", "report.html", "samples.png", "reconstructions.png"


class RunState(enum.StrEnum):
    """States of a run directory, in order.

    >>> RunState("trained") == RunState.TRAINED
    True
    """

    EMPTY = "empty"
    """No run has been created."""
    CREATED = "created"
    """The configuration is written; no metrics and no checkpoint are."""
    TRAINING = "training"
    """Training has written metrics or a checkpoint, and has not ended."""
    TRAINED = "trained"
    """Training has ended; the result is not complete."""
    MEASURED = "measured"
    """Result, pictures and report belong to the selected parameters."""


class RunDirectory:
    """The files of one run, and its state, which `advance` alone changes.

    >>> directory = RunDirectory("runs/none")
    >>> directory.state, directory.latest.steps()
    (<RunState.EMPTY: 'empty'>, [])

    Raises:
      ValueError: the path is the address of another machine (`gs://bucket/run`).
    """

    def __init__(self, path: str | Path):
        if re.match(r"\w+:/", str(path)):  # a Path keeps one slash of `gs://bucket`
            raise ValueError(f"expected a folder of this machine as run directory, got the address {str(path)!r}")
        if found := re.search(r"[\[\]*?]", str(Path(path).absolute())):
            raise ValueError(
                f"expected a run directory without [ ] * ? in its path, got {found[0]} in {str(path)!r}: the checkpoint "
                "library takes them for patterns of file names, and would not find what it has written"
            )
        self.path = Path(path).expanduser()
        checkpoints = self.path / "checkpoints"
        self.latest = Checkpoints(checkpoints / "latest", keep=2, before_change=self._begin_training)
        self.best = Checkpoints(checkpoints / "best", keep=2, before_change=self._begin_training)
        self._pending_config: dict[str, Any] | None = None  # of a longer training that has not begun yet
        self._state: RunState | None = None

    # State

    @property
    def state(self) -> RunState:
        """The state: read from disk once, then as this process changes it."""
        if self._state is None:
            self._state = self._read_state()
        return self._state

    def advance(self, state: RunState) -> None:
        """Change the state.

        A measured run that returns to TRAINING or TRAINED loses its result, its report and its pictures, and the
        configuration of the longer training is written. Until then its files stay as they are. The state is written
        first: wherever the process is killed, a result that is still there is no longer believed.
        """
        if state == self.state:
            return
        was_measured = self.state == RunState.MEASURED
        write_json(self.path / STATE, {"state": state.value})
        self._state = state
        if was_measured:
            if self._pending_config is not None:
                write_json(self.path / CONFIG, self._pending_config)
                self._pending_config = None
            for name in (RESULT, REPORT, SAMPLES, RECONSTRUCTIONS):
                with writing(self.path / name):
                    (self.path / name).unlink(missing_ok=True)

    def _begin_training(self) -> None:
        self.advance(RunState.TRAINING)

    def _read_state(self) -> RunState:
        if not (self.path / CONFIG).is_file():
            return RunState.EMPTY
        with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
            return RunState(read_json(self.path / STATE)["state"])
        return RunState.TRAINING  # the file is missing or damaged, so a result is not trusted

    # Opening

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the directory against other processes; create it if needed.

        Raises:
          ValueError: another process trains into it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise self._not_writable(error.strerror) from error
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"expected {self.path} to be free, but another process trains into it; "
                    "wait for it or choose another --run-dir"
                ) from None
            except OSError as error:  # a file system without locks
                reason = f"{self.path} cannot be locked ({error.strerror})"
                warnings.warn(f"{reason}: make sure that no other process trains into it", stacklevel=3)
            yield

    def check(self, config: dict[str, Any]) -> None:
        """Check that a run with this configuration can be trained or resumed here. Writes nothing.

        Raises:
          ValueError: the directory belongs to another run (with the fields that differ), or holds other files.
        """
        if (self.path / CONFIG).is_file():
            refuse_differences(self.path, self.config(), config)
        elif self.path.is_dir():
            names = sorted(path.name for path in self.path.iterdir())
            own = {".lock", DATA, SOURCE}  # of a run that was killed before its configuration was written
            if others := [name for name in names if name not in own and not name.endswith(".tmp")]:
                raise ValueError(
                    f"expected {self.path} to be a run directory or empty, got one with {', '.join(others[:3])}; "
                    "choose another --run-dir"
                )
        elif self.path.exists():
            raise ValueError(f"expected {self.path} to be a directory, got a file; choose another --run-dir")

    def open(self, config: dict[str, Any], description: dict[str, Any], code: Mapping[str, bytes]) -> None:
        """Write the configuration of a new run, or resume one that `check` accepts.

        Args:
          description: of the data (`data.description.description_of`).
          code: files of the user's code, by their names in the run directory.

        Raises:
          ValueError: `check` refuses the configuration, or the directory cannot be written.
        """
        self.check(config)
        try:
            if self.state == RunState.EMPTY:
                for name, content in code.items():
                    (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                    write_bytes(self.path / name, content)
                write_json(self.path / DATA, description)
                write_json(self.path / CONFIG, config)
                self.advance(RunState.CREATED)
                return
            stored = (
                self.config()
            )  # the files may lie elsewhere now; those that the run keeps belong to the stored paths
            config = config | {name: stored[name] for name in ("experiment", "code")}
            if self.result() and lengths(self.config()["resolved"]) != lengths(config["resolved"]):
                self._pending_config = config
            else:
                write_json(self.path / CONFIG, config)
        except CannotWrite as error:
            raise self._not_writable(error.reason) from error

    def _not_writable(self, reason: str) -> ValueError:
        return ValueError(
            f"expected a run directory that can be written, got {self.path} ({reason}); choose another --run-dir"
        )

    # Reading

    def config(self) -> dict[str, Any]:
        """The content of `config.json`.

        Raises:
          ValueError: the file is missing, belongs to no run, or is of an earlier version.
        """
        path = self.path / CONFIG
        if not path.is_file():
            raise ValueError(f"expected a run directory with {CONFIG}, got {self.path}")
        return check_config(read_json(path), str(path))

    def description(self) -> dict[str, Any]:
        """The description of the data that the model was trained on.

        Raises:
          ValueError: the file is missing or damaged.
        """
        path = self.path / DATA
        if not path.is_file():
            raise ValueError(f"expected {path}, the description of the data, got none; restore it from a copy")
        return read_json(path)

    def experiment(self, trust_code: bool = False) -> Experiment:
        """The experiment of `config.json`, loaded by name or from the code that the run keeps, and overridden.

        Raises:
          ValueError: the experiment was built in Python, or its code is not trusted, changed or missing.
        """
        return load_experiment_of(
            self.config(), lambda name: (self.path / name).read_bytes(), str(self.path), trust_code
        )

    def result(self) -> dict[str, Any] | None:
        """The content of `result.json`; None if the run is not measured, or the file cannot be read."""
        if self._pending_config is not None or self.state != RunState.MEASURED:
            return None
        path = self.path / RESULT
        with contextlib.suppress(ValueError):
            result = read_json(path) if path.is_file() else None
            is_record = isinstance(result, dict) and {"value", "steps"} <= result.keys()
            if is_record and result.get("schema") == record.SCHEMA:
                return result
        return None

    def metrics(self) -> list[dict[str, Any]]:
        """The complete rows of `metrics.jsonl`; a half-written last row is skipped."""
        path = self.path / METRICS
        if not path.is_file():
            return []
        rows = []
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int) and "split" in row:
                    rows.append(row)
        return rows

    # Writing

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Delete the metrics past `step`, which a run resumed from there writes again; return the others."""
        rows = self.metrics()
        earlier = [row for row in rows if row["step"] <= step]
        if len(earlier) < len(rows):
            self.advance(RunState.TRAINING)
        write_text(self.path / METRICS, "".join(map(_line, earlier)))
        return earlier

    def append(self, row: dict[str, Any]) -> None:
        """Append a row of metrics; it is on disk when this returns."""
        self.advance(RunState.TRAINING)
        append_text(self.path / METRICS, _line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"
