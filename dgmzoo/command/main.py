"""The `dgmzoo` command: verbs and messages. JAX and tyro are imported only by the verbs that need them."""

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from dgmzoo.command.data import data
from dgmzoo.files import CannotWrite

HELP = """\
usage: dgmzoo VERB ...

A functional zoo of likelihood-based deep generative models.

  list                         the experiments
  train NAME [options]         train one and measure it; goes on where a run stopped
  compare NAME [options]       train variants of one with the same seeds, side by side
  evaluate RUN_DIR [options]   measure a run again, with other settings
  sample RUN_DIR [options]     draw from a run's model
  bench NAME [options]         time an experiment on this machine
  results [--markdown]         the committed records of the zoo, beside published figures
  data VERB                    list, show, fetch or verify data sets

NAME is an experiment of the list, or the path of a file that defines `experiment`.
`dgmzoo train NAME --help` shows every field of an experiment; all can be overridden, such as
`--training.epochs 20 --model.latent-dim 10 --objective iwae --objective.num-samples 50`.
DGMZOO_DATA names a folder with data sets; DGMZOO_TRACEBACK=1 shows where an error came from.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 could not write, 2 bad input or a failed run, 130 Ctrl-C, 143 SIGTERM."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        with _terminable():
            sys.exit(_run(words))
    except KeyboardInterrupt as stopped:
        print(f"{str(stopped) or 'interrupted'}; the same command goes on", file=sys.stderr, flush=True)
        # XLA may still be computing, and does not survive an interpreter that takes itself down.
        os._exit(143 if isinstance(stopped, Terminated) else 130)
    except (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        own = not isinstance(error, RuntimeError) or "out of memory" in str(error).lower()
        if os.environ.get("DGMZOO_TRACEBACK") or not own:
            raise
        print(f"error: {str(error) or 'not enough memory'}", file=sys.stderr)
        sys.exit(1 if isinstance(error, CannotWrite) else 2)


class Terminated(KeyboardInterrupt):
    """SIGTERM, where there is no step to end first."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM end the command as Ctrl-C does, with what belongs on disk there."""

    def stop(number, frame):
        raise Terminated("terminated")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _run(words: list[str]) -> int:
    verbs = {
        "list": list_experiments,
        "train": train,
        "compare": compare,
        "evaluate": evaluate,
        "sample": sample,
        "bench": bench,
        "results": results,
        "data": data,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("dgmzoo"))
        return 0
    if words[0] not in verbs:
        import difflib

        near = difflib.get_close_matches(words[0], verbs, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"expected a verb ({', '.join(verbs)}), got {words[0]!r}{hint}")
    return verbs[words[0]](words[1:])


def list_experiments(words: list[str]) -> int:
    """The experiments, read without importing them."""
    from rich.console import Console
    from rich.table import Table

    from dgmzoo import experiments

    if words:
        raise ValueError(f"expected no options after list, got {' '.join(words)}")
    table = Table(box=None, pad_edge=False)
    for column in ("experiment", "data", "published", "what it is"):
        table.add_column(column, no_wrap=column in ("experiment", "data"))
    for name in experiments.names():
        try:
            found = experiments.summary(name)
        except (SyntaxError, ValueError, KeyError, IndexError) as error:
            table.add_row(name, "", "", f"cannot be read: {error}")
            continue
        values = ", ".join(str(value) for value, _ in found.papers)
        table.add_row(found.name, found.data, values, found.description)
    Console().print(table)
    return 0


def results(words: list[str]) -> int:
    """The committed records."""
    if words not in ([], ["--markdown"]):
        raise ValueError(f"expected nothing or --markdown after results, got {' '.join(words)}")
    from dgmzoo.evaluation import results

    records = results.load_records()
    if words:
        print(results.markdown_page(records), end="")
        return 0
    from rich.console import Console
    from rich.table import Table

    what, _, *columns, _, _ = results.COLUMNS
    table, notes = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0)), []
    for column in ("", what, *columns):
        table.add_column(column, no_wrap=True)
    for i, record in enumerate(records, 1):
        name, changes, learned, steps, _, *rest, seed, commit = results.table_row(record)
        table.add_row(str(i), name, learned.replace(", ", "\n"), steps, results.format_value(record), *rest)
        note = [] if changes == "-" else [changes]
        note += [f"Monte Carlo error {record['monte_carlo_error']:.3f}"] if record["monte_carlo_error"] else []
        notes.append(f"{i}: {'; '.join([*note, f'seed {seed}', f'commit {commit}'])}")
    console = Console()
    console.print(table)
    console.print(*notes, sep="\n", style="dim", highlight=False, markup=False)
    return 0


