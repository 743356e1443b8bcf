"""One experiment in several variants, with paired seeds: trained, measured, and shown side by side."""

import dataclasses
import hashlib
import html
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from dgmzoo import api, data, files
from dgmzoo.compare.figure import STEPS, View, draw, leading
from dgmzoo.compare.table import html_table, lines, notes, rich_table
from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment, load_experiment
from dgmzoo.config.names import LATENTS
from dgmzoo.config.preflight import resolve
from dgmzoo.data.fetch_progress import told
from dgmzoo.evaluation import code_metrics, inference
from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.objectives.base import variational_layers
from dgmzoo.report import plots
from dgmzoo.report.html import page
from dgmzoo.run import Run
from dgmzoo.training.loop import check_seeds
from dgmzoo.training.run_directory import RunDirectory, run_config
from dgmzoo.training.seed_tracker import NonFinite
from dgmzoo.validation import check_seed

_MOST = 10_000  # rows of the aggregate posterior
_DRAWN = 1000  # of these, rows whose codes are drawn
_FLIPPED = 0.1  # share of the pixels
_FACTS = ("experiment", "dataset", "split", "num_examples", "bound", "num_samples", "weight_draws")
_FACTS += ("data_seed", "steps", "parameters", "seconds", "device", "commit", "dirty")


def compare(
    experiment: Experiment | str,
    layers: Sequence[str] = (),
    overrides: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] = (),
    seeds: Sequence[int] = range(3),
    run_dir: str | Path | None = None,
    progress: bool = True,
) -> "Comparison":
    """Train variants of an experiment with the same seeds, measure them, and set them side by side.

    Args:
      experiment: an experiment or its name.
      layers: variational layers, such as `("normal", "horseshoe")`; each, as every latent layer of the entry, is a variant.
        A layer of the experiment's own kind keeps its settings, the others have their defaults.
      overrides: further variants, such as `{"model.latent.prior": "Laplace"}`; `{}` is the experiment as it stands.
        As a mapping, `{"narrow": {"model.latent.slab": 0.5}}`, they have names.
      seeds: of initial values, order of the rows and noise, the same for all; those of a variant train together.
      run_dir: where to keep the runs (`VARIANT/seed-N`), the table and the figure; the same call goes on there, and
        finished runs are taken as they are. None keeps all in memory.
      progress: show how far it is, on standard error.

    Raises:
      ValueError: a variant is not what it should be; nothing was trained.
      Interrupted: Ctrl-C or SIGTERM; with a run_dir the same call goes on.
    """
    each = overrides.values() if isinstance(overrides, Mapping) else overrides
    if isinstance(layers, str) or not all(isinstance(one, Mapping) for one in each) or isinstance(seeds, int):
        raise ValueError(
            f"expected lists of layers, overrides and seeds, got {layers!r}, {overrides!r}, {seeds!r}; "
            "write layers=['normal'], overrides=[{...}] or {'name': {...}}, seeds=range(3)"
        )
    base = experiment if isinstance(experiment, Experiment) else load_experiment(str(experiment))
    chosen = [check_seed(seed) for seed in seeds]
    variants = make_variants(base, layers, overrides)
    path = None if run_dir is None else Path(run_dir)
    _check(variants, chosen, path, progress)
    runs, failed = {}, {}
    for name, variant in variants.items():
        try:
            if progress:
                print(f"{name}: seeds {', '.join(map(str, chosen))}", file=sys.stderr)
            runs[name] = api.train(variant, path and path / slug(name), progress=progress, seeds=chosen)
        except NonFinite as error:  # the others are worth having
            failed[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    if not runs:
        raise ValueError(f"expected a variant that trains, got {'; '.join(failed.values())}")
    own = {name: _own_settings(name, base) for name in layers}
    found = Comparison(base.name or type(base.model).__name__, runs, path, failed, own)
    if path is not None:
        found.write(path)
    return found


def make_variants(
    base: Experiment, layers: Sequence[str], changes: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]]
) -> dict[str, Experiment]:
    """Name -> experiment.

    Raises:
      ValueError: there is none, two are alike, or one does not fit (its name is given).
    """
    asked: list[tuple[str, Mapping[str, Any]]] = []
    if layers:
        present = dict(variational_layers(base.model))
        if not present:
            raise ValueError(
                f"expected an entry with variational layers to compare {', '.join(layers)}, "
                f"got {type(base.model).__name__} without; use overrides"
            )
        asked += [(layer, {path: layer for path, own in present.items() if not _is(own, layer)}) for layer in layers]
    named = changes if isinstance(changes, Mapping) else {_name(change): change for change in changes}
    if len(named) < len(changes):
        raise ValueError(
            "expected overrides that differ in what is written of them, got some alike; name them: {name: {...}}"
        )
    asked += named.items()
    if not asked:
        raise ValueError("expected layers or overrides to compare, got neither; name some, such as normal,horseshoe")
    variants: dict[str, Experiment] = {}
    for name, change in asked:
        if not re.search(r"\w", name):
            raise ValueError(f"expected the name of a variant to have a letter or a digit, got {name!r}")
        alike = [other for other in variants if slug(other) == slug(name)]
        if alike:
            raise ValueError(f"expected variants with different names, got {alike[0]!r} and {name!r}")
        for path in change:
            if path.split(".")[0] in ("data", "evaluation"):
                raise ValueError(
                    f"expected variants of the model, its objective or training, got {path!r}; "
                    "figures on other data or by other measures do not compare"
                )
        try:
            variants[name] = overrides.override(base, change)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return variants


