"""`facts`: what was trained, in words: model, layers, objective, data, optimizer, selection and time of a run."""

from collections.abc import Mapping
from typing import Any

from dgmzoo.config import overrides
from dgmzoo.layers.latents.base import variational_layers

_SILENT = (None, False, "point")  # values that say nothing in a description


def facts(run: Any) -> dict[str, str]:
    """Title -> text, for the table at the top of a report. `run` is a measured `Run`."""
    flat, record, dataset = overrides.flatten(run.experiment), run.record, run.dataset
    module, training = run.module, run.experiment.training
    sizes = ", ".join(f"{len(rows['x']):,} {split}" for split, rows in dataset.splits.items())
    scale = ", columns standardised by the training rows" if dataset.standardization else ""
    total = training.total_steps(len(dataset.splits["train"]["x"]))
    table = {
        "model": f"{type(module).__name__}, {record['parameters']:,} parameters: {_fields(flat, 'model')}",
        "latent layers": "; ".join(f"{path}: {_layer(layer)}" for path, layer in variational_layers(module)) or "none",
        "objective": f"{type(run.experiment.objective).__name__}: {_fields(flat, 'objective')}",
        "extra losses": ", ".join(run.experiment.extra_losses) or "none",
        "data": f"{dataset.name}, x {list(dataset.shape)}, {dataset.encoding or 'as it is'}, {sizes}{scale}",
        "optimizer": _fields(flat, "training"),
        "parameters of": f"step {record['steps']:,}, selected by {record['selected_by']}, of {total:,} steps of {training.batch_size} rows",
        "trained in": f"{record['seconds']:,.0f} s on {record['device']}, seed {record['seed']}",
    }
    if record["corrections"]:
        table["corrected"] = "; ".join(record["corrections"])
    return table


def _fields(flat: Mapping[str, Any], part: str) -> str:
    """The settings of a part of the experiment, without those that are off."""
    values = {path.removeprefix(f"{part}."): value for path, value in flat.items() if path.startswith(f"{part}.")}
    shown = [f"{path} {_value(value)}" for path, value in values.items() if not _is_silent(value) and path != "shape"]
    return ", ".join(shown) or "no settings"


def _is_silent(value: Any) -> bool:
    return any(value is silent or (isinstance(value, str) and value == silent) for silent in _SILENT)


def _value(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _layer(layer: Any) -> str:
    parts = [type(layer).__name__]
    for name in ("posterior", "prior"):
        if (part := getattr(layer, name, None)) is not None:
            family = getattr(part, "family", None)
            parts.append(
                f"{name} {type(part).__name__}" + (f" of {getattr(family, '__name__', family)}" if family else "")
            )
    return ", ".join(parts)
