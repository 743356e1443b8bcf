"""The command `dgmzoo data`: list, show, fetch and verify data sets."""

from pathlib import Path

from dgmzoo.command.output import console

HELP = """\
usage: dgmzoo data VERB ...

  list                 the registered data sets, and whether there is a local copy
  show NAME [options]  facts about a set, and a preview where there is a local copy. NAME may be a path
  fetch NAME ...       bring sets into the cache
  verify NAME ...      compute the digests of sets again, from every byte

A set is looked for in the cache (DGMZOO_CACHE, else the user's cache folder), in the folder that DGMZOO_DATA names, in
copies that other libraries left, and then at its public sources.
"""


def data(words: list[str]) -> int:
    """Run a verb of `dgmzoo data` and return the exit status.

    Args:
      words: the command line after `data`.

    Raises:
      ValueError: unknown verb, or arguments that the verb does not take.
    """
    verbs = {"list": list_sets, "show": show, "fetch": fetch, "verify": verify}
    asks_help = {"-h", "--help"} & set(words)
    if not words or (asks_help and words[0] != "show"):  # show prints the help of its own options
        print(HELP, end="")
        return 0
    if words[0] not in verbs:
        raise ValueError(f"expected one of {', '.join(verbs)} after data, got {words[0]!r}")
    return verbs[words[0]](words[1:])


def list_sets(words: list[str]) -> int:
    """Print a line for each registered set, within 80 columns."""
    from rich.table import Table

    from dgmzoo.data import catalogue, local_copy

    if words:
        raise ValueError(f"expected no options after data list, got {' '.join(words)}")
    table = Table(box=None, pad_edge=False)
    for column in ("set", "kind", "example", "rows", "local"):
        table.add_column(column, no_wrap=True)
    for name, entry in catalogue().items():
        shape = "x".join("n" if size == 0 else str(size) for size in entry.shape)
        rows = " / ".join(f"{count:,}" for count in entry.splits.values())
        table.add_row(name, entry.kind, shape, rows, "yes" if local_copy(name) else "")
    console().print(table)
    return 0


def show(words: list[str]) -> int:
    """Print facts about a set and a preview of its rows; optionally save a picture."""
    if not words:
        raise ValueError("expected the name of a data set after data show; `dgmzoo data list` shows them")
    name, out, split = _show_options(words)
    if out and out.suffix.lower() != ".png":
        raise ValueError(f"expected --out to name a .png file, got {out}")
    from dgmzoo.data import Data, catalogue, describe, load_dataset, local_copy, summarize
    from dgmzoo.data.fetch_progress import console_progress

    if name in catalogue():
        print(describe(name))
        if not local_copy(name):
            print(f"  no local copy; `dgmzoo data fetch {name}` fetches one")
            return 0
        print()
    with console_progress() as (log, progress):
        dataset = load_dataset(Data(name), log, progress)
    print(summarize(dataset, split))
    if out:
        from dgmzoo.report.pictures.draw import picture

        print(f"picture: {picture(dataset, split=split).save(out)}")
    return 0


def _show_options(words: list[str]) -> tuple[str, Path | None, str]:
    from typing import Annotated

    import tyro

    def options(name: Annotated[str, tyro.conf.Positional], out: Path | None = None, split: str = "train") -> tuple:
        """Show a data set.

        Args:
          name: a set's name, or the path of your own data.
          out: also save a picture as this .png file.
          split: rows to show.
        """
        return name, out, split

    return tyro.cli(options, args=words, prog="dgmzoo data show")


def fetch(words: list[str]) -> int:
    """Bring sets into the cache, and print their folders."""
    from dgmzoo.data import fetch
    from dgmzoo.data.fetch_progress import console_progress

    for name in _names(words, "fetch"):
        with console_progress() as (log, progress):
            print(f"{name}: {fetch(name, log, progress)}")
    return 0


def verify(words: list[str]) -> int:
    """Compute the digests of sets from every byte, and print them."""
    from dgmzoo.data import verify

    for name in _names(words, "verify"):
        print(f"{name}: sha256 {verify(name)}")
    return 0


def _names(words: list[str], verb: str) -> list[str]:
    """The names of sets that a verb is given: at least one, and no options."""
    if not words or any(word.startswith("-") for word in words):
        raise ValueError(f"expected names of data sets after data {verb}, got {' '.join(words) or 'none'}")
    return words
