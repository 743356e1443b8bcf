"""The commands that list the experiments, the committed results, and which objectives work with each latent layer."""

from rich.table import Table

from dgmzoo import experiments
from dgmzoo.command.output import console
from dgmzoo.evaluation import results as committed


def list_experiments(words: list[str]) -> int:
    """Print the experiments, which are read without being imported; a word selects those that contain it."""
    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise ValueError(f"expected at most one word after list, such as mnist, got {' '.join(words)}")
    table = Table(box=None, pad_edge=False)
    for column in ("experiment", "data", "published", "description"):
        table.add_column(column, no_wrap=column in ("experiment", "data"))
    for name in experiments.names():
        try:
            summary = experiments.summary(name)
        except (SyntaxError, ValueError, KeyError, IndexError) as error:
            table.add_row(name, "", "", f"cannot be read: {error}")
            continue
        if words and words[0].lower() not in f"{summary.name} {summary.data} {summary.description}".lower():
            continue
        values = ", ".join(str(value) for value, _ in summary.papers)
        table.add_row(summary.name, summary.data, values, summary.description)
    if words and not table.row_count:
        raise ValueError(f"expected a word of a name, a data set or a description, got {words[0]!r}, which is in none")
    console().print(table)
    return 0


def compatibility(words: list[str]) -> int:
    """Print the compatibility table of layers and objectives, in Markdown."""
    from dgmzoo.config.compatibility_page import page

    if words:
        raise ValueError(f"expected nothing after compatibility, got {' '.join(words)}")
    print(page(), end="")
    return 0


def results(words: list[str]) -> int:
    """Print the committed records, as a table or as the page of the repository."""
    if words not in ([], ["--markdown"]):
        raise ValueError(f"expected nothing or --markdown after results, got {' '.join(words)}")
    records = committed.load_records()
    if words:
        print(committed.markdown_page(records), end="")
        return 0
    table = Table(box=None, pad_edge=False)
    for column in committed.COLUMNS:
        table.add_column(column, overflow="fold")
    for record in records:
        table.add_row(*committed.table_row(record))
    console().print(table)
    return 0
