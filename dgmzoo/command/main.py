"""`main`: run a subcommand of `dgmzoo` and exit with its status; `VERBS`: the table of subcommands.

JAX and tyro are imported only by the subcommands that need them.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from dgmzoo.files import CannotWrite

HELP = """\
usage: dgmzoo VERB ...

A functional zoo of likelihood-based deep generative models.

  list [WORD]                  list the experiments, or those that contain a word
  show NAME                    what an experiment is, its published figures with their commands, its records
  train NAME [options]         train an experiment and measure it; resumes a run that was stopped
  compare NAME [options]       train variants of an experiment with the same seeds, side by side
  check NAME [options]         test that an entry keeps the contract and that its density is a density
  evaluate RUN_DIR [options]   measure a run again, with other settings
  sample RUN_DIR [options]     draw samples from a run's model
  export RUN_DIR FILE          write a run's model as one file, which evaluate and sample read on any machine
  bench NAME [options]         time an experiment on this machine
  results [--markdown]         the committed records of the zoo, beside published figures
  compatibility                the table of layers and objectives: exact, corrected or refused, with reasons
  data VERB                    list, show, fetch or verify data sets

NAME is an experiment of the list, or the path of a file that defines `experiment`; `train` also takes a run directory.
`dgmzoo train NAME --help` shows every field of an experiment; all can be overridden, such as
`--training.epochs 20 --model.latent-dim 10 --objective iwae --objective.num-samples 50`.
`--plugin FILE` runs a file first that registers classes to choose by name (`dgmzoo.register`).
DGMZOO_DATA names a folder with data sets; DGMZOO_DEVICES limits the devices that are used;
DGMZOO_TRACEBACK=1 shows where an error came from.
"""

VERBS = {
    "list": ("listings", "list_experiments"),
    "show": ("show", "show"),
    "train": ("experiments", "train"),
    "compare": ("experiments", "compare"),
    "check": ("check", "check"),
    "evaluate": ("runs", "evaluate"),
    "sample": ("runs", "sample"),
    "export": ("runs", "export"),
    "bench": ("experiments", "bench"),
    "results": ("listings", "results"),
    "compatibility": ("listings", "compatibility"),
    "data": ("data", "data"),
}
"""Verb -> module of `dgmzoo.command` and its function, which takes the remaining words and returns the exit status."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 could not write or a law failed, 2 bad input or a failed run, 130 Ctrl-C, 143 SIGTERM."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _sigterm_as_interrupt():
            status = _dispatch(words)
            sys.stdout.flush()
            sys.exit(status)
    except KeyboardInterrupt as interrupt:
        print(f"{str(interrupt) or 'interrupted'}; the same command resumes", file=sys.stderr, flush=True)
        # XLA may still be computing, and does not survive the interpreter's ordinary exit.
        is_terminated = isinstance(interrupt, Terminated) or getattr(interrupt, "signal", None) == signal.SIGTERM
        os._exit(143 if is_terminated else 130)
    except BrokenPipeError as error:  # the reader of a pipe has read enough (`dgmzoo list | head`)
        if error.filename is not None or sys.stdout.isatty():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        is_reported = not isinstance(error, RuntimeError) or "out of memory" in str(error).lower()
        if os.environ.get("DGMZOO_TRACEBACK") or not is_reported:
            raise
        print(f"error: {str(error) or 'not enough memory'}", file=sys.stderr)
        sys.exit(1 if isinstance(error, CannotWrite) else 2)


class Terminated(KeyboardInterrupt):
    """SIGTERM outside the training loop, which handles it at the end of a step."""


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that files are closed as on Ctrl-C."""

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


def _dispatch(words: list[str]) -> int:
    """Run a verb; return the exit status."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("dgmzoo"))
        return 0
    if words[0] not in VERBS:
        import difflib

        near = difflib.get_close_matches(words[0], VERBS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"expected a verb ({', '.join(VERBS)}), got {words[0]!r}{hint}")
    module, function = VERBS[words[0]]
    words = _load_plugins(words)
    return getattr(importlib.import_module(f"dgmzoo.command.{module}"), function)(words[1:])


def _load_plugins(words: list[str]) -> list[str]:
    """Run the files of `--plugin FILE`; return the other words."""
    rest, words = [], list(words)
    while words:
        option, equals, value = (word := words.pop(0)).partition("=")
        if option != "--plugin":
            rest.append(word)
            continue
        if not equals and not words:
            raise ValueError("expected the path of a file after --plugin, got nothing")
        plugins = importlib.import_module("dgmzoo.config.plugins")
        plugins.load_file(value if equals else words.pop(0))
    return rest
