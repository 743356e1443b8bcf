"""A run directory: what was asked for, the metrics so far, the checkpoints; one process at a time."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgmzoo.config import LENGTHS, Experiment, file_digest, load
from dgmzoo.files import read_json, write_json, write_text
from dgmzoo.overrides import difference, flatten, override
from dgmzoo.training.checkpoint import Checkpoints

SCHEMA = 1
_MAY_CHANGE = ("training.checkpoint_seconds",)


class Folder:
    """The files of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.latest = Checkpoints(self.path / "checkpoints" / "latest", keep=2)
        self.best = Checkpoints(self.path / "checkpoints" / "best", keep=1)
        self.metrics_path = self.path / "metrics.jsonl"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder against other processes, creating it if need be.

        Raises:
          ValueError: another process trains into it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"expected {self.path} to be free, but another process trains into it; "
                    "wait for it or choose another --run-dir"
                ) from None
            yield

    def claim(self, experiment: Experiment, seed: int, dataset_sha256: str) -> None:
        """Write `config.json`, or check that it is that of the same run.

        Raises:
          ValueError: the folder belongs to another config (the fields are named) or holds other things.
        """
        wanted = describe(experiment, seed, dataset_sha256)
        path = self.path / "config.json"
        if path.is_file():
            refuse_differences(self.path, self.config(), wanted)
        elif others := [found.name for found in self.path.iterdir() if found.name != ".lock"]:
            raise ValueError(
                f"expected {self.path} to be a run directory or empty, got one with {', '.join(sorted(others)[:3])}; "
                "choose another --run-dir"
            )
        write_json(path, wanted)

    def config(self) -> dict[str, Any]:
        """What `config.json` holds.

        Raises:
          ValueError: it is missing or not a run's.
        """
        path = self.path / "config.json"
        if not path.is_file():
            raise ValueError(f"expected a run directory with config.json, got {self.path}")
        found = read_json(path)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise ValueError(f"expected {path} of schema {SCHEMA}, got another file or version")
        return found

    def experiment(self, trust_changes: bool = False) -> Experiment:
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
        if not trust_changes and file_digest(name) != config["file_sha256"]:
            raise ValueError(f"expected {name} as it was when the run began, got a changed file; restore it")
        return override(loaded, config["overrides"])

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`; a half-written last one does not count."""
        if not self.metrics_path.is_file():
            return []
        rows = []
        for line in self.metrics_path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return rows

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Drop the rows past `step`, which a run that goes on from there will write again; return the others."""
        rows = [row for row in self.metrics() if row["step"] <= step]
        write_text(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; it is on disk when this returns."""
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def describe(experiment: Experiment, seed: int, dataset_sha256: str) -> dict[str, Any]:
    """A run's config as JSON: the experiment's name and overrides, and all resolved values."""
    name, changes = experiment.name or None, {}
    resolved = flatten(experiment)
    if name is not None:
        base = load(name)
        changes = difference(base, experiment)
        if not _recoverable(base, changes, resolved) or experiment.data.arrays is not None:
            name, changes = None, {}
    return {
        "schema": SCHEMA,
        "dgmzoo": importlib.metadata.version("dgmzoo"),
        "experiment": name,
        "file_sha256": file_digest(name) if name else None,
        "overrides": changes,
        "seed": seed,
        "dataset_sha256": dataset_sha256,
        "resolved": resolved,
    }


def _recoverable(base: Experiment, changes: dict[str, Any], resolved: dict[str, Any]) -> bool:
    try:
        return flatten(override(base, changes)) == resolved
    except ValueError:
        return False


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
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name) and name not in allowed]
    if changed:
        lines = "; ".join(f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in changed)
        raise ValueError(
            f"expected the config that {path} was trained with, got another: {lines}; choose another --run-dir"
        )


def _not_shorter(old: dict[str, Any], new: dict[str, Any]) -> bool:
    lengths = [(old[f"training.{name}"], new[f"training.{name}"]) for name in LENGTHS]
    return all(
        (before is None and after is None) or (None not in (before, after) and after >= before)
        for before, after in lengths
    )
