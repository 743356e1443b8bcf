"""`write`: write the pictures and the HTML report of a run; `card`: make an HTML view of a run for notebooks.

Functions accept any object with the fields of `dgmzoo.Run`. They do not import `Run`, whose notebook view uses this module.
"""

import html
import warnings
from collections.abc import Callable
from typing import Any

import jax

from dgmzoo import files
from dgmzoo.evaluation import inference
from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.report import layers, plots
from dgmzoo.report.facts import facts
from dgmzoo.report.html import headline as headline
from dgmzoo.report.html import write_report
from dgmzoo.report.matplotlib_style import default_style
from dgmzoo.report.pictures import of_run as pictures
from dgmzoo.report.pictures.base import Picture

_ENCODED = 500  # test examples whose codes are summarized


def write(run: Any, estimate: Estimate, report: str, samples: str, reconstructions: str) -> None:
    """Write the pictures and the report into the run directory. A picture that fails is left out, with a warning.

    Args:
      run: a measured `Run` with a path.
      estimate: the estimate behind the run's record.
      report: name of the HTML file.
      samples: name of the PNG file with samples; not written if the entry does not generate.
      reconstructions: name of the PNG file with reconstructions; not written if the entry has none.
    """
    drawn: list[Picture] = []
    figures: dict[str, str] = {}
    codes: dict[str, Any] = {}

    def draw_samples():
        if run.model.generate is not None:
            drawn.append(pictures.samples(run))
            files.write_bytes(run.path / samples, drawn[-1].png)

    def draw_reconstructions():
        if not estimate.kl:
            return
        rows = run.dataset.evaluation_rows("test", _ENCODED)
        q, means = inference.encode_and_reconstruct(run.model, run.variables, rows, jax.random.key(0))
        codes.update(q)
        if means is not None:
            drawn.append(pictures.reconstructions(run, rows, means))
            files.write_bytes(run.path / reconstructions, drawn[-1].png)

    parts: dict[str, Callable[[], Any]] = {
        "samples": draw_samples,
        "reconstructions": draw_reconstructions,
        "curves": lambda: figures.update(_figures(run, estimate)),
        "figures of the layers": lambda: figures.update(layers.figures(run.module, run.variables, codes)),
    }
    for name, draw in parts.items():
        try:
            with default_style():
                draw()
        except files.CannotWrite:
            raise
        except Exception as error:  # the result stands, whatever a picture does
            first_line = str(error).strip().partition("\n")[0]
            warnings.warn(f"the {name} are not in the report: {type(error).__name__}: {first_line}", stacklevel=2)
    write_report(run.path / report, run.title, run.record, drawn, figures, facts(run))


def card(run: Any) -> str:
    """HTML view of a run for a notebook: headline, training curves and samples."""
    with default_style():
        return _card(run)


def _card(run: Any) -> str:
    parts = [
        f"<h3>{html.escape(run.title)}</h3><p>{html.escape(run.headline)}</p>",
        plots.training_curves(run.metrics, run.model.bound is not None),
    ]
    if run.model.generate is not None:
        samples = pictures.samples(run)
        parts.append(plots.inline_image(samples.png, samples.caption))
    return "".join(parts)


def _figures(run: Any, estimate: Estimate) -> dict[str, str]:
    """Caption -> SVG, for training curves, the KL of every unit and two-dimensional latent spaces."""
    figures = {}
    if curves := plots.training_curves(run.metrics, run.model.bound is not None):
        figures["Training"] = curves
    if curves := plots.metric_curves(run.metrics):
        figures["Extra losses and further metrics"] = curves
    if estimate.kl:
        figures["KL per unit"] = plots.sorted_units(estimate.kl)
    for name, mean in estimate.means.items():
        if mean.ndim == 2 and mean.shape[-1] == 2:  # not of every step of a sequence
            labels = run.dataset.evaluation_rows("test", len(mean)).get("label")
            figures[f"The latent space of {name}"] = plots.scatter_plot(mean, labels)
    return figures
