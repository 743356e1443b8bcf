"""`Comparison`: the trained variants of an experiment, with a table, notes and a figure that compare them."""

import dataclasses
import html
from pathlib import Path
from typing import Any

from dgmzoo import files
from dgmzoo.comparison.figure import draw_figure
from dgmzoo.comparison.measure import figure_row, measure_run
from dgmzoo.comparison.table import html_table, rich_table, table_notes
from dgmzoo.report import plots
from dgmzoo.report.html import page
from dgmzoo.report.html import table as facts_table
from dgmzoo.report.pictures.draw import renderer
from dgmzoo.run import Run


@dataclasses.dataclass(eq=False)
class Comparison:
    """Variants of an experiment, trained with the same seeds. In a notebook a comparison shows its table and its figure."""

    title: str
    runs: dict[str, list[Run]]
    """Variant -> a run for each seed."""
    path: Path | None = None
    """Directory of the runs; None for runs in memory."""
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variant -> message of the NaN or infinity that ended its training."""
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variant named after a layer -> settings that this layer retains from the experiment."""
    descriptions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variant -> its settings that differ from those of the experiment, in words."""
    records: list[dict[str, Any]] = dataclasses.field(init=False)
    """One flat record per variant and seed, for example for `pandas.DataFrame(comparison.records)`."""

    def __post_init__(self):
        self.records = [measure_run(name, run) for name, runs in self.runs.items() for run in runs]

    def table(self) -> Any:
        """Table of the measures over paired seeds for the terminal (rich)."""
        return rich_table(self.records, self.title)

    def notes(self) -> list[str]:
        """Notes on the table: failed, corrected and non-default variants, the data, and the meaning of each measure."""
        lines = [f"{variant} failed: {message}" for variant, message in self.failed.items()]
        lines += [
            f"{name}: with {settings}, as in the experiment" for name, settings in self.settings.items() if settings
        ]
        return lines + table_notes(self.records)

    def figure(self) -> bytes:
        """Figure of the learning curves of all seeds, and of the first seed of each variant in a row, as PNG."""
        rows = {name: figure_row(runs[0]) for name, runs in self.runs.items()}
        bounded = {name: runs for name, runs in self.runs.items() if runs[0].model.bound is not None}
        metrics = {name: [run.metrics for run in runs] for name, runs in bounded.items()}
        return draw_figure(rows, renderer(next(iter(self.runs.values()))[0].dataset), metrics)

    def write(self, folder: str | Path) -> None:
        """Write `comparison.json` (the records), `comparison.png` and `comparison.html`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / "comparison.json", self.records)  # first, because the records took longest to compute
        figure = self.figure()
        files.write_bytes(folder / "comparison.png", figure)
        files.write_text(folder / "comparison.html", page(self.title, [self._html(figure)]))

    def _html(self, figure: bytes) -> str:
        parts = [f"<h1>{html.escape(self.title)}</h1>", facts_table(self.descriptions) if self.descriptions else ""]
        parts.append(html_table(self.records, self.notes()))
        image = plots.inline_image(figure, "what each variant learned")
        return "".join([*parts, f"<figure class=drawn>{image}</figure>"])

    def _repr_html_(self) -> str:
        return self._html(self.figure())

    def __repr__(self) -> str:
        where = f" in {self.path}" if self.path else ""
        return f"Comparison({self.title}: {', '.join(self.runs)}; {len(self.records)} runs{where})"
