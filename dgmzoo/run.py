"""A trained experiment: what it can be asked, and what it leaves behind."""

import dataclasses
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dgmzoo import data, files
from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment
from dgmzoo.config.preflight import bind, likelihoods_of
from dgmzoo.data.observe import covering
from dgmzoo.evaluation import inference, record
from dgmzoo.evaluation.log_likelihood import Estimate
from dgmzoo.evaluation.predictive import predictive_log_likelihood
from dgmzoo.model.contract import Model
from dgmzoo.model.functional import mean_weights, num_parameters
from dgmzoo.report import html as page
from dgmzoo.report import layers, plots
from dgmzoo.training import devices, multihost
from dgmzoo.training.progress import measuring
from dgmzoo.training.run_directory import RECONSTRUCTIONS, REPORT, RESULT, SAMPLES
from dgmzoo.validation import check_whole


@dataclasses.dataclass(eq=False)
class Run:
    """A trained experiment."""

    experiment: Experiment
    origin: overrides.Origin
    """The name and overrides that give the experiment."""
    dataset: data.Dataset
    model: Model
    variables: Any
    step: int
    """At which the parameters were selected."""
    seed: int
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Rows of `step, split, loss, elbo, kl/<layer>, grad_norm, seconds`."""
    path: Path | None = None
    """The run directory."""
    record: dict[str, Any] | None = None
    """The result on the test split."""

    def evaluate(self, split: str = "test", num_samples: int | None = None, **settings: Any) -> dict[str, Any]:
        """Measure a split: the record, with `value` the negative log-likelihood or bound in nats per example.

        Args:
          num_samples: importance samples per example (K); None: the experiment's.
          settings: further fields of `dgmzoo.Evaluation` that differ from the experiment's, such as `weight_draws=20`.

        Raises:
          ValueError: no such split or field, or a value that does not fit.
        """
        asked = settings if num_samples is None else settings | {"num_samples": num_samples}
        exp = overrides.override(self.experiment, {f"evaluation.{name}": value for name, value in asked.items()})
        if settings.get("weight_draws") and self.model.bound != "predictive":
            raise ValueError(f"expected weight_draws of a model with random weights, got one without ({self._title})")
        return self._estimate(exp, split, progress=False)[0]

    def sample(
        self, num: int = 64, seed: int = 0, mean: bool = False, context: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Draws from the model, `[num, ...]`.

        Args:
          mean: instead of x itself the mean of each element given what was drawn before it, as papers picture it.
          context: what a conditional model is given, such as `{"label": [num]}`; None: that of the first test examples.
        """
        check_whole("num", num)
        if context is None:
            rows = self.dataset.fixed("test", num)
            given = {name: leaf for name, leaf in rows.items() if name != "x"}
            context = {name: np.resize(leaf, (num, *leaf.shape[1:])) for name, leaf in given.items()}
        draw = inference.sample(self.model, self.variables, jax.random.key(seed), num, context)
        return draw.mean if mean else draw.x

    def encode(self, x: np.ndarray | Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Layer -> parameters of q(z | x) and its mean, `[N, U]`.

        Args:
          x: `[N, ...]` as the model sees it, or rows with more than x: `{"x": ..., "label": ...}`.

        Raises:
          ValueError: x is raw intensities, up to 255, say, where the model sees them in [0, 1].
        """
        return inference.encode(self.model, self.variables, self._rows(x), jax.random.key(seed))

    def reconstruct(self, x: np.ndarray | Mapping[str, Any], seed: int = 0) -> np.ndarray | None:
        """The mean of p(x | z), `[N, ...]`, at one sample of q(z | x); None where the entry does not tell it.

        Takes and refuses what `encode` does.
        """
        return inference.reconstruct(self.model, self.variables, self._rows(x), jax.random.key(seed))

    def weights(self) -> dict[str, np.ndarray]:
        """Layer -> posterior means `[..., inputs, outputs]` of its weights, where they are random."""
        rows = {name: np.asarray(leaf[:2]) for name, leaf in self.dataset.fixed("test", 2).items()}
        found = mean_weights(bind(self.experiment.model, self.dataset), self.variables, rows)
        return jax.device_get(found)

    def is_measured(self) -> bool:
        """Whether the result belongs to these parameters and the report is there."""
        if self.path is None or self.record is None:
            return False
        return self.record["steps"] == self.step and (self.path / REPORT).is_file()

    def measure(self, progress: bool = True) -> None:
        """Measure the test split and, where there is a run directory, write pictures, report and result."""
        self.record, estimate = self._estimate(self.experiment, "test", progress)
        with multihost.together():
            if self.path is not None:
                self._write(estimate)

    def _write(self, estimate: Estimate) -> None:
        shown = {}
        if self.model.generate is not None:
            caption = "Samples (means of the pixels)"
            shown[caption] = plots.encode_png(plots.image_grid(self.sample(mean=True)))
            files.write_bytes(self.path / SAMPLES, shown[caption])
        codes, again = {}, None
        if estimate.means:
            rows = self.dataset.fixed("test", 500)
            codes, again = inference.encode_and_reconstruct(self.model, self.variables, rows, jax.random.key(0))
        if again is not None:
            caption = "Test examples, and below each its reconstruction"
            shown[caption] = plots.encode_png(plots.image_pairs(rows["x"][:50], again[:50]))
            files.write_bytes(self.path / RECONSTRUCTIONS, shown[caption])
        figures = self._figures(estimate) | layers.figures(self.experiment.model, self.variables, codes)
        page.write_report(self.path / REPORT, self._title, self.record, shown, figures)
        files.write_json(self.path / RESULT, self.record)

    def _estimate(self, exp: Experiment, split: str, progress: bool) -> tuple[dict[str, Any], Estimate]:
        """Measure a split as `exp`, the experiment or one that is measured otherwise, says."""
        settings = exp.evaluation
        num_samples, draws = settings.num_samples, settings.weight_draws if self.model.bound == "predictive" else 0
        key = jax.random.key(settings.seed)
        with measuring(f"measuring {split}", progress) as tell:
            rows = self.dataset.fixed(split, settings.num_examples)
            found = predictive_log_likelihood(self.model, self.variables, rows, key, num_samples, draws, tell)
        train = predictive_log_likelihood(self.model, self.variables, self.dataset.fixed("train", 1000), key, num_samples, draws)
        learned = dict(self.variables["params"])
        for name in self.experiment.objective.optimizers():
            learned.pop(name, None)
        made = record.make_record(
            experiment=exp,
            origin=self.origin if exp is self.experiment else overrides.origin(exp),
            dataset=self.dataset,
            split=split,
            bound=self.model.bound,
            estimate=found,
            train_value=train.value,
            seed=self.seed,
            steps=self.step,
            parameters=num_parameters({"params": learned}),
            discrete=all(likelihood.discrete for likelihood in likelihoods_of(self.experiment.model)),
            num_devices=devices.num_all(devices.choose_devices(exp.training.part_size)),
            seconds=max((row["seconds"] for row in self.metrics if "seconds" in row), default=0.0),
        )
        return made, found

    def _figures(self, estimate: Estimate) -> dict[str, str]:
        figures = {"Training": plots.training_curves(self.metrics)} if self.metrics else {}
        if estimate.kl:
            figures["KL per unit"] = plots.sorted_units(estimate.kl)
        for name, mean in estimate.means.items():
            if mean.shape[-1] == 2:
                labels = self.dataset.fixed("test", len(mean)).get("label")
                figures[f"The latent space of {name}"] = plots.scatter_plot(mean, labels)
        return figures

    @property
    def _title(self) -> str:
        return f"{self.experiment.name or type(self.experiment.model).__name__}, seed {self.seed}"

    def __repr__(self) -> str:
        where = f" in {self.path}" if self.path else ""
        return f"Run({self._title}, step {self.step}{where}: {self.headline})"

    def _repr_html_(self) -> str:
        parts = [
            f"<h3>{html.escape(self._title)}</h3><p>{html.escape(self.headline)}</p>",
            plots.training_curves(self.metrics) if self.metrics else "",
        ]
        if self.model.generate is not None:
            parts.append(plots.inline_image(plots.encode_png(plots.image_grid(self.sample(36, mean=True)))))
        return "".join(parts)

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        return page.headline(self.record) if self.record else "not measured yet"

    def _rows(self, x: np.ndarray | Mapping[str, Any]) -> dict[str, np.ndarray]:
        rows = {name: np.asarray(leaf) for name, leaf in (x if isinstance(x, Mapping) else {"x": x}).items()}
        x = rows["x"]
        seen = x[covering(rows["mask"], x.shape, np).astype(bool)] if "mask" in rows else x
        if (
            self.dataset.in_unit_interval
            and seen.size
            and seen.max() > 1
            and (seen.dtype.kind in "iu" or seen.mean() > 1)
        ):
            raise ValueError(
                f"expected x in [0, 1], as a model of {self.dataset.name!r} sees it, got raw intensities up to {seen.max()}; "
                'take rows of run.dataset.fixed("test"), or divide by the largest intensity that there may be'
            )
        return rows