def _is(layer: LatentLayer, kind: str) -> bool:
    """Whether the layer is of that kind already; it then keeps what was set of it.

    The layer named `normal` takes any posterior; it is that kind as long as the posterior is the normal one.
    """
    wanted = LATENTS.get(kind)
    if type(layer) is not wanted:
        return False
    return wanted is not VariationalLayer or layer.posterior is wanted.posterior


def _own_settings(kind: str, base: Experiment) -> str:
    """What layers of that kind have in the experiment that differs from the kind's defaults, and is kept."""
    return ", ".join(
        f"{path}.{field}={value}"
        for path, layer in variational_layers(base.model)
        if _is(layer, kind)
        for field, value in _changed_fields(layer).items()
    )


def _changed_fields(layer: LatentLayer) -> dict[str, Any]:
    """Field -> value, of the fields that differ from the defaults of the layer's kind."""
    default, own = overrides.flatten(type(layer)()), overrides.flatten(layer)
    return {field: value for field, value in own.items() if default.get(field) != value}


def slug(name: str) -> str:
    """A variant's name as that of a folder."""
    short = re.sub(r"[^A-Za-z0-9._=-]+", "_", name)
    return short if len(short) <= 100 else f"{short[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:9]}"


def _name(change: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={overrides.plain(value)}" for path, value in change.items()) or "base"


def _check(variants: Mapping[str, Experiment], seeds: Sequence[int], path: Path | None, progress: bool) -> None:
    """Refuse what would fail once others have been trained."""
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"expected different seeds, at least one, got {list(seeds)}")
    with told(progress) as (log, fetching):
        dataset = data.load(next(iter(variants.values())).data, log, fetching)
    for name, variant in variants.items():
        try:
            check_seeds(variant, len(seeds))
            resolved = resolve(variant, dataset)
            for seed in seeds if path else ():
                wanted = run_config(resolved, seed)
                RunDirectory(path / slug(name) / f"seed-{seed}").check(wanted)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


