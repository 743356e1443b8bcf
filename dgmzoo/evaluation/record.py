"""`make_record`: make the JSON record of an evaluation, with its value, its data and its settings."""

import functools
import importlib.metadata
import math
import platform
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import dgmzoo
from dgmzoo.config import overrides
from dgmzoo.config.preflight import Resolved, likelihoods_of
from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.evaluation.prepared import with_prepared_error
from dgmzoo.evaluation.published import published_result
from dgmzoo.evaluation.results import SCHEMA as SCHEMA
from dgmzoo.evaluation.training_value import is_bound

_PACKAGES = ("dgmzoo", "jax", "jaxlib", "flax", "optax", "numpyro", "numpy")


def make_record(
    resolved: Resolved,
    split: str,
    estimate: Estimate,
    train: Estimate,
    seed: int,
    steps: int,
    parameters: int,
    discrete: bool,
    num_terms: int | float,
    num_devices: int,
    seconds: float,
    prepared: Mapping[str, float],
    training_value: str = "exact",
) -> dict[str, Any]:
    """Build the record: everything needed to judge the value or to reproduce it. Values are in nats per example.

    "standard_error" is that over examples, sd / sqrt(n), and "subset_error" the error against the whole split, where only
    n of its N examples were evaluated: sd / sqrt(n) sqrt(1 - n / N). "monte_carlo_error" is None where too many examples
    have few "effective_samples" (`Estimate.sampling`). "elbo" is None for random weights, whose KL it would leave out.
    Densities of a table that was "standardized" for the model are those of its own units.
    "weight_draws" is the number of networks whose probabilities are averaged, 0 for the mean weights, and None if no
    weights are random.

    Args:
      resolved: the experiment, its data and its model; `resolved.experiment.evaluation` are the settings of the estimate.
      train: the same estimate on training rows.
      steps: step of the parameters.
      parameters: number of learned numbers of the model.
      discrete: whether x is discrete, so that bits per dimension mean something.
      num_terms: observed elements of an example, on average.
      num_devices: devices of the training.
      seconds: duration of the training.
      prepared: quantities that the entry prepared; the errors among them are part of the Monte Carlo error.
      training_value: see `training_value.training_value`. Samples of a deterministic posterior are all the same: the
        record is that of a bound from one sample.
    """
    split_size = len(resolved.dataset.splits[split]["x"])
    experiment, dataset, bound = resolved.experiment, resolved.dataset, resolved.model.bound
    name, requested = overrides.source(experiment)
    exact, is_single = bound == "exact", training_value == "deterministic"
    num_samples = 1 if exact or is_single else experiment.evaluation.num_samples
    kind = "iw" if bound == "elbo" and num_samples > 1 else bound
    whole = "mask" not in dataset.splits[split]
    if discrete and bound is not None:
        warn_if_impossible(estimate.value, type(resolved.module).__name__)
    return {
        "schema": SCHEMA,
        "experiment": name,
        "overrides": requested,
        "model": type(resolved.module).__name__,
        "objective": type(experiment.objective).__name__,
        "objective_samples": experiment.objective.num_samples,
        "corrections": list(resolved.corrections),
        **_commit(),
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "split": split,
        "num_examples": len(estimate.per_example),
        "split_size": split_size,
        "encoding": dataset.encoding,
        "standardized": dataset.standardization is not None,
        "bound": kind,
        "num_samples": num_samples,
        "weight_draws": experiment.evaluation.weight_draws if bound == "predictive" else None,
        "value": _rounded(estimate.value),
        "standard_error": _rounded(estimate.standard_error),
        "subset_error": _rounded(subset_error(estimate.standard_error, len(estimate.per_example), split_size)),
        "monte_carlo_error": _rounded(with_prepared_error(0.0 if exact else estimate.monte_carlo_error, prepared)),
        "effective_samples": estimate.sampling(),
        "elbo": None if bound == "predictive" else _rounded(estimate.elbo),
        "kl": {name: _rounded(float(units.sum())) for name, units in estimate.kl.items()},
        "active_units": estimate.active_units(),
        "codes": estimate.code_use(),
        "bits_per_dim": _rounded(estimate.value / np.log(2) / num_terms) if discrete and whole else None,
        "num_terms": num_terms,
        "train_value": _rounded(train.value),
        "train_error": _rounded(train.standard_error),
        "training_value": training_value,
        "prepared": {name: _rounded(value) for name, value in prepared.items()},
        "seed": seed,
        "data_seed": experiment.data.seed,
        "steps": steps,
        "selected_by": selected_by(resolved, training_value),
        "ema": experiment.training.ema,
        "parameters": parameters,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "matmul_precision": "highest",
        "device": f"{jax.local_devices()[0].device_kind} x{num_devices}",
        "seconds": round(seconds, 1),
        "paper": published_result(experiment, split, steps),
    }


def warn_if_impossible(value: float, name: str) -> None:
    """Warn of a negative value of discrete data, whose probability would be above 1.

    >>> warn_if_impossible(0.5, "VAE")
    """
    if value < 0:
        warnings.warn(
            f"a negative log-likelihood of {value:.4g} nats is impossible for discrete data: {name} gives them a probability "
            "above 1 on average; its log_prob does not sum to 1, or a density of z is wrong: `dgmzoo check` finds which",
            stacklevel=4,
        )


def selected_by(resolved: Resolved, training_value: str) -> str:
    """The quantity by which the measured parameters were selected among those of all readings of the validation split."""
    if "valid" not in resolved.dataset.splits:
        return "last step"
    return "validation loss" if is_bound(training_value) else "validation bound"


def subset_error(standard_error: float, num: int, size: int) -> float:
    """Standard error of the mean over `num` examples, drawn without replacement, against that over all `size` of a split.

    >>> subset_error(0.2, 75, 100), subset_error(0.2, 100, 100)
    (0.1, 0.0)
    """
    return standard_error * math.sqrt(max(0.0, 1 - num / size))


def count_terms(rows: Mapping[str, np.ndarray]) -> int | float:
    """Observed elements of an example `rows["x"] [N, ...]`, on average; a whole number where all have equally many.

    >>> count_terms({"x": np.zeros((2, 3)), "mask": np.array([[True, True, False], [True, False, False]])})
    1.5
    """
    x = rows["x"]
    if "mask" not in rows:
        return int(np.prod(x.shape[1:]))
    observed = rows["mask"].astype(bool).reshape(len(x), -1).sum(1)
    return int(observed[0]) if (observed == observed[0]).all() else round(float(observed.mean()), 6)


def is_discrete(module: nn.Module) -> bool:
    """True if the elements of x are discrete: by the entry's attribute `discrete`, otherwise by its likelihoods.

    >>> is_discrete(nn.Dense(3))
    False
    """
    if (discrete := getattr(module, "discrete", None)) is not None:
        return bool(discrete)
    likelihoods = likelihoods_of(module)
    return bool(likelihoods) and all(likelihood.discrete for likelihood in likelihoods)


def _rounded(value: float) -> float | None:
    """The value with six decimals; None if it is not finite, which JSON cannot represent."""
    return round(float(value), 6) if np.isfinite(value) else None


@functools.cache
def _commit() -> dict[str, Any]:
    """Git commit of the checkout and whether it has changes; None for an installed wheel."""
    root = Path(dgmzoo.__file__).parent.parent
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--", "dgmzoo", "experiments"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
