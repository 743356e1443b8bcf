"""`published_result`: the published figure nearest to an experiment, with the settings in which the two differ."""

from typing import Any

from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment, Paper

_PARTS = ("model", "objective", "extra_losses", "data", "evaluation")
_FREE = ("data.seed", "evaluation.seed", "model.shape")  # settings that may differ between comparable results


def published_result(experiment: Experiment, split: str, steps: int) -> dict[str, Any] | None:
    """The published figure for the same model, objective, data and evaluation, or for the nearest settings.

    Returns:
      "value", "source", "protocol", "budget" (our steps over the paper's) and "differences" `{path: [ours, the paper's]}`,
      which is empty for the same protocol; None if the experiment lists no figure or the split is not "test".
    """
    if overrides.source(experiment)[0] is None or split != "test":
        return None
    own, base = _protocol(experiment), experiment.origin.base
    rows = [(_differences(own, _protocol(overrides.override(base, paper.when))), paper) for paper in base.papers]
    if not rows:
        return None
    differences, paper = min(rows, key=lambda row: len(row[0]))
    return _row(paper, steps) | {"differences": differences}


def _differences(own: dict[str, Any], other: dict[str, Any]) -> dict[str, list[Any]]:
    """Path -> [own value, other value], of all paths in which two protocols differ; classes by their names."""
    return {
        path: [_plain(own.get(path)), _plain(other.get(path))]
        for path in sorted({*own, *other})
        if own.get(path) != other.get(path)
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _row(row: Paper, steps: int) -> dict[str, Any]:
    budget = None if row.steps is None else round(steps / row.steps, 4)
    return {"value": row.value, "source": row.source, "protocol": row.protocol, "budget": budget}


def _protocol(experiment: Experiment) -> dict[str, Any]:
    """Settings that must agree for two results to be comparable. Seeds, training length and rates may differ."""
    flat = overrides.flatten(experiment)
    return {path: value for path, value in flat.items() if path.split(".")[0] in _PARTS and path not in _FREE}