def train(words: list[str]) -> int:
    """Train an experiment, measure it, and leave a run directory."""
    if not _named("train", words):
        return 0
    _remember_programs()
    from dgmzoo import api
    from dgmzoo.command.options import Train, parse
    from dgmzoo.training import multihost
    from dgmzoo.training.loop import Interrupted
    from dgmzoo.training.run_directory import REPORT

    name, *rest = words
    with multihost.joined(*_peers(rest)):
        options = parse(Train, name, rest)
        parent = Path("runs") / _stem(name)
        many = None if options.seeds is None else range(options.seed, options.seed + options.seeds)
        run_dir = options.run_dir or (parent / f"seed-{options.seed}" if many is None else parent)
        try:
            runs = api.train(options.experiment, run_dir, options.seed, seeds=many, writers=options.writers)
        except Interrupted as stopped:
            return _stopped(stopped.step, stopped.signal)
        for run in ([runs] if many is None else runs) if multihost.is_first() else []:
            _say(run.record, run.path)
            print(f"report: {run.path / REPORT}")
    return 0


def _peers(words: list[str]) -> tuple[str | None, int | None, int | None]:
    """--coordinator, --processes, --process: needed before the experiment is, whose parts may touch a device."""
    import argparse

    parser = argparse.ArgumentParser(prog="dgmzoo train NAME", add_help=False, allow_abbrev=False, usage="%(prog)s ...")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    found, _ = parser.parse_known_args(words)
    return found.coordinator, found.processes, found.process


def compare(words: list[str]) -> int:
    """Train variants of an experiment with the same seeds and set them side by side."""
    if not _named("compare", words, "[--layers a,b] [--variants 'path=value ...' ...] [--seeds 3] "):
        return 0
    _remember_programs()
    import json

    from dgmzoo.command.options import Compare, changed, parse
    from dgmzoo.compare.run import compare
    from dgmzoo.training.loop import Interrupted

    name, *rest = words
    options = parse(Compare, name, rest)
    layers = _listed(options.layers) if options.layers else []
    changes = [changed(options.experiment, name, variant) for variant in options.variants]
    run_dir = options.run_dir or Path("runs") / _stem(name) / "compare"
    seeds = range(options.seed, options.seed + options.seeds)
    try:
        found = compare(options.experiment, layers, changes, seeds, run_dir)
    except Interrupted as stopped:
        return _stopped(stopped.step, stopped.signal)
    if options.json:
        print(json.dumps(found.records))
        return 0
    from rich.console import Console

    console = Console()
    console.print(found.table())
    for note in found.notes():
        console.print(f"  {note}", style="dim", highlight=False, markup=False)
    print(f"report: {run_dir / 'comparison.html'}")
    return 0


def bench(words: list[str]) -> int:
    """Time an experiment on this machine."""
    if not _named("bench", words):
        return 0
    import json

    from dgmzoo.command.options import Bench, parse
    from dgmzoo.training.benchmark import bench, bench_layers

    name, *rest = words
    options = parse(Bench, name, rest)
    if options.num_epochs < 1:
        raise ValueError(f"expected --num-epochs of at least 1, got {options.num_epochs}")
    if options.layers is not None:
        if options.profile is not None:
            raise ValueError("expected --profile without --layers, which are timed in turns; profile one at a time")
        found = bench_layers(options.experiment, _listed(options.layers))
    else:
        found = bench(options.experiment, options.num_epochs, options.profile)
    if options.json:
        print(json.dumps(found))
    elif options.layers is not None:
        for layer, figures in found.items():
            print(f"{layer:12}", *(f"{figure} {value:.4g}  " for figure, value in figures.items()))
    else:
        for figure, value in found.items():
            print(f"{figure:24}{'none' if value is None else f'{value:,.4g}' if value < 1e6 else f'{value:,.0f}'}")
    return 0


