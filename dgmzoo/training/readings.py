"""`Readings`: evaluate the validation split and call a user's diagnostics during training."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from dgmzoo.config.experiment import Experiment
from dgmzoo.data import Dataset
from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.evaluation.prepared import prepare
from dgmzoo.evaluation.training_value import is_bound, training_value
from dgmzoo.model.contract import Model
from dgmzoo.model.transforms import with_extra_losses
from dgmzoo.training.seed_tracker import SeedTracker

_TRAINING_ROWS = 1000  # of which a bound is measured where the training value is none, and that diagnostics are given


class Readings:
    """Measurements of the variables while they train, written to the metrics of their seed.

    Parameters are selected by the loss that is trained (`Objective.validation_loss` and extra losses, on the validation
    split). Where the training value is no bound of the model (`training_value`), they are selected by the bound, and that
    of training rows is measured as well, in rows of the split "train_bound".
    """

    def __init__(self, experiment: Experiment, model: Model, dataset: Dataset):
        self.model, self.dataset, self.diagnostics = model, dataset, experiment.diagnostics
        self.objective, self.num_data = experiment.objective, len(dataset.splits["train"]["x"])
        self.extra_losses = experiment.extra_losses
        total = experiment.training.total_steps(self.num_data)  # at the end of warm-ups
        self.measured = with_extra_losses(model, experiment.extra_losses, self.num_data, at_step=total)
        self.num_samples = experiment.objective.bound_samples
        self.is_bound = is_bound(training_value(experiment.model))
        self._rows: dict[str, Any] = {}  # loaded when they are needed

    def read_bounds(self, tracker: SeedTracker, step: int, variables: Any, key: jax.Array) -> None:
        """Measure the validation split, and training rows where their training value is no bound."""
        ready = prepare(self.model, variables, key)
        # The same sample of random weights in every reading, so that their noise does not select.
        weights = key if self.model.bound == "predictive" else None
        rows = self._split("valid")
        estimate = evaluate(self.model, ready, rows, key, self.num_samples, weights=weights)
        aux = estimate.aux
        if self.extra_losses and self.is_bound:  # they see as many samples as in training
            aux = evaluate(self.measured, ready, rows, key, self.objective.num_samples, weights=weights).aux
        tracker.add_validation(step, self._values(estimate, aux), variables)
        if not self.is_bound:
            bound = evaluate(self.model, ready, self._split("train"), key, self.num_samples, weights=weights)
            values = self._values(bound, {})
            tracker.add_reading(
                "train_bound", step, {name: values[name] for name in ("elbo", "bound") if name in values}
            )

    def _values(self, estimate: Estimate, aux: Mapping[str, float]) -> dict[str, float]:
        """Metrics of the validation split; "loss" selects."""
        weight_kl = estimate.weight_kl / self.num_data
        bound = -estimate.value - weight_kl
        values = {"loss": -bound, "elbo": estimate.elbo - weight_kl} | estimate.kl_by_layer
        if self.num_samples > 1:
            values["bound"] = bound
        if self.is_bound:
            loss = self.objective.validation_loss(-estimate.value, estimate.kl, weight_kl)
            values["loss"] = float(loss) + sum(aux.values())
            values |= {f"extra_loss/{name}": value for name, value in aux.items()}
        return values

    def is_due(self, before: int, step: int) -> bool:
        """True if a diagnostic is due at a boundary of dispatches, `before` being the previous one."""
        return any(step // each.every_steps > before // each.every_steps for each in self.diagnostics.values())

    def diagnose(self, tracker: SeedTracker, before: int, step: int, variables: Any) -> None:
        """Run the diagnostics that are due, and write their numbers as `<diagnostic>/<name>` in one row.

        A number that is not finite is left out.

        Raises:
          ValueError: a diagnostic returns something other than single numbers by name.
        """
        values = {}
        for name, diagnostic in self.diagnostics.items():
            if step // diagnostic.every_steps > before // diagnostic.every_steps:
                for key, value in _numbers(name, diagnostic.function(variables, self._split("train"))).items():
                    values[f"{name}/{key}"] = value
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        tracker.add_reading("diagnostics", step, finite)

    def _split(self, split: str) -> Any:
        if split not in self._rows:
            self._rows[split] = self.dataset.evaluation_rows(split, _TRAINING_ROWS if split == "train" else None)
        return self._rows[split]


def _numbers(name: str, result: Any) -> dict[str, float]:
    try:
        return {str(key): float(value) for key, value in result.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"expected the diagnostic {name!r} to return {{name: number}}, got {type(result).__name__}"
        ) from None
