"""`compare`: train variants of an experiment with the same seeds, evaluate them, and compare the results."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dgmzoo import api, data
from dgmzoo.comparison.comparison import Comparison
from dgmzoo.comparison.variants import Overrides, describe_variant, directory_name, make_variants, retained_settings
from dgmzoo.config.experiment import Experiment, load_experiment
from dgmzoo.config.preflight import resolve
from dgmzoo.data.fetch_progress import console_progress
from dgmzoo.evaluation.given_samples import check_given
from dgmzoo.training.loop import check_seeds
from dgmzoo.training.run_code import code_of
from dgmzoo.training.run_config import run_config
from dgmzoo.training.run_directory import RunDirectory
from dgmzoo.training.seed_tracker import NonFinite
from dgmzoo.validation import check_seed


def compare(
    experiment: Experiment | str,
    layers: Sequence[str] = (),
    overrides: Sequence[Overrides] | Mapping[str, Overrides] = (),
    seeds: Sequence[int] = range(3),
    run_dir: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Train variants of an experiment with the same seeds, measure them, and compare the results.

    All variants are checked before the first is trained. The seeds of a variant train together. A variant whose training
    ends in a NaN or infinity is reported in the comparison, and the others are trained.

    Args:
      experiment: an experiment or its name.
      layers: names of variational layers, such as `("normal", "horseshoe")`. Each is a variant, in which it replaces every
        latent layer of the entry. A layer of the experiment's own kind keeps its settings; others have their defaults.
      overrides: further variants, such as `[{"model.latent.prior": "Laplace"}]`; `{}` is the experiment itself. A mapping
        gives them names: `{"narrow": {"model.latent.slab": 0.5}}`.
      seeds: seeds of initial values, order of the rows and noise, the same for all variants.
      run_dir: directory of the runs (`VARIANT/seed-N`), the table and the figure. The same call resumes there and reuses
        finished runs. None keeps everything in memory.
      progress: show progress on standard error.

    Raises:
      ValueError: an argument or a variant does not fit; nothing was trained.
      Interrupted: Ctrl-C or SIGTERM; with a `run_dir` the same call resumes.
    """
    changes = overrides.values() if isinstance(overrides, Mapping) else overrides
    if isinstance(layers, str) or not all(isinstance(change, Mapping) for change in changes) or isinstance(seeds, int):
        raise ValueError(
            f"expected lists of layers, overrides and seeds, got {layers!r}, {overrides!r}, {seeds!r}; "
            "write layers=['normal'], overrides=[{...}] or {'name': {...}}, seeds=range(3)"
        )
    base = experiment if isinstance(experiment, Experiment) else load_experiment(str(experiment))
    checked_seeds = [check_seed(seed) for seed in seeds]
    variants = make_variants(base, layers, overrides)
    path = None if run_dir is None else Path(run_dir)
    _check(variants, checked_seeds, path, progress)
    runs, failed = {}, {}
    for name, variant in variants.items():
        try:
            if progress:
                print(f"{name}: seeds {', '.join(map(str, checked_seeds))}", file=sys.stderr)
            directory = path and path / directory_name(name)
            runs[name] = api.train(variant, directory, progress=progress, seeds=checked_seeds)
        except NonFinite as error:
            failed[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    if not runs:
        raise ValueError(f"expected a variant that trains, got {'; '.join(failed.values())}")
    settings = {kind: retained_settings(kind, base) for kind in layers}
    descriptions = {name: describe_variant(base, variant) for name, variant in variants.items()}
    comparison = Comparison(base.name or type(base.model).__name__, runs, path, failed, settings, descriptions)
    if path is not None:
        comparison.write(path)
    return comparison


def _check(variants: Mapping[str, Experiment], seeds: Sequence[int], path: Path | None, progress: bool) -> None:
    """Refuse seeds, variants and run directories that do not fit, before anything is trained."""
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"expected different seeds, at least one, got {list(seeds)}")
    with console_progress(progress) as (log, fetching):
        dataset = data.load_dataset(next(iter(variants.values())).data, log, fetching)
    for name, variant in variants.items():
        try:
            check_seeds(variant, len(seeds))
            resolved = check_given(resolve(variant, dataset))
            codes, _ = code_of(variant)
            for seed in seeds if path else ():
                RunDirectory(path / directory_name(name) / f"seed-{seed}").check(run_config(resolved, seed, codes))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
