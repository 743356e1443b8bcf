"""`measure_run`: compute a trained model's numbers for the table; `figure_row`: compute its arrays for the figure."""

import math
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from dgmzoo.comparison.figure import TRAVERSAL_STEPS, FigureRow, leading_units
from dgmzoo.evaluation import code_metrics, inference
from dgmzoo.model.contract import Draw
from dgmzoo.report.pictures.draw import renderer
from dgmzoo.run import Run

_AGGREGATE_ROWS = 10_000  # most rows of the aggregate posterior
_CODE_ROWS = 1000  # most rows whose codes are sampled; they are the first of the above
_FLIPPED_SHARE = 0.1  # of the pixels
_FLIPPED_SHOWN, _SAMPLES_SHOWN = 8, 36  # images in the figure
_FACTS = ("experiment", "dataset", "split", "num_examples", "bound", "num_samples", "weight_draws")
_FACTS += ("data_seed", "steps", "parameters", "seconds", "device", "commit", "dirty")


class _TestRows(NamedTuple):
    """Test rows and key, which are the same for all variants and seeds."""

    aggregate: dict[str, np.ndarray]  # rows of the aggregate posterior
    coded: dict[str, np.ndarray]  # rows whose codes are sampled
    flipped: dict[str, np.ndarray] | None  # the same with flipped pixels; None if x is not binary
    key: chex.PRNGKey


def _test_rows(run: Run) -> _TestRows:
    seed = run.experiment.evaluation.seed
    aggregate = run.dataset.evaluation_rows("test", _AGGREGATE_ROWS)
    coded = run.dataset.evaluation_rows("test", min(run.record["num_examples"], _CODE_ROWS))  # rows of the aggregate
    flipped = None
    if code_metrics.is_binary(coded["x"]):
        flipped = coded | {"x": code_metrics.flip_pixels(coded["x"], _FLIPPED_SHARE, seed)}
    return _TestRows(aggregate, coded, flipped, jax.random.key(seed))


def measure_run(variant: str, run: Run) -> dict[str, Any]:
    """Flat record of a run. A measure that does not apply to the model is left out; one that is not finite is None."""
    record, model, variables, test = run.record, run.model, run.variables, _test_rows(run)
    codes = code_metrics.sample_codes(model, variables, test.coded, test.key)
    measures: dict[str, Any] = {}
    if model.bound is not None:
        is_finite = None not in (record["value"], record["train_value"])
        measures |= {"nll": record["value"], "gap": record["value"] - record["train_value"] if is_finite else None}
        if quality := record["effective_samples"]:
            measures["effective_samples"] = quality["median"]
    if model.bound is not None and codes.values:
        kl = record["kl"]
        measures |= {"elbo": record["elbo"], "kl": None if None in kl.values() else sum(kl.values())}
        measures |= {f"kl/{name}": value for name, value in kl.items()}
        if model.takes_given:  # otherwise information and robustness are not available
            information, error = code_metrics.mutual_information(model, variables, test.aggregate, codes, test.key)
            measures |= {"mutual_information": information, "mutual_information_error": error}
            num = len(test.aggregate["x"])
            measures |= {"mutual_information_most": math.log(num), "num_aggregate": num}
        measures |= {f"active_units/{name}": count for name, count in record["active_units"].items()}
        for name, use in record.get("codes", {}).items():
            measures |= {f"codes_used/{name}": use["used"], f"code_perplexity/{name}": use["perplexity"]}
        measures |= {f"sparsity/{name}": code_metrics.hoyer_sparsity(values) for name, values in codes.values.items()}
    if codes.values:
        measures["reconstruction"] = float(codes.log_likelihood.mean(dtype=np.float64))
    if codes.values and test.flipped is not None and model.takes_given:
        flipped_codes = code_metrics.sample_codes(model, variables, test.flipped, test.key)
        scored = code_metrics.sample_codes(model, variables, test.coded, test.key, flipped_codes.samples)
        measures["robustness"] = float(scored.log_likelihood.mean(dtype=np.float64))
    measures = {name: value if value is None or math.isfinite(value) else None for name, value in measures.items()}
    facts = {name: record[name] for name in _FACTS} | {"corrections": "; ".join(record["corrections"]) or None}
    return {"variant": variant, "seed": run.seed} | measures | facts


def figure_row(run: Run) -> FigureRow:
    """Arrays of a run that are plotted in its row of the figure."""
    model, variables, test = run.model, run.variables, _test_rows(run)
    codes = code_metrics.sample_codes(model, variables, test.coded, test.key)
    kl = {} if model.bound is None else {name: units.mean(0) for name, units in codes.kl.items()}
    draw = traversal = flipped = None
    if codes.values and codes.mean is not None:
        layer = min(codes.values)  # the layer next to the data
        units = leading_units(codes.values[layer], kl.get(layer))
        traversal = code_metrics.latent_traversal(model, variables, test.coded, codes, layer, units, TRAVERSAL_STEPS)
        if test.flipped is not None:
            rows = {name: leaf[:_FLIPPED_SHOWN] for name, leaf in test.flipped.items()}
            reconstructed = code_metrics.sample_codes(model, variables, rows, test.key).mean
            flipped = np.concatenate([test.coded["x"][:_FLIPPED_SHOWN], rows["x"], reconstructed])
    if model.generate is not None:
        context = {name: leaf for name, leaf in test.coded.items() if name != "x"}
        draw = inference.sample(model, variables, jax.random.key(0), len(test.coded["x"]), context)
    return FigureRow(
        kl=kl,
        values=codes.values,
        prior=draw.latents if draw else {},
        labels=test.coded.get("label"),
        samples=_shown_samples(draw, renderer(run.dataset).shows_means) if draw else None,
        traversal=traversal,
        flipped=flipped,
    )


def _shown_samples(draw: Draw, as_means: bool) -> np.ndarray:
    """Samples of x, or their means where the kind of data is shown by them and the entry gives them."""
    return draw.mean[:_SAMPLES_SHOWN] if as_means and draw.mean is not None else draw.x
