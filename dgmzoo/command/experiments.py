"""`dgmzoo train`: train an experiment; `dgmzoo compare`: compare variants of it; `dgmzoo bench`: measure its speed."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from dgmzoo.command.output import console, keep_programs, print_record, print_seeds


def train(words: list[str]) -> int:
    """Train an experiment, measure it, and leave a run directory; or resume the run of a directory."""
    if not _names_an_experiment("train", words):
        return 0
    keep_programs()
    from dgmzoo.command.options import Train, parse
    from dgmzoo.training import multihost

    name, *rest = words
    with multihost.joined(*_processes(rest)):
        base = None
        if (Path(name) / "config.json").is_file():  # the directory of a run: its own settings unless others are given
            base, seed = _of_run(name, "--trust-code" in rest)
            rest = ["--run-dir", name, "--seed", str(seed), *rest]
        options = parse(Train, name, rest, base)
        from dgmzoo import api  # after `--help`, which needs none of this
        from dgmzoo.training.loop import Interrupted
        from dgmzoo.training.run_directory import REPORT

        if options.seeds is not None and options.seeds < 1:
            raise ValueError(f"expected --seeds of at least 1, got {options.seeds}")
        parent = Path("runs") / _stem(name)
        seeds = None if options.seeds is None else range(options.seed, options.seed + options.seeds)
        run_dir = options.run_dir or (parent / f"seed-{options.seed}" if seeds is None else parent)
        try:
            runs = api.train(options.experiment, run_dir, options.seed, seeds=seeds, writers=options.writers)
        except Interrupted as interrupted:
            return _stopped(interrupted.step, interrupted.signal)
        for run in ([runs] if seeds is None else runs) if multihost.is_first() else []:
            print_record(run.record, run.path)
            print(f"report: {run.path / REPORT}")
        if seeds is not None and multihost.is_first():
            print_seeds([run.record for run in runs])
    return 0


def _of_run(path: str, trust_code: bool) -> tuple[Any, int]:
    """The experiment and the seed of a run directory."""
    from dgmzoo.loading import experiment_of
    from dgmzoo.training.run_directory import RunDirectory

    directory = RunDirectory(path)
    return experiment_of(directory, trust_code), directory.config()["seed"]


def _processes(words: list[str]) -> tuple[str | None, int | None, int | None]:
    """--coordinator, --processes, --process: needed before the experiment is imported, which may touch a device."""
    parser = argparse.ArgumentParser(prog="dgmzoo train NAME", add_help=False, allow_abbrev=False, usage="%(prog)s ...")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    options, _ = parser.parse_known_args(words)
    return options.coordinator, options.processes, options.process


def compare(words: list[str]) -> int:
    """Train variants of an experiment with the same seeds, and compare them."""
    if not _names_an_experiment("compare", words, "[--layers a,b] [--variants 'path=value ...' ...] [--seeds 3] "):
        return 0
    keep_programs()
    from dgmzoo.command.options import Compare, parse, variant_overrides
    from dgmzoo.comparison.run import compare as run_comparison
    from dgmzoo.training.loop import Interrupted

    name, *rest = words
    options = parse(Compare, name, rest)
    layers = _listed(options.layers) if options.layers else []
    changes = [variant_overrides(options.experiment, name, variant) for variant in options.variants]
    run_dir = options.run_dir or Path("runs") / _stem(name) / "compare"
    seeds = range(options.seed, options.seed + options.seeds)
    try:
        compared = run_comparison(options.experiment, layers, changes, seeds, run_dir)
    except Interrupted as interrupted:
        return _stopped(interrupted.step, interrupted.signal)
    if options.json:
        print(json.dumps(compared.records))
        return 0
    console().print(compared.table())
    for note in compared.notes():
        console().print(f"  {note}", style="dim", highlight=False, markup=False)
    print(f"report: {run_dir / 'comparison.html'}")
    return 0


def bench(words: list[str]) -> int:
    """Time an experiment on this machine."""
    if not _names_an_experiment("bench", words):
        return 0
    from dgmzoo.command.options import Bench, parse
    from dgmzoo.training.benchmark import bench, bench_layers
    from dgmzoo.training.progress import stage

    name, *rest = words
    options = parse(Bench, name, rest)
    if options.num_epochs < 1:
        raise ValueError(f"expected --num-epochs of at least 1, got {options.num_epochs}")
    if options.layers is not None and options.profile is not None:
        raise ValueError("expected --profile without --layers, which are timed in turns; profile one at a time")
    with stage("compiling and timing", show=True):
        if options.layers is not None:
            figures = bench_layers(options.experiment, _listed(options.layers))
        else:
            figures = bench(options.experiment, options.num_epochs, options.profile)
    if options.json:
        print(json.dumps(figures))
    elif options.layers is not None:
        for layer, of_layer in figures.items():
            print(f"{layer:12}", *(f"{figure} {value:.4g}  " for figure, value in of_layer.items()))
    else:
        for figure, value in figures.items():
            print(f"{figure:24}{'none' if value is None else f'{value:,.4g}' if value < 1e6 else f'{value:,.0f}'}")
    return 0


def _names_an_experiment(verb: str, words: list[str], usage: str = "") -> bool:
    """True if the words name an experiment; False where they ask for help, which is printed."""
    if words and words[0] in ("-h", "--help"):
        print(f"usage: dgmzoo {verb} NAME {usage}[options]")
        print(f"`dgmzoo {verb} NAME --help` shows the options of NAME")
        return False
    if not words or words[0].startswith("-"):
        raise ValueError(f"expected the name of an experiment after {verb}; `dgmzoo list` shows them")
    return True


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def _stopped(step: int, number: int | None) -> int:
    print(f"stopped at step {step}; the same command resumes from there", file=sys.stderr)
    return 128 + (number or signal.SIGTERM)  # None: another process was asked to stop


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(".py") else name
