"""`run_config`: the settings of a run as JSON; `refuse_differences`: refuse to resume a run with other settings."""

import importlib.metadata
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from dgmzoo.config.overrides import NO_IDENTITY, flatten, source
from dgmzoo.config.preflight import Resolved
from dgmzoo.config.training import LENGTHS
from dgmzoo.config.user_code import UserCode
from dgmzoo.data import Data
from dgmzoo.data.registry import catalogue
from dgmzoo.training.run_code import EXPERIMENT

SCHEMA = 4
MAY_CHANGE = frozenset({"execution.stream", "execution.checkpoint_seconds"})


def run_config(resolved: Resolved, seed: int, codes: Mapping[str, UserCode]) -> dict[str, Any]:
    """The configuration of a run as JSON: the experiment's name and overrides, its code, and all resolved values.

    Args:
      codes: as `run_code.code_of` returns them.
    """
    experiment = resolved.experiment
    name, overrides = source(experiment)
    return {
        "schema": SCHEMA,
        "dgmzoo": importlib.metadata.version("dgmzoo"),
        "experiment": codes[EXPERIMENT].path if EXPERIMENT in codes else name,
        "code": {role: code._asdict() for role, code in codes.items()},
        "takes_given": resolved.model.takes_given,
        "overrides": overrides,
        "corrections": list(resolved.corrections),
        "seed": seed,
        "dataset_sha256": resolved.dataset.sha256,
        "data_path": data_path(experiment.data),
        "resolved": flatten(experiment),
    }


def check_config(config: Any, where: str) -> dict[str, Any]:
    """The configuration of a run as it was read from a file.

    Raises:
      ValueError: it is not one, or of another version.
    """
    kinds = {"experiment": str | None, "code": dict, "overrides": dict, "seed": int}
    kinds |= {"dataset_sha256": str, "data_path": str | None, "takes_given": bool, "resolved": dict, "schema": int}
    is_config = isinstance(config, dict) and isinstance(config.get("schema"), int)
    if is_config and config["schema"] != SCHEMA:
        raise ValueError(
            f"expected a run of schema {SCHEMA} in {where}, got schema {config['schema']} of dgmzoo {config.get('dgmzoo')}, "
            "whose fields and files have other names; that version reads it"
        )
    missing = [name for name, kind in kinds.items() if not is_config or not isinstance(config.get(name), kind)]
    if missing:
        raise ValueError(f"expected {where} to be the configuration of a run, got a file without {', '.join(missing)}")
    return config


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
    for name in ("seed", "dataset_sha256"):
        old[name], new[name] = before[name], after[name]
    for flat, config in ((old, before), (new, after)):
        codes = {role: UserCode.from_json(code, f"{path}") for role, code in config["code"].items()}
        flat["plugins"] = sorted(code.sha256 for role, code in codes.items() if role != EXPERIMENT)
        if EXPERIMENT in codes:  # by content: a file may have moved
            flat["experiment file"] = codes[EXPERIMENT].sha256
        else:
            flat["experiment"] = config["experiment"]
    if old.get("experiment file") != new.get("experiment file"):
        raise ValueError(
            f"expected the experiment file that {path} was trained with, got a changed one or another; restore it, or go on "
            f"with the copy that the run keeps: dgmzoo train {path}"
        )
    allowed = set(MAY_CHANGE) | data_may_move(before, after)
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


def data_path(config: Data) -> str | None:
    """The absolute path of a user's data; None for a registered set and for arrays in memory.

    >>> data_path(Data("digits")) is None
    True
    """
    if config.arrays is not None or config.name in catalogue():
        return None
    return str(Path(config.name).expanduser().absolute())


def data_may_move(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Fields of two configurations that may differ, because a user's data of the same content lie at another path."""
    is_own = None not in (before.get("data_path"), after.get("data_path"))
    return {"data.name"} if is_own and before["dataset_sha256"] == after["dataset_sha256"] else set()


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
