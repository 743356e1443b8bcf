"""`run_config`: the settings of a run as JSON; `refuse_differences`: refuse to resume a run with other settings."""

import importlib.metadata
import sys
from collections.abc import Set
from pathlib import Path
from typing import Any

from dgmzoo.config.experiment import Experiment
from dgmzoo.config.overrides import NO_IDENTITY, flatten, source
from dgmzoo.config.plugins import loaded_files
from dgmzoo.config.preflight import Resolved
from dgmzoo.config.training import LENGTHS
from dgmzoo.model.module_tree import field_values, parts

SCHEMA = 3
MAY_CHANGE = frozenset({"execution.stream", "execution.checkpoint_seconds"})


def run_config(resolved: Resolved, seed: int) -> dict[str, Any]:
    """The configuration of a run as JSON: the experiment's name and overrides, and all resolved values."""
    experiment = resolved.experiment
    name, overrides = source(experiment)
    return {
        "schema": SCHEMA,
        "dgmzoo": importlib.metadata.version("dgmzoo"),
        "experiment": name,
        "file_sha256": experiment.origin.file_sha256 if name else None,
        "plugins": plugins_of(experiment),
        "overrides": overrides,
        "corrections": list(resolved.corrections),
        "seed": seed,
        "dataset_sha256": resolved.dataset.sha256,
        "resolved": flatten(experiment),
    }


def plugins_of(experiment: Experiment) -> dict[str, str]:
    """Path -> sha256, of the plugin files that define a class of the experiment."""
    classes = {type(experiment.objective)}
    for _, part in parts(experiment.model):
        classes |= {type(part), *(value for _, value in field_values(part) if isinstance(value, type))}
    files = {getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in classes}
    return {path: sha256 for path, sha256 in loaded_files().items() if path in files}


def differences(before: dict[str, Any], after: dict[str, Any], ignored: Set[str] = frozenset()) -> str:
    """A description of the fields in which two configurations differ; empty if there are none.

    >>> differences({"seed": 0, "training.epochs": 5}, {"seed": 1, "training.epochs": 5})
    'seed was 0, now 1'
    """
    names = sorted({*before, *after} - ignored)
    changed = [name for name in names if before.get(name) != after.get(name)]
    return "; ".join(f"{name} was {before.get(name)!r}, now {after.get(name)!r}" for name in changed)


def refuse_differences(path: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse to resume a run with another configuration.

    The length may grow if the learning rate is constant, because other schedules, and an optimizer that is a
    function, depend on the length.

    Raises:
      ValueError: with the fields that differ, or an extra loss cannot be compared.
    """
    old, new = (dict(config["resolved"]) for config in (before, after))
    for name in ("experiment", "file_sha256", "seed", "dataset_sha256"):
        old[name], new[name] = before[name], after[name]
    for flat, config in ((old, before), (new, after)):
        flat["plugins"] = sorted(config.get("plugins", {}).values())  # by content: a file may have moved
    allowed = set(MAY_CHANGE)
    is_constant = old.get("training.schedule") == new.get("training.schedule") == "constant"
    if is_constant and "optimizer" not in functions_of(new) and _is_not_shorter(old, new):
        allowed |= {f"training.{name}" for name in LENGTHS}
    if lines := differences(old, new, allowed):
        raise ValueError(
            f"expected the config that {path} was trained with, got another: {lines}; choose another --run-dir"
        )
    for name, text in functions_of(new).items():
        if text.startswith(NO_IDENTITY):
            raise ValueError(
                f"expected an {name} that can be recognised, to resume {path}, got one that cannot: "
                f"{text.removeprefix(NO_IDENTITY)}"
            )


def functions_of(resolved: dict[str, Any]) -> dict[str, str]:
    """The functions of a configuration, in words, and their identities: extra losses and an optimizer of the user's own.

    >>> functions_of({"extra_losses": {"mmd": "file.mmd@0"}, "training.optimizer": "adam"})
    {"extra loss 'mmd'": 'file.mmd@0'}
    """
    functions = {f"extra loss {name!r}": text for name, text in resolved.get("extra_losses", {}).items()}
    optimizer = str(resolved.get("training.optimizer", ""))
    return functions | ({"optimizer": optimizer} if "@" in optimizer or optimizer.startswith(NO_IDENTITY) else {})


def lengths(resolved: dict[str, Any]) -> list[float | None]:
    """The length of a training in epochs, steps and examples, of which one is not None.

    >>> lengths({"training.epochs": 5, "training.batch_size": 100})
    [5, None, None]
    """
    return [resolved.get(f"training.{name}") for name in LENGTHS]


def _is_not_shorter(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return all(
        (before is None and after is None) or (None not in (before, after) and after >= before)
        for before, after in zip(lengths(old), lengths(new), strict=True)
    )