@dataclasses.dataclass(eq=False)
class Comparison:
    """Variants of an experiment, trained with the same seeds."""

    title: str
    runs: dict[str, list[Run]]
    """Variant -> a run for each seed."""
    path: Path | None = None
    """Where it is kept."""
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variant -> why its training ended in a NaN."""
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variant that is named after its layer -> what that layer keeps of the experiment's settings."""
    records: list[dict[str, Any]] = dataclasses.field(init=False)
    """One flat record for each variant and seed: a table for pandas (`pandas.DataFrame(comparison.records)`)."""

    def __post_init__(self):
        self.records = [_record(name, run) for name, runs in self.runs.items() for run in runs]

    def table(self) -> Any:
        """The figures over paired seeds, as a table for the terminal (rich)."""
        return rich_table(self.records, self.title)

    def notes(self) -> list[str]:
        """Which variants failed, were corrected or have settings of their own, what each figure is and was measured on."""
        said = [f"{variant} failed: {why}" for variant, why in self.failed.items()]
        said += [f"{variant}: with {kept}, as in the experiment" for variant, kept in self.settings.items() if kept]
        return said + notes(self.records, lines(self.records))

    def figure(self) -> bytes:
        """What the first seed of each variant learned, a row each, as PNG."""
        return draw({name: _view(runs[0]) for name, runs in self.runs.items()})

    def write(self, folder: str | Path) -> None:
        """Write `comparison.json` (the records), `comparison.png` and `comparison.html`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / "comparison.json", self.records)  # first: it is what cost the time
        figure = self.figure()
        files.write_bytes(folder / "comparison.png", figure)
        files.write_text(folder / "comparison.html", page(self.title, [self._html(figure)]))

    def _html(self, figure: bytes) -> str:
        parts = [f"<h1>{html.escape(self.title)}</h1>", html_table(self.records, self.notes())]
        return "".join([*parts, f"<figure class=drawn>{plots.inline_image(figure, 'what each variant learned')}</figure>"])

    def _repr_html_(self) -> str:
        return self._html(self.figure())

    def __repr__(self) -> str:
        where = f" in {self.path}" if self.path else ""
        return f"Comparison({self.title}: {', '.join(self.runs)}; {len(self.records)} runs{where})"


class _Asked(NamedTuple):
    """What a run is asked of: the same for all variants and seeds."""

    rows: dict[str, np.ndarray]  # those of the aggregate posterior
    first: dict[str, np.ndarray]  # those whose codes are drawn
    flipped: dict[str, np.ndarray] | None  # the same with pixels flipped, where they are binary
    key: chex.PRNGKey


def _asked(run: Run) -> _Asked:
    seed = run.experiment.evaluation.seed
    rows = run.dataset.fixed("test", _MOST)
    first = {name: leaf[: min(run.record["num_examples"], _DRAWN)] for name, leaf in rows.items()}
    flipped = None
    if code_metrics.is_binary(first["x"]):
        flipped = first | {"x": code_metrics.flip_pixels(first["x"], _FLIPPED, seed)}
    return _Asked(rows, first, flipped, jax.random.key(seed))


def _record(variant: str, run: Run) -> dict[str, Any]:
    """One run's flat record; what has no meaning for it is not there."""
    record, model, variables, asked = run.record, run.model, run.variables, _asked(run)
    codes = code_metrics.sample_codes(model, variables, asked.first, asked.key)
    found: dict[str, Any] = {}
    if model.bound is not None:
        known = None not in (record["value"], record["train_value"])
        found |= {"nll": record["value"], "gap": record["value"] - record["train_value"] if known else None}
    if model.bound is not None and codes.values:
        kl = record["kl"]
        found |= {"elbo": record["elbo"], "kl": None if None in kl.values() else sum(kl.values())}
        found |= {f"kl/{name}": value for name, value in kl.items()}
        information, error = code_metrics.mutual_information(model, variables, asked.rows, codes, asked.key)
        found |= {"mutual_information": information, "mutual_information_error": error}
        found |= {"mutual_information_most": math.log(len(asked.rows["x"])), "num_aggregate": len(asked.rows["x"])}
        found |= {f"active_units/{name}": count for name, count in record["active_units"].items()}
        found |= {f"sparsity/{name}": code_metrics.hoyer_sparsity(values) for name, values in codes.values.items()}
    if codes.values:
        found["reconstruction"] = float(codes.log_likelihood.mean(dtype=np.float64))
    if codes.values and asked.flipped is not None:
        misled = code_metrics.sample_codes(model, variables, asked.flipped, asked.key)
        again = code_metrics.sample_codes(model, variables, asked.first, asked.key, misled.samples)
        found["robustness"] = float(again.log_likelihood.mean(dtype=np.float64))
    found = {name: value if value is None or math.isfinite(value) else None for name, value in found.items()}
    facts = {name: record[name] for name in _FACTS} | {"corrections": "; ".join(record["corrections"]) or None}
    return {"variant": variant, "seed": run.seed} | found | facts


def _view(run: Run) -> View:
    model, variables, asked = run.model, run.variables, _asked(run)
    codes = code_metrics.sample_codes(model, variables, asked.first, asked.key)
    kl = {} if model.bound is None else {name: each.mean(0) for name, each in codes.kl.items()}
    drawn = traversed = flipped = None
    if codes.values and codes.mean is not None:
        layer = min(codes.values)  # the one next to the data
        units = leading(codes.values[layer], kl.get(layer))
        traversed = code_metrics.latent_traversal(model, variables, asked.first, codes, layer, units, STEPS)
        if asked.flipped is not None:
            some = {name: leaf[:8] for name, leaf in asked.flipped.items()}
            from_there = code_metrics.sample_codes(model, variables, some, asked.key).mean
            flipped = np.concatenate([asked.first["x"][:8], some["x"], from_there])
    if model.generate is not None:
        context = {name: leaf for name, leaf in asked.first.items() if name != "x"}
        drawn = inference.sample(model, variables, jax.random.key(0), len(asked.first["x"]), context)
    return View(
        kl=kl,
        values=codes.values,
        prior=drawn.latents if drawn else {},
        labels=asked.first.get("label"),
        samples=drawn.mean[:36] if drawn else None,
        traversed=traversed,
        flipped=flipped,
    )
