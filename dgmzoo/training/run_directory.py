"""A run directory: what was asked for, the metrics so far, the checkpoints; one process at a time."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgmzoo.config.experiment import Experiment, file_digest, load
from dgmzoo.config.overrides import Origin, flatten, override
from dgmzoo.config.training import LENGTHS
from dgmzoo.evaluation import record
from dgmzoo.files import CannotWrite, append_text, read_json, write_json, write_text, writing
from dgmzoo.training.checkpoint import Checkpoints

SCHEMA = 2  # version 0.1 wrote 1
RESULT, REPORT, SAMPLES, RECONSTRUCTIONS = "result.json", "report.html", "samples.png", "reconstructions.png"
_MAY_CHANGE = ("training.checkpoint_seconds",)


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._longer: dict[str, Any] | None = None  # config of a training that goes on from one that was measured
        kept = self.path / "checkpoints"
        self.latest = Checkpoints(kept / "latest", keep=2, before=self.overtake)
        self.best = Checkpoints(kept / "best", keep=2, before=self.overtake)  # of the latest and of the one before
        self.metrics_path = self.path / "metrics.jsonl"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder against other processes, creating it if need be.

        Raises:
          ValueError: another process trains into it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise self._closed(error.strerror) from error
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"expected {self.path} to be free, but another process trains into it; "
                    "wait for it or choose another --run-dir"
                ) from None
            except OSError as error:  # file systems without locks
                reason = f"{self.path} cannot be locked ({error.strerror})"
                warnings.warn(f"{reason}: see that no other process trains into it", stacklevel=3)
            yield

    def check(self, wanted: dict[str, Any]) -> None:
        """Refuse the folder of another config (the fields are named), or one that holds other things. Writes nothing.

        Raises:
          ValueError: as said.
        """
        if (self.path / "config.json").is_file():
            refuse_differences(self.path, self.config(), wanted)
        elif self.path.is_dir():
            found = sorted(path.name for path in self.path.iterdir())
            if others := [name for name in found if name != ".lock" and not name.endswith(".tmp")]:
                raise ValueError(
                    f"expected {self.path} to be a run directory or empty, got one with {', '.join(others[:3])}; "
                    "choose another --run-dir"
                )
        elif self.path.exists():
            raise ValueError(f"expected {self.path} to be a folder, got a file; choose another --run-dir")

    def claim(self, wanted: dict[str, Any]) -> None:
        """Write `config.json` where `check` agrees.

        That of a longer training takes the place of one that was measured, and of its result, once that training writes or
        drops something (`overtake`): until then nothing has happened to it.

        Raises:
          ValueError: it does not agree, or the folder cannot be written.
        """
        self.check(wanted)
        if self.result() and _lengths(self.config()["resolved"]) != _lengths(wanted["resolved"]):
            self._longer, wanted = wanted, self.config()
        try:
            write_json(self.path / "config.json", wanted)
        except CannotWrite as error:
            raise self._closed(error.reason) from error

    def overtake(self) -> None:
        """A result, if there is one, is over, and so is the config it was of, where this training is a longer one."""
        for name in (RESULT, REPORT, SAMPLES, RECONSTRUCTIONS):
            with writing(self.path / name):
                (self.path / name).unlink(missing_ok=True)
        if self._longer is not None:
            write_json(self.path / "config.json", self._longer)
            self._longer = None

    def _closed(self, reason: str) -> ValueError:
        return ValueError(
            f"expected a run directory that can be written, got {self.path} ({reason}); choose another --run-dir"
        )

    def config(self) -> dict[str, Any]:
        """What `config.json` holds.

        Raises:
          ValueError: it is missing or not a run's.
        """
        path = self.path / "config.json"
        if not path.is_file():
            raise ValueError(f"expected a run directory with config.json, got {self.path}")
        found = read_json(path)
        kinds = {"experiment": str | None, "file_sha256": str | None, "overrides": dict, "seed": int}
        kinds |= {"dataset_sha256": str, "resolved": dict, "schema": int}
        whole = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())
        if whole and found["schema"] == 1:
            raise ValueError(
                f"expected a run of dgmzoo 0.2 or newer in {self.path}, got one of version {found.get('dgmzoo')}, whose fields "
                "and parameters have other names; dgmzoo 0.1.0 (tag v0.1.0) reads it"
            )
        if not whole or found["schema"] != SCHEMA:
            raise ValueError(f"expected {path} of schema {SCHEMA} with {', '.join(kinds)}, got another file or version")
        return found

    def result(self) -> dict[str, Any] | None:
        """What `result.json` holds; None where there is none, one that cannot be read, or that of a shorter training."""
        path = self.path / RESULT
        if self._longer is not None:
            return None
        with contextlib.suppress(ValueError):
            found = read_json(path) if path.is_file() else None
            if (
                isinstance(found, dict)
                and found.get("schema") == record.SCHEMA
                and "value" in found
                and "steps" in found
            ):
                return found
        return None

    def experiment(self) -> Experiment:
        """The experiment as config.json tells it: imported by name (or the user's file), then overridden.

        Raises:
          ValueError: it was built in Python and must be handed over, or the user's file has changed.
        """
        config = self.config()
        name = config["experiment"]
        if name is None:
            raise ValueError(
                f"expected a named experiment in {self.path / 'config.json'}, got one built in Python; "
                "hand it over: dgmzoo.load(run_dir, experiment=...)"
            )
        loaded = load(name)
        if file_digest(name) != config["file_sha256"]:
            raise ValueError(
                f"expected {name}, and the modules beside it that it imports, as they were when the run began, got changed ones; "
                "restore them, or hand the experiment over: dgmzoo.load(run_dir, experiment=...)"
            )
        return dataclasses.replace(
            override(loaded, config["overrides"]), corrections=tuple(config.get("corrections", ()))
        )

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`; a half-written last one does not count."""
        if not self.metrics_path.is_file():
            return []
        rows = []
        for line in self.metrics_path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int) and "split" in row:
                    rows.append(row)
        return rows

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Drop the rows past `step`, which a run that goes on from there will write again; return the others."""
        found = self.metrics()
        rows = [row for row in found if row["step"] <= step]
        if len(rows) < len(found):
            self.overtake()
        write_text(self.metrics_path, "".join(map(_line, rows)))
        return rows

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; it is on disk when this returns. A result is over."""
        self.overtake()
        append_text(self.metrics_path, _line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def describe(experiment: Experiment, origin: Origin, seed: int, dataset_sha256: str) -> dict[str, Any]:
    """A run's config as JSON: the experiment's name and overrides, and all resolved values."""
    return {
        "schema": SCHEMA,
        "dgmzoo": importlib.metadata.version("dgmzoo"),
        "experiment": origin.name,
        "file_sha256": file_digest(origin.name) if origin.name else None,
        "overrides": origin.overrides,
        "corrections": list(experiment.corrections),
        "seed": seed,
        "dataset_sha256": dataset_sha256,
        "resolved": flatten(experiment),
    }


def differences(before: dict[str, Any], wanted: dict[str, Any], but: set[str] = frozenset()) -> str:
    """Which fields of two configs differ, in words; empty where none does."""
    changed = [name for name in sorted({*before, *wanted}) if before.get(name) != wanted.get(name) and name not in but]
    return "; ".join(f"{name} was {before.get(name)!r}, now {wanted.get(name)!r}" for name in changed)


def refuse_differences(path: Path, before: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ValueError, naming the fields, unless the second run is the first gone on with.

    The length may grow where the schedule does not depend on it.
    """
    old, new = (dict(config["resolved"]) for config in (before, wanted))
    for name in ("experiment", "file_sha256", "seed", "dataset_sha256"):
        old[name], new[name] = before[name], wanted[name]
    allowed = set(_MAY_CHANGE)
    if old.get("training.schedule") == new.get("training.schedule") == "constant" and _not_shorter(old, new):
        allowed |= {f"training.{name}" for name in LENGTHS}
    if lines := differences(old, new, allowed):
        raise ValueError(
            f"expected the config that {path} was trained with, got another: {lines}; choose another --run-dir"
        )


def _lengths(resolved: dict[str, Any]) -> list[float | None]:
    return [resolved.get(f"training.{name}") for name in LENGTHS]


def _not_shorter(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return all(
        (before is None and after is None) or (None not in (before, after) and after >= before)
        for before, after in zip(_lengths(old), _lengths(new), strict=True)
    )
