"""`dgmzoo evaluate`: evaluate a trained model again; `dgmzoo sample`: draw samples from a trained model."""

import io
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dgmzoo import files
from dgmzoo.command.output import keep_programs, print_record


def evaluate(words: list[str]) -> int:
    """Measure a run again, with other settings."""

    def options(
        run_dir: Annotated[Path, tyro.conf.Positional],
        num_samples: int | None = None,
        num_examples: int | None = None,
        weight_draws: int | None = None,
        split: Literal["train", "valid", "test"] = "test",
    ) -> tuple:
        """Measure a trained run. Settings that are left out are the experiment's.

        Args:
          run_dir: directory that `dgmzoo train` left.
          num_samples: importance samples per example (K).
          num_examples: examples of the split, drawn by a fixed seed.
          weight_draws: networks over which the probabilities of a model with random weights are averaged; 0: one, with
            the mean weights.
          split: rows to measure.
        """
        settings = {"num_samples": num_samples, "num_examples": num_examples, "weight_draws": weight_draws}
        return run_dir, split, {name: value for name, value in settings.items() if value is not None}

    run_dir, split, settings = tyro.cli(options, args=words, prog="dgmzoo evaluate")
    keep_programs()
    from dgmzoo import api

    record = api.load(run_dir).evaluate(split, **settings)
    print_record(record, run_dir)
    named = [
        f"-{name.replace('_', '-')}-{settings[name]}" for name in ("num_examples", "weight_draws") if name in settings
    ]
    path = run_dir / f"result-{split}-{record['num_samples']}{''.join(named)}.json"
    files.write_json(path, record)
    print(f"record: {path}")
    return 0


def sample(words: list[str]) -> int:
    """Draw samples from a run's model."""

    def options(
        run_dir: Annotated[Path, tyro.conf.Positional], num: int = 64, out: Path | None = None, seed: int = 0
    ) -> tuple:
        """Draw samples from a trained run.

        Args:
          run_dir: directory that `dgmzoo train` left.
          num: number of samples.
          out: .png for a picture (images as means, other data beside test rows); .npy or .csv (a row a sample) for the
            samples themselves, of a table in its own units; None: samples-NUM.png in the run.
          seed: seed of the samples.
        """
        return run_dir, num, out, seed

    run_dir, num, out, seed = tyro.cli(options, args=words, prog="dgmzoo sample")
    out = out or run_dir / f"samples-{num}.png"
    suffix = out.suffix.lower()
    if suffix not in (".png", ".npy", ".csv"):
        raise ValueError(f"expected --out to end in .png, .npy or .csv, got {out}")
    if not out.expanduser().parent.is_dir():
        raise ValueError(f"expected a folder that exists for --out {out}, got none at {out.parent}; make it first")
    keep_programs()
    import numpy as np

    from dgmzoo import api
    from dgmzoo.report.pictures import of_run

    run = api.load(run_dir)
    if suffix == ".png":
        of_run.samples(run, num, seed).save(out)
        print(f"samples: {out}")
        return 0
    samples, scaling = run.sample(num, seed), run.dataset.standardization
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
