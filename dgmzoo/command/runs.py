"""`dgmzoo evaluate`: evaluate a trained model again; `dgmzoo sample`: draw samples of it; `dgmzoo export`: write one file."""

import io
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dgmzoo import files
from dgmzoo.command.output import keep_programs, print_record

DataName = Annotated[str | None, tyro.conf.arg(name="data.name")]


def evaluate(words: list[str]) -> int:
    """Measure a run again, with other settings."""

    def options(
        run: Annotated[Path, tyro.conf.Positional],
        num_samples: int | None = None,
        num_examples: int | None = None,
        weight_draws: int | None = None,
        batch_size: int | None = None,
        split: Literal["train", "valid", "test"] = "test",
        data: DataName = None,
        experiment: str | None = None,
        trust_code: bool = False,
    ) -> tuple:
        """Measure a trained run. Settings that are left out are the experiment's.

        Args:
          run: directory that `dgmzoo train` left, or file that `dgmzoo export` wrote.
          num_samples: importance samples per example (K).
          num_examples: examples of the split, drawn by a fixed seed.
          weight_draws: networks over which the probabilities of a model with random weights are averaged; 0: one, with
            the mean weights.
          batch_size: examples that are evaluated at once; left out: as many as fit in 1 GiB by an estimate.
          split: rows to measure.
          data: where the data are now, if they have moved; their content must be the same.
          experiment: file that defines the experiment, if it was built in Python or its code is not to be taken from the run.
          trust_code: run the experiment file that a run from elsewhere keeps; read it first.
        """
        settings = {
            "num_samples": num_samples,
            "num_examples": num_examples,
            "weight_draws": weight_draws,
            "batch_size": batch_size,
        }
        chosen = {name: value for name, value in settings.items() if value is not None}
        return run, split, chosen, {"experiment": experiment, "data": data, "trust_code": trust_code}

    run, split, settings, places = tyro.cli(options, args=words, prog="dgmzoo evaluate")
    keep_programs()
    from dgmzoo.loading import load

    record = load(run, **places).evaluate(split, progress=True, **settings)
    print_record(record, run)
    named = [
        f"-{name.replace('_', '-')}-{settings[name]}" for name in ("num_examples", "weight_draws") if name in settings
    ]
    name = f"result-{split}-{record['num_samples']}{''.join(named)}.json"
    path = run / name if run.is_dir() else run.with_name(f"{run.stem}-{name}")
    files.write_json(path, record)
    print(f"record: {path}")
    return 0


def sample(words: list[str]) -> int:
    """Draw samples from a run's model."""

    def options(
        run: Annotated[Path, tyro.conf.Positional],
        num: int = 64,
        out: Path | None = None,
        seed: int = 0,
        label: int | None = None,
        data: DataName = None,
        experiment: str | None = None,
        trust_code: bool = False,
    ) -> tuple:
        """Draw samples from a trained run. The data are not needed, except for the conditions of a conditional model.

        Args:
          run: directory that `dgmzoo train` left, or file that `dgmzoo export` wrote.
          num: number of samples.
          out: .png for a picture (images as means, others beside test rows, if the data are there); .npy or .csv (a row a sample) for the
            samples themselves, of a table in its own units; None: samples-NUM.png in the run.
          seed: seed of the samples.
          label: class of all samples, of a model that is conditional on one; None: conditions of test examples.
          data: where the data are now, if they have moved.
          experiment: file that defines the experiment, if it was built in Python or its code is not to be taken from the run.
          trust_code: run the experiment file that a run from elsewhere keeps; read it first.
        """
        return run, num, out, seed, label, {"experiment": experiment, "data": data, "trust_code": trust_code}

    path, num, out, seed, label, places = tyro.cli(options, args=words, prog="dgmzoo sample")
    name = f"samples-{num}.png"
    out = out or (path / name if path.is_dir() else path.with_name(f"{path.stem}-{name}"))
    suffix = out.suffix.lower()
    if suffix not in (".png", ".npy", ".csv"):
        raise ValueError(f"expected --out to end in .png, .npy or .csv, got {out}")
    if not out.expanduser().parent.is_dir():
        raise ValueError(f"expected a folder that exists for --out {out}, got none at {out.parent}; make it first")
    keep_programs()
    import numpy as np

    from dgmzoo.loading import load
    from dgmzoo.report.pictures import of_run

    run = load(path, **places)
    context = None if label is None else {"label": np.full(num, label)}
    if suffix == ".png":
        of_run.samples(run, num, seed, context).save(out)
        print(f"samples: {out}")
        return 0
    samples, scaling = run.sample(num, seed, context=context), run.dataset.standardization
    if scaling is not None:
        samples = scaling.invert(samples)
    if suffix == ".csv":
        np.savetxt(buffer := io.StringIO(), samples.reshape(len(samples), -1), delimiter=",", fmt="%.9g")
        content = buffer.getvalue().encode()
    else:
        np.save(buffer := io.BytesIO(), samples, allow_pickle=False)
        content = buffer.getvalue()
    files.write_bytes(out.expanduser(), content)
    print(f"samples: {out}")
    return 0


def export(words: list[str]) -> int:
    """Write a trained model as one file."""

    def options(
        run_dir: Annotated[Path, tyro.conf.Positional],
        file: Annotated[Path, tyro.conf.Positional],
        trust_code: bool = False,
    ) -> tuple:
        """Write a trained model as one file, which `sample`, `evaluate` and `dgmzoo.load` read on any machine.

        Args:
          run_dir: directory that `dgmzoo train` left.
          file: file to write: parameters, configuration, description of the data, metrics, result and your own code.
          trust_code: run the experiment file that a run from elsewhere keeps; read it first.
        """
        return run_dir, file, trust_code

    run_dir, file, trust_code = tyro.cli(options, args=words, prog="dgmzoo export")
    from dgmzoo.loading import export as write

    write(run_dir, file, trust_code)
    print(f"exported: {file} ({file.expanduser().stat().st_size:,} bytes)")
    return 0