def evaluate(words: list[str]) -> int:
    """Measure a run again."""
    import tyro

    def options(
        run_dir: Annotated[Path, tyro.conf.Positional],
        num_samples: int | None = None,
        num_examples: int | None = None,
        weight_draws: int | None = None,
        split: Literal["train", "valid", "test"] = "test",
    ) -> tuple:
        """Measure a trained run. What is not set is as the experiment says.

        Args:
          run_dir: what `dgmzoo train` left.
          num_samples: importance samples per example (K).
          num_examples: examples of the split, from its start.
          weight_draws: networks over which the probabilities of a model with random weights are averaged; 0: one, with
            the mean weights.
          split: rows to measure.
        """
        asked = {"num_samples": num_samples, "num_examples": num_examples, "weight_draws": weight_draws}
        return run_dir, split, {name: value for name, value in asked.items() if value is not None}

    run_dir, split, settings = tyro.cli(options, args=words, prog="dgmzoo evaluate")
    _remember_programs()
    from dgmzoo import api, files

    record = api.load(run_dir).evaluate(split, **settings)
    _say(record, run_dir)
    more = [
        f"-{name.replace('_', '-')}-{settings[name]}" for name in ("num_examples", "weight_draws") if name in settings
    ]
    path = run_dir / f"result-{split}-{record['num_samples']}{''.join(more)}.json"
    files.write_json(path, record)
    print(f"record: {path}")
    return 0


def sample(words: list[str]) -> int:
    """Draw from a run's model."""
    import tyro

    def options(
        run_dir: Annotated[Path, tyro.conf.Positional], num: int = 64, out: Path | None = None, seed: int = 0
    ) -> tuple:
        """Draw from a trained run.

        Args:
          run_dir: what `dgmzoo train` left.
          num: number of draws.
          out: .png for a picture of the means, .npy for the draws themselves; None: samples-NUM.png in the run.
          seed: of the draws.
        """
        return run_dir, num, out, seed

    run_dir, num, out, seed = tyro.cli(options, args=words, prog="dgmzoo sample")
    out = out or run_dir / f"samples-{num}.png"
    if out.suffix not in (".png", ".npy"):
        raise ValueError(f"expected --out to end in .png or .npy, got {out}")
    _remember_programs()
    import io

    import numpy as np

    from dgmzoo import api, files
    from dgmzoo.report import plots

    drawn = api.load(run_dir).sample(num, seed, mean=out.suffix == ".png")
    if out.suffix == ".png":
        content = plots.encode_png(plots.image_grid(drawn))
    else:
        np.save(written := io.BytesIO(), drawn, allow_pickle=False)
        content = written.getvalue()
    files.write_bytes(out, content)
    print(f"samples: {out}")
    return 0


def _named(verb: str, words: list[str], first: str = "") -> bool:
    """Whether an experiment is named, whose fields are the options; False: how to ask for them has been said."""
    if words and words[0] in ("-h", "--help"):
        print(f"usage: dgmzoo {verb} NAME {first}[options]")
        print(f"`dgmzoo {verb} NAME --help` shows the options of NAME")
        return False
    if not words or words[0].startswith("-"):
        raise ValueError(f"expected the name of an experiment after {verb}; `dgmzoo list` shows them")
    return True


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def _stopped(step: int, number: int | None) -> int:
    print(f"stopped at step {step}; the same command goes on from there", file=sys.stderr)
    return 128 + (number or signal.SIGTERM)  # None: another process was asked to stop


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(".py") else name


def _remember_programs() -> None:
    """Keep compiled programs between processes, by version of JAX and kind of CPU: a second start takes seconds less."""
    import hashlib
    import importlib.metadata
    import platform

    from dgmzoo.data.cache import root

    cpu = Path("/proc/cpuinfo")
    kind = next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "") if cpu.exists() else ""
    kind = hashlib.sha256((platform.machine() + kind).encode()).hexdigest()[:8]
    folder = root() / f"programs-{importlib.metadata.version('jax')}-{kind}"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _say(record: dict, run_dir: Path) -> None:
    from dgmzoo.report import html

    print(f"{record['experiment'] or run_dir}: {html.headline(record)}")
    if text := html.published_line(record):
        print(text)
