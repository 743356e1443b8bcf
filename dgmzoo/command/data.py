"""`dgmzoo data`: which sets are known, where they are, what they look like."""

from pathlib import Path

HELP = """\
usage: dgmzoo data VERB ...

  list                 the known data sets, and which are here already
  show NAME [options]  what is known of a set; its picture, table or text where it is at hand. NAME may be a path
  fetch NAME ...       bring sets into the cache
  verify NAME ...      compute the digests of sets again, from every byte

A set is looked for in the folder that DGMZOO_DATA names, in the cache (DGMZOO_CACHE, else the user's cache folder), in
copies that other libraries left, and then at its public sources.
"""


def data(words: list[str]) -> int:
    """The verbs of `dgmzoo data`."""
    verbs = {"list": list_sets, "show": show, "fetch": fetch, "verify": verify}
    helped = {"-h", "--help"} & set(words)
    if not words or (helped and words[0] != "show"):  # which tells its options itself
        print(HELP, end="")
        return 0
    if words[0] not in verbs:
        raise ValueError(f"expected one of {', '.join(verbs)} after data, got {words[0]!r}")
    return verbs[words[0]](words[1:])


def list_sets(words: list[str]) -> int:
    """A line for each set, within 80 columns."""
    from rich.console import Console
    from rich.table import Table

    from dgmzoo.data import at_hand, catalogue

    if words:
        raise ValueError(f"expected no options after data list, got {' '.join(words)}")
    table = Table(box=None, pad_edge=False)
    for column in ("set", "kind", "example", "rows", "here"):
        table.add_column(column, no_wrap=True)
    for name, entry in catalogue().items():
        shape = "x".join("n" if size == 0 else str(size) for size in entry.shape)
        rows = " / ".join(f"{count:,}" for count in entry.splits.values())
        table.add_row(name, entry.kind, shape, rows, "yes" if at_hand(name) else "")
    Console().print(table)
    return 0


def show(words: list[str]) -> int:
    """What is known of a set, and a look at it."""
    if not words:
        raise ValueError("expected the name of a data set after data show; `dgmzoo data list` shows them")
    name, out, split = _show_options(words)
    if out and out.suffix != ".png":
        raise ValueError(f"expected --out to name a .png file, got {out}")
    from dgmzoo.data import Data, at_hand, catalogue, describe, load, picture, summary
    from dgmzoo.data.fetch_progress import told

    if name in catalogue():
        print(describe(name))
        if not at_hand(name):
            print(f"  not at hand; `dgmzoo data fetch {name}` brings it")
            return 0
        print()
    with told() as (log, progress):
        dataset = load(Data(name), log, progress)
    print(summary(dataset, split))
    if out:
        print(f"picture: {picture(dataset, out, split)}")
    return 0


def _show_options(words: list[str]) -> tuple[str, Path | None, str]:
    from typing import Annotated

    import tyro

    def options(name: Annotated[str, tyro.conf.Positional], out: Path | None = None, split: str = "train") -> tuple:
        """Show a data set.

        Args:
          name: a set's name, or the path of one's own data.
          out: also draw it into this .png file.
          split: rows to look at.
        """
        return name, out, split

    return tyro.cli(options, args=words, prog="dgmzoo data show")


def fetch(words: list[str]) -> int:
    """Bring sets into the cache."""
    from dgmzoo.data import fetch
    from dgmzoo.data.fetch_progress import told

    for name in _names(words, "fetch"):
        with told() as (log, progress):
            print(f"{name}: {fetch(name, log, progress)}")
    return 0


def verify(words: list[str]) -> int:
    """Compute digests again."""
    from dgmzoo.data import verify

    for name in _names(words, "verify"):
        print(f"{name}: sha256 {verify(name)}")
    return 0


def _names(words: list[str], verb: str) -> list[str]:
    if not words or any(word.startswith("-") for word in words):
        raise ValueError(f"expected names of data sets after data {verb}, got {' '.join(words) or 'none'}")
    return words
