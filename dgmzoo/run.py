"""`Run`: a trained experiment with methods to evaluate, sample, encode and reconstruct; `measure`: evaluate a split."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dgmzoo.config.experiment import Experiment
from dgmzoo.config.overrides import flatten, override
from dgmzoo.config.preflight import Resolved
from dgmzoo.data import Dataset
from dgmzoo.data.observe import broadcast_mask
from dgmzoo.evaluation import imputation, inference
from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.evaluation.partial import PartialSums, digest_of_variables
from dgmzoo.evaluation.predictive import predictive_log_likelihood
from dgmzoo.evaluation.prepared import prepared_quantities
from dgmzoo.evaluation.record import count_terms, is_discrete, make_record
from dgmzoo.evaluation.training_value import training_value
from dgmzoo.model.contract import Model
from dgmzoo.model.functional import mean_weights, num_parameters
from dgmzoo.report import render
from dgmzoo.report.html import subject
from dgmzoo.training import devices
from dgmzoo.training.progress import evaluation_progress
from dgmzoo.validation import check_whole

_TRAINING_ROWS = 1000  # at most, in the value of the training split


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained experiment.

    `dgmzoo.train` and `dgmzoo.load` make runs; in a notebook a run shows itself.
    """

    resolved: Resolved
    """The experiment with its data and its model."""
    variables: Any
    """The selected parameters and collections of the model, prepared for evaluation."""
    step: int
    """Step at which the parameters were selected."""
    seed: int
    """Seed of initial values, order of the rows and noise."""
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list, repr=False)
    """Rows of `step, split, loss, elbo, kl/<layer>, grad_norm, seconds`."""
    path: Path | None = None
    """The run directory; None for a run in memory."""
    record: dict[str, Any] | None = None
    """The result on the test split; None for a run that was stopped before it was measured."""

    @property
    def experiment(self) -> Experiment:
        """The experiment as requested."""
        return self.resolved.experiment

    @property
    def dataset(self) -> Dataset:
        """The data as they are split and encoded."""
        return self.resolved.dataset

    @property
    def module(self) -> nn.Module:
        """The zoo entry as it was trained, with the data's shape."""
        return self.resolved.module

    @property
    def model(self) -> Model:
        """The pure functions of the entry."""
        return self.resolved.model

    def evaluate(
        self, split: str = "test", num_samples: int | None = None, progress: bool = False, **settings: Any
    ) -> dict[str, Any]:
        """Evaluate a split and return the record; its `value` is the negative log-likelihood or bound, nats per example.

        Args:
          num_samples: importance samples per example (K); None: the experiment's.
          progress: show the progress on standard error.
          settings: further fields of `dgmzoo.Evaluation` that differ from the experiment's, such as `weight_draws=20`.

        Raises:
          ValueError: no such split or field, or a value that does not fit.
        """
        requested = settings if num_samples is None else settings | {"num_samples": num_samples}
        changes = {f"evaluation.{name}": value for name, value in requested.items()}
        resolved = self.resolved._replace(experiment=override(self.experiment, changes))
        if settings.get("weight_draws") and self.model.bound != "predictive":
            raise ValueError(f"expected weight_draws of a model with random weights, got one without ({self.title})")
        return measure(resolved, self.variables, self.step, self.seed, self.seconds, split, progress, self.path)[0]

    def sample(
        self, num: int = 64, seed: int = 0, mean: bool = False, context: Mapping[str, Any] | None = None
    ) -> np.ndarray | None:
        """Draw samples of x from the model, `[num, ...]`, as the model sees x.

        Those of a standardised table are in its own units after `run.dataset.standardization.invert`.

        Args:
          mean: instead of x, the mean of each element given the elements sampled before it, as papers picture it; None is
            returned where the entry does not give it.
          context: conditions of a conditional model, such as `{"label": [num]}`; None: those of the first test examples.
        """
        check_whole("num", num)
        if context is None:
            context = self._conditions(num) if set(self.dataset.splits["test"]) > {"x"} else {}
        draw = inference.sample(self.model, self.variables, jax.random.key(seed), num, context)
        return draw.mean if mean else draw.x

    def encode(self, x: np.ndarray | Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Layer -> parameters of q(z | x) and its mean, `[N, U]`.

        Args:
          x: `[N, ...]` as the model sees it, or rows with more than x: `{"x": ..., "label": ...}`.

        Raises:
          ValueError: x holds intensities up to 255, say, where the model sees them in [0, 1].
        """
        return inference.encode(self.model, self.variables, self._rows(x), jax.random.key(seed))

    def reconstruct(self, x: np.ndarray | Mapping[str, Any], seed: int = 0) -> np.ndarray | None:
        """The mean of p(x | z) at one sample of q(z | x), `[N, ...]`; None where the entry does not give it.

        Takes and refuses the same x as `encode`.
        """
        return inference.reconstruct(self.model, self.variables, self._rows(x), jax.random.key(seed))

    def impute(
        self,
        x: np.ndarray,
        mask: np.ndarray,
        num_samples: int = 1000,
        seed: int = 0,
        context: Mapping[str, Any] | None = None,
    ) -> imputation.Imputed:
        """Fill in hidden elements by their mean given the observed ones, by importance sampling: `.x` `[N, ...]`.

        `.effective_samples` `[N]` tells how far each row is to be trusted.

        Args:
          x: `[N, ...]` as the model sees it; values under the mask do not matter.
          mask: True where x is observed, of the shape of x or of its first axes.
          num_samples: importance samples of a row.
          context: further fields of the rows, such as `{"label": [N]}`.
        """
        x, mask = np.asarray(x), broadcast_mask(np.asarray(mask, bool), np.shape(x), np)
        rows = self._rows({"x": np.where(mask, x, np.zeros((), x.dtype)), "mask": mask, **(context or {})})
        return imputation.impute(self.model, self.variables, rows, jax.random.key(seed), num_samples)

    def score(self, x: np.ndarray | Mapping[str, Any], num_samples: int | None = None, seed: int = 0) -> np.ndarray:
        """-log p(x) of each row, `[N]`, nats in the units of the data: the higher, the more unusual.

        Takes the same x as `encode`, which may have a mask. `num_samples`, importance samples of a row, is by default that
        of the experiment.
        """
        rows, settings = self._rows(x), self.experiment.evaluation
        num_samples = settings.num_samples if num_samples is None else num_samples
        estimate = predictive_log_likelihood(
            self.model, self.variables, rows, jax.random.key(seed), num_samples, settings.weight_draws
        )
        shift = self.dataset.log_det_of(rows) if self.model.bound is not None else 0.0
        return shift - estimate.per_example

    def weights(self) -> dict[str, np.ndarray]:
        """Layer -> posterior means `[..., inputs, outputs]` of its random weights."""
        zeros = {name: np.zeros(rows.shape, rows.dtype) for name, rows in self.dataset.row_shapes(2).items()}
        rows = self.dataset.observe(jax.random.key(0), zeros)
        return jax.device_get(mean_weights(self.module, self.variables, rows))

    @property
    def seconds(self) -> float:
        """Seconds of training."""
        return training_seconds(self.metrics)

    @property
    def title(self) -> str:
        """Model, data, objective and seed."""
        model, objective = type(self.module).__name__, self.experiment.objective
        of_run = subject(model, self.dataset.name, type(objective).__name__, objective.num_samples)
        return f"{of_run}, seed {self.seed}"

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        return render.headline(self.record) if self.record else "not measured yet"

    def __repr__(self) -> str:
        where = f" in {self.path}" if self.path else ""
        return f"Run({self.title}, step {self.step}{where}: {self.headline})"

    def _repr_html_(self) -> str:
        return render.card(self)

    def _conditions(self, num: int) -> dict[str, np.ndarray]:
        """The fields other than x of the first test examples, repeated if there are fewer than `num`."""
        try:
            rows = self.dataset.evaluation_rows("test", num)
        except FileNotFoundError:  # the data have moved; a model that reads no condition needs none
            with contextlib.suppress(Exception):
                jax.eval_shape(lambda key: self.model.generate(self.variables, key, num, {}), jax.random.key(0))
                return {}
            raise
        return {name: np.resize(leaf, (num, *leaf.shape[1:])) for name, leaf in rows.items() if name != "x"}

    def _rows(self, x: np.ndarray | Mapping[str, Any]) -> dict[str, np.ndarray]:
        rows = {name: np.asarray(leaf) for name, leaf in (x if isinstance(x, Mapping) else {"x": x}).items()}
        x = rows["x"]
        observed = x[broadcast_mask(rows["mask"], x.shape, np).astype(bool)] if "mask" in rows else x
        exceeds = self.dataset.in_unit_interval and observed.size and observed.max() > 1
        if exceeds and (observed.dtype.kind in "iu" or observed.mean() > 1):
            raise ValueError(
                f"expected x in [0, 1], as a model of {self.dataset.name!r} sees it, got raw intensities up to "
                f'{observed.max()}; take rows of run.dataset.evaluation_rows("test"), or divide by the largest possible intensity'
            )
        return rows


def measure(
    resolved: Resolved,
    variables: Any,
    step: int,
    seed: int,
    seconds: float,
    split: str = "test",
    progress: bool = False,
    partial: Path | None = None,
) -> tuple[dict[str, Any], Estimate]:
    """Evaluate a split: the record, and the estimate it was made of.

    Args:
      variables: as `prepared.prepare` returns them; both splits use them.
      step: the step of the parameters.
      seconds: duration of the training, for the record.
      progress: show the progress on standard error.
      partial: folder of the finished batches, so that a measurement that was stopped is resumed; None keeps none.
    """
    experiment, dataset, module, model, _ = resolved
    settings = experiment.evaluation
    draws = settings.weight_draws if model.bound == "predictive" else 0
    key, meaning = jax.random.key(settings.seed), training_value(module)
    num_samples = 1 if meaning == "deterministic" else settings.num_samples
    size, kept, partials = settings.batch_size, [], None
    if partial:
        settled = [digest_of_variables(variables), flatten(experiment), dataset.sha256, split]
        identity = [*settled, jax.__version__, str(jax.devices())]

        def partials(network: int) -> PartialSums:
            kept.append(PartialSums(partial / f"partial-{split}-{network}.npz", [identity, network]))
            return kept[-1]

    with evaluation_progress(f"measuring {split}", progress) as report_progress:
        rows = dataset.evaluation_rows(split, settings.num_examples)
        estimate = predictive_log_likelihood(
            model, variables, rows, key, num_samples, draws, report_progress, size, partials
        )
    with evaluation_progress("measuring train", progress) as report_progress:
        train_rows = dataset.evaluation_rows("train", min(_TRAINING_ROWS, settings.num_examples or _TRAINING_ROWS))
        train = predictive_log_likelihood(model, variables, train_rows, key, num_samples, draws, report_progress, size)
    for sums in kept:
        sums.finish()
    if model.bound is not None:  # densities in the units of the data, whatever units the model sees
        estimate, train = (
            each.shifted(dataset.log_det_of(own_rows)) for each, own_rows in ((estimate, rows), (train, train_rows))
        )
    of_objective = experiment.objective.optimizers()
    learned = {name: leaf for name, leaf in variables["params"].items() if name not in of_objective}
    record = make_record(
        resolved=resolved,
        split=split,
        estimate=estimate,
        train=train,
        prepared=prepared_quantities(variables),
        training_value=meaning,
        seed=seed,
        steps=step,
        parameters=num_parameters({"params": learned}),
        discrete=is_discrete(module),
        num_terms=count_terms(rows),
        num_devices=devices.num_global(devices.choose_devices(experiment.training.micro_batch_size)),
        seconds=seconds,
    )
    return record, estimate


def training_seconds(metrics: list[dict[str, Any]]) -> float:
    """Seconds of training by the last row of the metrics."""
    return max((row["seconds"] for row in metrics if "seconds" in row), default=0.0)
