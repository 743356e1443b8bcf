"""The report of a run: `write` fills the run directory with page and pictures, `card` is a run's view in a notebook.

A run is whatever has the fields of `dgmzoo.Run`; this module does not import it, so that a run can show itself.
"""

import html
from typing import Any

import jax

from dgmzoo import files
from dgmzoo.evaluation import inference
from dgmzoo.evaluation.log_likelihood import Estimate
from dgmzoo.report import layers, plots
from dgmzoo.report.html import headline as headline
from dgmzoo.report.html import write_report

_RECONSTRUCTED = 500  # test examples whose codes are shown; the first 50 are drawn beside their reconstructions


def write(run: Any, estimate: Estimate, report: str, samples: str, reconstructions: str) -> None:
    """Write the pictures and the report into the run directory.

    Args:
      run: a measured `Run` with a path.
      estimate: the estimate that the run's record was made of.
      report, samples, reconstructions: names of the files.
    """
    pictures = {}
    if run.model.generate is not None:
        caption = "Samples (means of the pixels)"
        pictures[caption] = plots.encode_png(plots.image_grid(run.sample(mean=True)))
        files.write_bytes(run.path / samples, pictures[caption])
    codes, reconstructed = {}, None
    if estimate.means:
        rows = run.dataset.fixed("test", _RECONSTRUCTED)
        codes, reconstructed = inference.encode_and_reconstruct(run.model, run.variables, rows, jax.random.key(0))
    if reconstructed is not None:
        caption = "Test examples, and below each its reconstruction"
        pictures[caption] = plots.encode_png(plots.image_pairs(rows["x"][:50], reconstructed[:50]))
        files.write_bytes(run.path / reconstructions, pictures[caption])
    figures = _figures(run, estimate) | layers.figures(run.module, run.variables, codes)
    write_report(run.path / report, run.title, run.record, pictures, figures)


def card(run: Any) -> str:
    """A run as HTML for a notebook: headline, training curves, samples."""
    parts = [
        f"<h3>{html.escape(run.title)}</h3><p>{html.escape(run.headline)}</p>",
        plots.training_curves(run.metrics) if run.metrics else "",
    ]
    if run.model.generate is not None:
        parts.append(plots.inline_image(plots.encode_png(plots.image_grid(run.sample(36, mean=True)))))
    return "".join(parts)


def _figures(run: Any, estimate: Estimate) -> dict[str, str]:
    """Caption -> SVG: training curves, KL of every unit, two-dimensional latent spaces."""
    figures = {"Training": plots.training_curves(run.metrics)} if run.metrics else {}
    if estimate.kl:
        figures["KL per unit"] = plots.sorted_units(estimate.kl)
    for name, mean in estimate.means.items():
        if mean.shape[-1] == 2:
            labels = run.dataset.fixed("test", len(mean)).get("label")
            figures[f"The latent space of {name}"] = plots.scatter_plot(mean, labels)
    return figures
