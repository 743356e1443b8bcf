"""What a person sees while a set is being fetched: what, from where, how much, and a bar."""

import contextlib
from collections.abc import Iterator

from dgmzoo.data.lookup import Log, Progress


@contextlib.contextmanager
def told(show: bool = True) -> Iterator[tuple[Log, Progress | None]]:
    """A log and a progress for `load` and `fetch`, on standard error; both silent where `show` is False."""
    if not show:
        yield lambda message: None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict = {}
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        yield lambda message: console.print(message, highlight=False, markup=False), progress
